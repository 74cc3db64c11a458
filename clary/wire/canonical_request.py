"""The canonical form of a request, over which Signature Version 4 is computed."""

from __future__ import annotations

import re
from collections.abc import Mapping
from urllib.parse import quote, unquote, unquote_plus

from clary.wire.http import Request
from clary.wire.signature_errors import S3_SERVICES

_PLAIN_PATH = re.compile(r"[A-Za-z0-9._~/-]*")
_PLAIN_QUERY = re.compile(r"[A-Za-z0-9._~=&-]*")


def spellings(request: Request, service: str, presigned: bool) -> list[tuple[str, str]]:
    """Canonical path and query: first as AWS defines them, then as sent, for clients that sign
    what they send.
    """
    raw_query = _without_signature(request.query) if presigned else request.query
    path = canonical_path(request.path, service)
    query = canonical_query(raw_query)
    spellings = [(path, query)]
    as_sent = request.path if service in S3_SERVICES else quote(request.path, safe="/~")
    sorted_query = _sorted_query(raw_query)
    if (as_sent, sorted_query) != spellings[0]:
        spellings.append((as_sent or "/", sorted_query))
        spellings.append((path, sorted_query))
    return spellings


def canonical_request(
    method: str,
    path: str,
    query: str,
    headers: Mapping[str, str],
    signed_headers: str,
    payload: str,
) -> str:
    """The text that is hashed and signed; `path` and `query` are canonical already."""
    get = headers.get
    lines = [method, path, query]
    for name in signed_headers.split(";"):
        lines.append(f"{name}:{' '.join(get(name, '').split())}")
    lines += ("", signed_headers, payload)
    return "\n".join(lines)


def canonical_path(path: str, service: str) -> str:
    """S3 signs the path encoded once and never normalises it; other services normalise it and
    encode it again.
    """
    if service in S3_SERVICES:
        if _PLAIN_PATH.fullmatch(path):
            return path or "/"
        return quote(unquote(path, errors="surrogateescape"), safe="/~", errors="surrogateescape")
    if path in ("/", ""):
        return "/"
    segments: list[str] = []
    for segment in path.split("/"):
        if segment == "..":
            del segments[-1:]
        elif segment not in ("", "."):
            segments.append(segment)
    tail = "/" if path.endswith("/") and segments else ""
    return quote("/" + "/".join(segments) + tail, safe="/~")


def canonical_query(query: str) -> str:
    """Parameters decoded, encoded strictly, and sorted by their encoded names and values."""
    if not query:
        return ""
    if _PLAIN_QUERY.fullmatch(query):
        return _sorted_query(query)
    pairs: list[tuple[str, str]] = []
    for pair in query.split("&"):
        if pair:
            name, _, value = pair.partition("=")
            pairs.append((_encode_again(name), _encode_again(value)))
    pairs.sort()
    return "&".join(f"{name}={value}" for name, value in pairs)


def _encode_again(text: str) -> str:
    decoded = unquote(text.replace("+", "%20"), errors="surrogateescape")
    return quote(decoded, safe="~", errors="surrogateescape")


def _sorted_query(query: str) -> str:
    if not query:
        return ""
    pairs = sorted(pair.partition("=")[::2] for pair in query.split("&") if pair)
    return "&".join(f"{name}={value}" for name, value in pairs)


def _without_signature(query: str) -> str:
    return "&".join(pair for pair in query.split("&") if not pair.startswith("X-Amz-Signature="))


def query_parameters(query: str) -> dict[str, str]:
    """Decoded query parameters; of repeated ones the first."""
    found: dict[str, str] = {}
    for pair in query.split("&"):
        name, _, value = pair.partition("=")
        found.setdefault(unquote_plus(name), unquote_plus(value))
    return found
