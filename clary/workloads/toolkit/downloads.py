"""A signed GET of one S3 object, with the standard library alone."""

from __future__ import annotations

import hashlib
import hmac
import http.client
import json
import logging
import os
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import quote, urlsplit

from clary.workloads.toolkit.failures import UserError

log = logging.getLogger("clary.toolkit")

ATTEMPTS = 4
TIMEOUT_SECONDS = 60.0
PIECE = 1 << 20
EMPTY_SHA256 = hashlib.sha256(b"").hexdigest()
ANSWER_MAX = 1 << 16


class DownloadError(UserError):
    """The object could not be had; the message says what the store answered."""


class _Again(Exception):
    """A failure that another attempt may cure."""


@dataclass(frozen=True)
class Credentials:
    """Keys to sign with; never shown in a log."""

    access_key: str
    secret_key: str = field(repr=False)
    token: str = field(default="", repr=False)


def download(uri: str, target: Path, environ: Mapping[str, str]) -> None:
    """Fetch s3://bucket/key into a file; it appears whole or not at all."""
    parts = urlsplit(uri)
    bucket, key = parts.netloc, uri[len("s3://") + len(parts.netloc) + 1 :]
    if parts.scheme != "s3" or not bucket or not key:
        raise DownloadError(f"{uri!r} is not the address of an S3 object.")
    region = environ.get("AWS_REGION") or environ.get("SAGEMAKER_REGION") or "us-east-1"
    endpoint = (
        environ.get("S3_ENDPOINT_URL")
        or environ.get("AWS_ENDPOINT_URL_S3")
        or environ.get("AWS_ENDPOINT_URL")
        or f"https://s3.{region}.amazonaws.com"
    )
    credentials = find_credentials(environ)
    part = target.with_name(f".{target.name}.{os.getpid()}")
    try:
        for attempt in range(ATTEMPTS):
            try:
                _fetch(endpoint, f"/{bucket}/{key}", region, credentials, part)
                part.replace(target)
                return
            except (_Again, OSError, http.client.HTTPException) as problem:
                if attempt == ATTEMPTS - 1:
                    raise DownloadError(f"{uri} could not be downloaded: {problem}") from problem
                log.info("%s: %s; trying again.", uri, problem)
                time.sleep(0.2 * 2**attempt)
    finally:
        if part.exists():
            part.unlink()


def find_credentials(environ: Mapping[str, str]) -> Credentials | None:
    """Ask the container's credentials address, or take the keys in the environment."""
    access, secret = environ.get("AWS_ACCESS_KEY_ID"), environ.get("AWS_SECRET_ACCESS_KEY")
    if access and secret:
        return Credentials(access, secret, environ.get("AWS_SESSION_TOKEN", ""))
    url = environ.get("AWS_CONTAINER_CREDENTIALS_FULL_URI")
    if not url:
        return None
    token = environ.get("AWS_CONTAINER_AUTHORIZATION_TOKEN", "")
    file = environ.get("AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE")
    if file:
        token = Path(file).read_text(encoding="utf-8").strip()
    for attempt in range(ATTEMPTS):
        try:
            return _ask_credentials(url, token)
        except (_Again, OSError, http.client.HTTPException) as problem:
            if attempt == ATTEMPTS - 1:
                raise DownloadError(f"no credentials could be had: {problem}") from problem
            time.sleep(0.2 * 2**attempt)
    return None


def _ask_credentials(url: str, token: str) -> Credentials:
    connection, path = _connect(url)
    try:
        connection.request("GET", path, headers={"Authorization": token} if token else {})
        response = connection.getresponse()
        body = response.read(ANSWER_MAX)
    finally:
        connection.close()
    if response.status >= 500:
        raise _Again(f"the credentials address answered {response.status}")
    if response.status != 200:
        raise DownloadError(f"The credentials address answered {response.status}.")
    try:
        found = json.loads(body)
        return Credentials(found["AccessKeyId"], found["SecretAccessKey"], found.get("Token") or "")
    except (ValueError, KeyError, TypeError) as problem:
        raise DownloadError("The credentials address did not answer with keys.") from problem


def _fetch(
    endpoint: str, path: str, region: str, credentials: Credentials | None, target: Path
) -> None:
    connection, prefix = _connect(endpoint)
    resource = quote(prefix.rstrip("/") + path, safe="/-_.~")
    host = urlsplit(endpoint).netloc.rpartition("@")[2]
    headers = {"host": host, "x-amz-content-sha256": EMPTY_SHA256}
    if credentials is not None:
        headers = sign(resource, headers, region, credentials, time.gmtime())
    try:
        connection.request("GET", resource, headers=headers)
        response = connection.getresponse()
        if response.status != 200:
            text = response.read(ANSWER_MAX).decode("utf-8", "replace")
            if response.status >= 500 or response.status == 429:
                raise _Again(f"the store answered {response.status}")
            raise DownloadError(
                f"s3:/{path} could not be downloaded: the store answered {response.status} "
                f"{_between(text, '<Code>', '</Code>')} {_between(text, '<Message>', '</Message>')}"
            )
        length = response.headers.get("Content-Length")
        size = 0
        with target.open("wb") as out:
            while True:
                piece = response.read(PIECE)
                if not piece:
                    break
                size += len(piece)
                out.write(piece)
        if length is not None and size != int(length):
            raise _Again(f"{size} bytes of {length} arrived")
    finally:
        connection.close()


def sign(
    path: str,
    headers: dict[str, str],
    region: str,
    credentials: Credentials,
    now: time.struct_time,
) -> dict[str, str]:
    """Return the headers of a GET with Signature Version 4 for S3; `path` is quoted already."""
    stamp = time.strftime("%Y%m%dT%H%M%SZ", now)
    signed = {**headers, "x-amz-date": stamp}
    if credentials.token:
        signed["x-amz-security-token"] = credentials.token
    names = ";".join(sorted(signed))
    lines = "".join(f"{name}:{signed[name]}\n" for name in sorted(signed))
    request = "\n".join(["GET", path, "", lines, names, EMPTY_SHA256])
    scope = f"{stamp[:8]}/{region}/s3/aws4_request"
    digest = hashlib.sha256(request.encode()).hexdigest()
    text = f"AWS4-HMAC-SHA256\n{stamp}\n{scope}\n{digest}"
    key = ("AWS4" + credentials.secret_key).encode()
    for word in scope.split("/"):
        key = hmac.new(key, word.encode(), hashlib.sha256).digest()
    signature = hmac.new(key, text.encode(), hashlib.sha256).hexdigest()
    signed["authorization"] = (
        f"AWS4-HMAC-SHA256 Credential={credentials.access_key}/{scope}, "
        f"SignedHeaders={names}, Signature={signature}"
    )
    return signed


def _connect(url: str) -> tuple[http.client.HTTPConnection, str]:
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise DownloadError(f"{url!r} is not an HTTP address.")
    kind = http.client.HTTPSConnection if parts.scheme == "https" else http.client.HTTPConnection
    path = parts.path + (f"?{parts.query}" if parts.query else "")
    return kind(parts.hostname, parts.port, timeout=TIMEOUT_SECONDS), path or "/"


def _between(text: str, start: str, end: str) -> str:
    return text.partition(start)[2].partition(end)[0]
