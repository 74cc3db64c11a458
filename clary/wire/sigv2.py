"""S3's old presigned URLs (Signature Version 2), which boto3 still makes by default in us-east-1.

Only query authentication is accepted: a URL with `AWSAccessKeyId`, `Signature` and `Expires`.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
from dataclasses import dataclass
from urllib.parse import unquote

from clary.model.errors import ApiError
from clary.wire.canonical_request import query_parameters
from clary.wire.http import Request
from clary.wire.signature_errors import refusal
from clary.wire.sigv4 import mismatch

# The query parameters that name another resource than the object itself, and are therefore signed.
SUBRESOURCES = frozenset(
    [
        "accelerate", "acl", "analytics", "cors", "defaultObjectAcl", "delete", "inventory",
        "lifecycle", "location", "logging", "metrics", "notification", "object-lock",
        "partNumber", "policy", "replication", "requestPayment", "restore", "select",
        "select-type", "storageClass", "tagging", "torrent", "uploadId", "uploads",
        "versionId", "versioning", "versions", "website", "response-cache-control",
        "response-content-disposition", "response-content-encoding",
        "response-content-language", "response-content-type", "response-expires",
    ]
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class OldSignature:
    access_key: str
    signature: str  # base64
    expires: int  # epoch seconds
    token: str


def is_old_presigned(request: Request) -> bool:
    return "AWSAccessKeyId=" in request.query and "Signature=" in request.query


def parse_old_signature(request: Request) -> OldSignature:
    found = query_parameters(request.query)
    expires = found.get("Expires", "")
    if not found.get("AWSAccessKeyId") or not found.get("Signature") or not expires:
        message = (
            "Query-string authentication requires the Signature, Expires and AWSAccessKeyId "
            "parameters"
        )
        raise ApiError(message, code="AccessDenied", status=403)
    if not (expires.isascii() and expires.isdigit() and len(expires) <= 12):
        message = f"Invalid date (should be seconds since epoch): {expires[:64]}"
        raise ApiError(message, code="AccessDenied", status=403)
    token = found.get("x-amz-security-token", "")
    return OldSignature(found["AWSAccessKeyId"], found["Signature"], int(expires), token)


def check_old_expiry(signature: OldSignature, now: float) -> None:
    if now > signature.expires:
        raise refusal("expired", "s3", "Request has expired")


def verify_old(request: Request, signature: OldSignature, secret: str) -> None:
    """Raise SignatureDoesNotMatch unless the URL was signed with this secret."""
    for resource in _resources(request):
        text = _string_to_sign(request, signature, resource)
        digest = hmac.digest(secret.encode(), text.encode(), hashlib.sha1)
        if hmac.compare_digest(base64.b64encode(digest), signature.signature.encode()):
            return
    raise mismatch("s3")


def _resources(request: Request) -> list[str]:
    """The signed resource begins with the bucket, which a virtual-hosted request names in Host."""
    found = [request.path]
    bucket, dot, rest = request.headers.get("host", "").partition(".s3")
    if dot and rest[:1] in (".", "-"):
        found.append(f"/{bucket}{request.path}")
    return found


def _string_to_sign(request: Request, signature: OldSignature, resource: str) -> str:
    headers = request.headers
    amz = {name: " ".join(headers[name].split()) for name in headers if name.startswith("x-amz-")}
    if signature.token:
        amz["x-amz-security-token"] = signature.token
    lines = [
        request.method,
        headers.get("content-md5", "").strip(),
        headers.get("content-type", "").strip(),
        str(signature.expires),
        *(f"{name}:{amz[name]}" for name in sorted(amz)),
        resource + _signed_query(request.query),
    ]
    return "\n".join(lines)


def _signed_query(query: str) -> str:
    signed: list[str] = []
    for pair in sorted(query.split("&"), key=lambda pair: pair.partition("=")[0]):
        name, equals, value = pair.partition("=")
        if name in SUBRESOURCES:
            signed.append(f"{name}={unquote(value)}" if equals else name)
    return "?" + "&".join(signed) if signed else ""
