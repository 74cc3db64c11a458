"""AWS Signature Version 4: reading, checking and making the signature of a request.

    method, path, query, signed headers, payload hash  ->  canonical request
    algorithm, time, scope, sha256(canonical request)  ->  string to sign
    secret -> date -> region -> service -> aws4_request  ->  signing key (good all day: cached)

Everything here is pure: secrets and the time come from the caller.
"""

from __future__ import annotations

import hashlib
import hmac
import re
from collections.abc import Callable
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from functools import lru_cache
from urllib.parse import quote

from clary.model.errors import ApiError
from clary.wire.canonical_request import (
    canonical_path,
    canonical_query,
    canonical_request,
    query_parameters,
    spellings,
)
from clary.wire.http import Request
from clary.wire.signature_errors import S3_SERVICES, Style, refusal
from clary.wire.signature_times import SKEW_SECONDS_MAX, check_time, is_stamp, stamp_of

ALGORITHM = "AWS4-HMAC-SHA256"
UNSIGNED_PAYLOAD = "UNSIGNED-PAYLOAD"
STREAMING_SIGNED = "STREAMING-AWS4-HMAC-SHA256-PAYLOAD"
STREAMING_SIGNED_TRAILER = "STREAMING-AWS4-HMAC-SHA256-PAYLOAD-TRAILER"
STREAMING_UNSIGNED_TRAILER = "STREAMING-UNSIGNED-PAYLOAD-TRAILER"
UNVERIFIED_PAYLOADS = frozenset(
    {UNSIGNED_PAYLOAD, STREAMING_SIGNED, STREAMING_SIGNED_TRAILER, STREAMING_UNSIGNED_TRAILER}
)
PRESIGNED_SECONDS_MAX = 7 * 24 * 3600
EMPTY_SHA256 = hashlib.sha256(b"").hexdigest()

MISMATCH = (
    "The request signature we calculated does not match the signature you provided. Check "
    "your AWS Secret Access Key and signing method. Consult the service documentation for details."
)
MISMATCH_S3 = (
    "The request signature we calculated does not match the signature you provided. Check "
    "your key and signing method."
)

_CREDENTIAL = re.compile(r"([^/,\s]{1,256})/(\d{8})/([^/,\s]{0,64})/([^/,\s]{0,64})/aws4_request")
_AUTHORIZATION = re.compile(
    r"AWS4-HMAC-SHA256 +Credential=([^,\s]+), *SignedHeaders=([^,\s]+), *Signature=([0-9a-f]{64})$"
)
_PARAMETER = re.compile(r"(\w+)=([^,\s]*)")
_HEX_64 = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True, slots=True)
class Scope:
    """What a credential is used for; `date` is YYYYMMDD and, like `region`, empty in SigV2 URLs."""

    access_key: str
    date: str
    region: str
    service: str

    @property
    def text(self) -> str:
        return f"{self.date}/{self.region}/{self.service}/aws4_request"


@dataclass(frozen=True, slots=True)
class Signature:
    """The signature as sent. `payload` is the payload hash that was signed, or one of the
    STREAMING words.
    """

    scope: Scope
    signed_headers: str  # "host;x-amz-date", in the order signed
    signature: str
    time: str  # YYYYMMDDTHHMMSSZ
    token: str
    payload: str
    expires: int | None = None  # seconds, of presigned URLs

    @property
    def presigned(self) -> bool:
        return self.expires is not None


class SigningKeys:
    """Derived signing keys, at most `size` of them; safe from many threads."""

    def __init__(self, size: int = 4096) -> None:
        self.derive: Callable[[str, str, str, str], bytes] = lru_cache(size)(signing_key)


def signing_key(secret: str, date: str, region: str, service: str) -> bytes:
    key = f"AWS4{secret}".encode()
    for part in (date, region, service, "aws4_request"):
        key = hmac.digest(key, part.encode(), "sha256")
    return key


def credential_scope(request: Request) -> Scope | None:
    """Which service, region and key a request is signed for; None when it is unsigned. Never
    raises.
    """
    header = request.headers.get("authorization")
    if header:
        start = header.find("Credential=")
        if start < 0:
            return None
        return scope_of(header[start + 11 :].split(",", 1)[0].strip())
    if "X-Amz-Credential=" in request.query:
        return scope_of(query_parameters(request.query).get("X-Amz-Credential", ""))
    if "AWSAccessKeyId=" in request.query and "Signature=" in request.query:
        key = query_parameters(request.query).get("AWSAccessKeyId", "")
        return Scope(key, "", "", "s3") if key else None
    return None


@lru_cache(4096)
def scope_of(credential: str) -> Scope | None:
    """The scope that a Credential names, or None if it is not of the five-part form."""
    found = _CREDENTIAL.fullmatch(credential)
    return Scope(*found.groups()) if found else None


def parse_signature(request: Request, style: Style) -> Signature:
    """The signature of a request; raise the style's error when there is none or it is malformed."""
    header = request.headers.get("authorization")
    if header:
        return _parse_header(request, header, style)
    if "X-Amz-Signature=" in request.query or "X-Amz-Credential=" in request.query:
        return _parse_query(request, style)
    message = {"query": "Request is missing Authentication Token", "s3": "Access Denied"}
    raise refusal("missing", style, message.get(style, "Missing Authentication Token"))


def _parse_header(request: Request, header: str, style: Style) -> Signature:
    found = _AUTHORIZATION.match(header)
    if found:
        credential, signed_headers, signature = found.groups()
    else:
        credential, signed_headers, signature = _parse_loosely(header, style)
    scope = scope_of(credential)
    if scope is None:
        message = (
            "Credential must have exactly 5 slash-delimited elements, e.g. "
            f"keyid/date/region/service/term, got '{credential}'."
        )
        raise refusal("incomplete", style, message)
    headers = request.headers
    when = headers.get("x-amz-date") or _http_date(headers.get("date", ""), style)
    payload = headers.get("x-amz-content-sha256", "")
    _check_declared_payload(payload, scope.service, style)
    token = headers.get("x-amz-security-token", "")
    return Signature(scope, signed_headers, signature, when, token, payload)


def _parse_loosely(header: str, style: Style) -> tuple[str, str, str]:
    """The three parameters in any order, or the error that names what is missing."""
    algorithm, _, rest = header.partition(" ")
    if algorithm != ALGORITHM:
        message = (
            "The authorization mechanism you have provided is not supported. Please use "
            "AWS4-HMAC-SHA256."
            if style == "s3"
            else f"Unsupported AWS 'algorithm': '{algorithm[:64]}'."
        )
        raise refusal("unsupported", style, message)
    found = dict(_PARAMETER.findall(rest))
    wanted = ("Credential", "Signature", "SignedHeaders")
    missing = [name for name in wanted if not found.get(name)]
    if missing:
        message = " ".join(f"Authorization header requires '{name}' parameter." for name in missing)
        raise refusal("incomplete", style, message)
    if not _HEX_64.fullmatch(found["Signature"]):
        raise mismatch(style)
    return found["Credential"], found["SignedHeaders"], found["Signature"]


def _check_declared_payload(payload: str, service: str, style: Style) -> None:
    if payload in UNVERIFIED_PAYLOADS or _HEX_64.fullmatch(payload):
        return
    if not payload:
        if service not in S3_SERVICES:
            return
        message = "Missing required header for this request: x-amz-content-sha256"
        raise refusal("hash_missing", style, message)
    message = (
        "x-amz-content-sha256 must be UNSIGNED-PAYLOAD, STREAMING-UNSIGNED-PAYLOAD-TRAILER, "
        "STREAMING-AWS4-HMAC-SHA256-PAYLOAD, STREAMING-AWS4-HMAC-SHA256-PAYLOAD-TRAILER "
        "or a valid sha256 value."
    )
    raise refusal("hash_invalid", style, message)


def _http_date(text: str, style: Style) -> str:
    """The Date header, which old clients sign instead of X-Amz-Date, in X-Amz-Date's form."""
    if is_stamp(text):
        return text
    try:
        return parsedate_to_datetime(text).strftime("%Y%m%dT%H%M%SZ")
    except ValueError as problem:
        message = (
            "Authorization header requires existence of either a 'X-Amz-Date' or a 'Date' header."
        )
        if style == "s3":
            message = "AWS authentication requires a valid Date or x-amz-date header"
            raise ApiError(message, code="AccessDenied", status=403) from problem
        raise refusal("incomplete", style, message) from problem


def _parse_query(request: Request, style: Style) -> Signature:
    found = query_parameters(request.query)
    wanted = ("Algorithm", "Credential", "Signature", "Date", "SignedHeaders")
    missing = [name for name in wanted if not found.get(f"X-Amz-{name}")]
    # Only S3 insists on X-Amz-Expires; elsewhere a signed URL without it lives as long as the
    # allowed skew.
    if style == "s3" and "X-Amz-Expires" not in found:
        missing.append("Expires")
    if missing:
        message = (
            "Query-string authentication version 4 requires the X-Amz-Algorithm, X-Amz-"
            "Credential, X-Amz-Signature, "
            "X-Amz-Date, X-Amz-SignedHeaders, and X-Amz-Expires parameters."
            if style == "s3"
            else " ".join(f"AWS query-string parameters must include 'X-Amz-{n}'." for n in missing)
        )
        raise refusal("incomplete_query", style, message)
    if found["X-Amz-Algorithm"] != ALGORITHM:
        message = 'X-Amz-Algorithm only supports "AWS4-HMAC-SHA256"'
        raise refusal("incomplete_query", style, message)
    scope = scope_of(found["X-Amz-Credential"])
    if scope is None:
        message = (
            "Error parsing the X-Amz-Credential parameter; the Credential is mal-formed; expecting "
            '"<YOUR-AKID>/YYYYMMDD/REGION/SERVICE/aws4_request".'
        )
        raise refusal("incomplete_query", style, message)
    if not _HEX_64.fullmatch(found["X-Amz-Signature"]):
        raise mismatch(style)
    expires = _expires(found.get("X-Amz-Expires", str(SKEW_SECONDS_MAX)), style)
    payload = found.get("X-Amz-Content-Sha256") or request.headers.get("x-amz-content-sha256", "")
    if not payload and scope.service in S3_SERVICES:
        payload = UNSIGNED_PAYLOAD
    _check_declared_payload(payload, scope.service, style)
    return Signature(
        scope,
        found["X-Amz-SignedHeaders"],
        found["X-Amz-Signature"],
        found["X-Amz-Date"],
        found.get("X-Amz-Security-Token", ""),
        payload,
        expires,
    )


def _expires(text: str, style: Style) -> int:
    if not text.isascii() or not text.isdigit():
        raise refusal("incomplete_query", style, "X-Amz-Expires should be a number")
    if len(text) > 9 or not 1 <= int(text) <= PRESIGNED_SECONDS_MAX:
        message = (
            "X-Amz-Expires must be less than a week (in seconds); that is, the given X-Amz-"
            "Expires must be less than 604800 seconds"
        )
        raise refusal("incomplete_query", style, message)
    return int(text)


def mismatch(style: Style) -> ApiError:
    return refusal("mismatch", style, MISMATCH_S3 if style == "s3" else MISMATCH)


def check_signed_headers(request: Request, signature: Signature, style: Style) -> None:
    """Host must be signed always, and on S3 every x-amz-* header that was sent: an unsigned one
    could be forged.
    """
    signed = signature.signed_headers.split(";")
    if "host" not in signed:
        message = "'Host' or ':authority' must be a 'SignedHeader' in the AWS Authorization."
        raise refusal("mismatch" if style != "s3" else "unsigned_headers", style, message)
    if style != "s3":
        return
    loose = [
        name
        for name in request.headers
        if name.startswith("x-amz-") and name not in signed and name != "x-amz-content-sha256"
    ]
    if loose:
        message = "There were headers present in the request which were not signed"
        raise refusal("unsigned_headers", style, message, HeadersNotSigned=", ".join(sorted(loose)))


def check_signature_time(signature: Signature, now: float, style: Style) -> None:
    check_time(signature.time, signature.scope.date, signature.expires, now, style)


def verify(
    request: Request, signature: Signature, secret: str, keys: SigningKeys, style: Style
) -> None:
    """Raise unless the signature was made with this secret over this request.

    The body is looked at only when the signer declared no payload hash: it is then part of the
    signature. Otherwise `check_body`, or whoever streams the body, compares it with the hash.
    """
    scope = signature.scope
    key = keys.derive(secret, scope.date, scope.region, scope.service)
    payload = signature.payload or hashlib.sha256(request.body).hexdigest()
    given = signature.signature
    for path, query in spellings(request, scope.service, signature.presigned):
        canonical = canonical_request(
            request.method, path, query, request.headers, signature.signed_headers, payload
        )
        for encoding in ("utf-8",) if canonical.isascii() else ("latin-1", "utf-8"):
            # Header bytes beyond ASCII reach us as Latin-1 or as UTF-8, depending on the HTTP
            # parser in front.
            try:
                digest = hashlib.sha256(canonical.encode(encoding)).hexdigest()
            except UnicodeEncodeError:
                continue
            text = f"{ALGORITHM}\n{signature.time}\n{scope.text}\n{digest}"
            if hmac.compare_digest(hmac.digest(key, text.encode(), "sha256").hex(), given):
                return
    raise mismatch(style)


def check_body(body: bytes | memoryview, signature: Signature, style: Style) -> None:
    """Raise if a literal payload hash was signed and the body has another."""
    declared = signature.payload
    if not declared or declared in UNVERIFIED_PAYLOADS:
        return
    actual = hashlib.sha256(body).hexdigest()
    if actual == declared:
        return
    raise body_refusal(declared, actual, style)


def body_refusal(declared: str, actual: str, style: Style) -> ApiError:
    if style != "s3":
        return mismatch(style)
    message = "The provided 'x-amz-content-sha256' header does not match what was computed."
    return refusal(
        "body",
        style,
        message,
        ClientComputedContentSHA256=declared,
        S3ComputedContentSHA256=actual,
    )


def sign(
    request: Request,
    *,
    access_key: str,
    secret: str,
    region: str,
    service: str,
    now: float,
    token: str = "",
    payload: str = "",
) -> dict[str, str]:
    """The headers that sign `request`, to be added to its own, which must hold `host`."""
    stamp = stamp_of(now)
    payload = payload or hashlib.sha256(request.body).hexdigest()
    added = {"x-amz-date": stamp, "x-amz-content-sha256": payload}
    if token:
        added["x-amz-security-token"] = token
    headers = {**request.headers, **added}
    signed = ";".join(
        sorted(
            name
            for name in headers
            if name in ("host", "content-type", "content-md5") or name.startswith("x-amz-")
        )
    )
    scope = Scope(access_key, stamp[:8], region, service)
    path, query = canonical_path(request.path, service), canonical_query(request.query)
    canonical = canonical_request(request.method, path, query, headers, signed, payload)
    signature = signature_of(
        canonical, stamp, scope, signing_key(secret, stamp[:8], region, service)
    )
    added["authorization"] = (
        f"{ALGORITHM} Credential={access_key}/{scope.text}, SignedHeaders={signed}, "
        f"Signature={signature}"
    )
    return added


def signature_of(canonical: str, stamp: str, scope: Scope, key: bytes) -> str:
    digest = hashlib.sha256(canonical.encode()).hexdigest()
    text = f"{ALGORITHM}\n{stamp}\n{scope.text}\n{digest}"
    return hmac.digest(key, text.encode(), "sha256").hex()


def presign(
    method: str,
    host: str,
    path: str,
    *,
    access_key: str,
    secret: str,
    region: str,
    service: str,
    now: float,
    expires: int,
    token: str = "",
    query: str = "",
) -> str:
    """The query string of a presigned URL for `path` (percent-encoded) on `host` (with its
    port).
    """
    stamp = stamp_of(now)
    scope = Scope(access_key, stamp[:8], region, service)
    wanted = {
        "X-Amz-Algorithm": ALGORITHM,
        "X-Amz-Credential": f"{access_key}/{scope.text}",
        "X-Amz-Date": stamp,
        "X-Amz-Expires": str(expires),
        "X-Amz-SignedHeaders": "host",
    }
    if token:
        wanted["X-Amz-Security-Token"] = token
    added = "&".join(f"{name}={quote(value, safe='~')}" for name, value in wanted.items())
    whole = canonical_query(f"{query}&{added}" if query else added)
    payload = UNSIGNED_PAYLOAD if service in S3_SERVICES else EMPTY_SHA256
    canonical = canonical_request(
        method, canonical_path(path, service), whole, {"host": host}, "host", payload
    )
    key = signing_key(secret, stamp[:8], region, service)
    return f"{whole}&X-Amz-Signature={signature_of(canonical, stamp, scope, key)}"
