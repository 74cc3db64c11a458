"""Callers recognised by what their next request has in common with the last one: half the cost of a request otherwise.

The whole check decides who is let in. What it found out is remembered under the unchanging part of the
Authorization header and the session token, for as long as nothing of IAM is written. A later request of
the same caller then costs its hashes and little more. Recognising only ever lets in; whatever does not
fit goes the whole way, which words the refusal.
"""

from __future__ import annotations

import hashlib
import hmac
from dataclasses import dataclass
from functools import lru_cache

from clary.identity.principals import Principal
from clary.store.database import Store
from clary.wire.canonical_request import canonical_path, canonical_query
from clary.wire.head_shapes import SIGNATURE_DIGITS, Shape
from clary.wire.http import Request
from clary.wire.signature_errors import S3_SERVICES
from clary.wire.signature_times import SKEW_SECONDS_MAX, epoch_of
from clary.wire.sigv4 import ALGORITHM, UNVERIFIED_PAYLOADS, Scope, Signature

KNOWN_MAX = 4096
PREFIX_CHARACTERS_MAX = 1024
PAYLOAD = "x-amz-content-sha256"


@dataclass(frozen=True, slots=True)
class KnownCaller:
    """What the requests of one caller, on one day and for one service, share."""

    principal: Principal
    scope: Scope
    scope_text: str
    key: bytes  # that signs
    signed_headers: str
    names: tuple[str, ...]  # of the signed headers
    expires: float
    is_s3: bool


@dataclass(frozen=True, slots=True)
class Spelling:
    """The canonical request of one caller's requests of one shape, but for what changes."""

    callers: dict[
        tuple[str, str], KnownCaller
    ]  # of whom he is one: another dictionary, another generation
    known: KnownCaller
    canonical: str  # with a place for each of the names, and for the hash of the body
    names: tuple[str, ...]


class KnownCallers:
    """Remembers callers of one process; safe from many threads."""

    def __init__(self, store: Store) -> None:
        self._store = store
        # One tuple, replaced as a whole, so that threads see callers only with their generation.
        self._known: tuple[int, dict[tuple[str, str], KnownCaller]] = (-1, {})

    def recognise(self, request: Request, now: float, *, check_body: bool) -> KnownCaller | None:
        """The caller, if he is known and this request is his; None if that is for the whole check to say."""
        generation = self._store.rows.generation("iam")
        current, callers = self._known
        if generation != current:
            self._known = (generation, {})
            return None
        shape = request.shape
        if shape is not None:
            spelling: Spelling | None = shape.notes.get(self)
            if spelling is not None and spelling.callers is callers:
                return _as_spelt(spelling, request, now, check_body=check_body)
        headers = request.headers
        prefix, found, signature = headers.get("authorization", "").rpartition("Signature=")
        if not found:
            return None
        known = callers.get((prefix, headers.get("x-amz-security-token", "")))
        if known is None or not _is_in_time(known, headers.get("x-amz-date", ""), now):
            return None
        if known.is_s3 and not _signs_all(known, request):
            return None
        if not _is_signed(known, request, signature, check_body=check_body):
            return None
        if shape is not None and not known.is_s3 and "authorization" not in known.names:
            shape.notes[self] = _spelling(callers, known, request, shape)
        return known

    def remember(
        self,
        request: Request,
        signature: Signature,
        principal: Principal,
        key: bytes,
        expires: float,
        generation: int,
    ) -> None:
        """Keep a caller whom the whole check just let in; `generation` is IAM's from before it."""
        prefix = request.headers.get("authorization", "").rpartition("Signature=")[0]
        if not prefix or len(prefix) > PREFIX_CHARACTERS_MAX or self._known[0] != generation:
            return
        known = self._known[1]
        if len(known) >= KNOWN_MAX:
            known.clear()
        scope, signed_headers = signature.scope, signature.signed_headers
        known[prefix, signature.token] = KnownCaller(
            principal,
            scope,
            scope.text,
            key,
            signed_headers,
            tuple(signed_headers.split(";")),
            expires,
            scope.service in S3_SERVICES,
        )


# Keys of objects are many, paths of operations few.
_path = lru_cache(4096)(canonical_path)


def _is_in_time(known: KnownCaller, stamp: str, now: float) -> bool:
    when = epoch_of(stamp)
    if when is None or stamp[:8] != known.scope.date or now >= known.expires:
        return False
    return -SKEW_SECONDS_MAX <= now - when <= SKEW_SECONDS_MAX


def _signs_all(known: KnownCaller, request: Request) -> bool:
    """On S3 every x-amz-* header must be signed, and the payload declared."""
    for name in request.headers:
        if name.startswith("x-amz-") and name not in known.names and name != PAYLOAD:
            return False
    return PAYLOAD in request.headers


def _is_signed(known: KnownCaller, request: Request, signature: str, *, check_body: bool) -> bool:
    """Whether the signature is that of the request as AWS spells it."""
    payload = _payload(request, check_body=check_body)
    if not payload:
        return False
    canonical = "\n".join(_canonical(known, request, payload))
    return _agrees(known, request, canonical, signature)


def _as_spelt(
    spelling: Spelling, request: Request, now: float, *, check_body: bool
) -> KnownCaller | None:
    """The caller of a request of a known shape, if it is his."""
    headers, known = request.headers, spelling.known
    if not _is_in_time(known, headers["x-amz-date"], now):
        return None
    payload = _payload(request, check_body=check_body)
    if not payload:
        return None
    canonical = spelling.canonical % (*[headers[name] for name in spelling.names], payload)
    signature = headers["authorization"][-SIGNATURE_DIGITS:]
    return known if _agrees(known, request, canonical, signature) else None


def _spelling(
    callers: dict[tuple[str, str], KnownCaller], known: KnownCaller, request: Request, shape: Shape
) -> Spelling:
    """How requests of a shape are spelt; what changes of them has no blanks that would be dropped."""
    lines = [line.replace("%", "%%") for line in _canonical(known, request, "")]
    names: list[str] = []
    for at, name in enumerate(known.names, start=3):
        if name in shape.values:
            lines[at] = name + ":%s"
            names.append(name)
    lines[-1] = "%s"
    return Spelling(callers, known, "\n".join(lines), tuple(names))


def _payload(request: Request, *, check_body: bool) -> str:
    """The hash of the body as it is signed; empty where another one is declared."""
    payload = request.headers.get(PAYLOAD, "")
    if not payload or (check_body and payload not in UNVERIFIED_PAYLOADS):
        actual = hashlib.sha256(request.body).hexdigest()
        if payload and payload != actual:
            return ""
        return actual
    return payload


def _canonical(known: KnownCaller, request: Request, payload: str) -> list[str]:
    """The lines of the canonical request; those of the headers begin with the fourth."""
    service = known.scope.service
    path = canonical_path(request.path, service) if known.is_s3 else _path(request.path, service)
    lines = [request.method, path, canonical_query(request.query) if request.query else ""]
    for name in known.names:
        value = request.headers.get(name, "")
        if "  " in value or "\t" in value:
            value = " ".join(value.split())
        lines.append(f"{name}:{value.strip()}")
    lines += ("", known.signed_headers, payload)
    return lines


def _agrees(known: KnownCaller, request: Request, canonical: str, signature: str) -> bool:
    """Whether the signature is that of the canonical request."""
    if not canonical.isascii():
        return False
    digest = hashlib.sha256(canonical.encode()).hexdigest()
    stamp = request.headers.get("x-amz-date")
    text = f"{ALGORITHM}\n{stamp}\n{known.scope_text}\n{digest}"
    good = hmac.digest(known.key, text.encode(), "sha256").hex()
    return signature.isascii() and hmac.compare_digest(good, signature)
