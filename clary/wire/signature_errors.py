"""How each style of service words the refusal of a signature.

The same fault has four wire forms: AWS JSON services answer 400, REST-JSON services 403, query
services drop the "Exception" suffix, and S3 has codes of its own. A table holds them so that
verification only names the fault.
"""

from __future__ import annotations

from typing import Any, Literal

from clary.model.errors import ApiError
from clary.wire.http import Request

Style = Literal["json", "rest", "query", "s3"]

S3_SERVICES = frozenset({"s3", "s3express", "s3-object-lambda", "s3-outposts"})

# fault: (code of JSON and REST-JSON services, query: code, status, S3: code, status)
_FORMS: dict[str, tuple[str, str, int, str, int]] = {
    "missing": (
        "MissingAuthenticationTokenException",
        "MissingAuthenticationToken",
        403,
        "AccessDenied",
        403,
    ),
    "incomplete": (
        "IncompleteSignatureException",
        "IncompleteSignature",
        400,
        "AuthorizationHeaderMalformed",
        400,
    ),
    "incomplete_query": (
        "IncompleteSignatureException",
        "IncompleteSignature",
        400,
        "AuthorizationQueryParametersError",
        400,
    ),
    "unknown_key": (
        "UnrecognizedClientException",
        "InvalidClientTokenId",
        403,
        "InvalidAccessKeyId",
        403,
    ),
    "invalid_token": (
        "UnrecognizedClientException",
        "InvalidClientTokenId",
        403,
        "InvalidToken",
        400,
    ),
    "expired_token": ("ExpiredTokenException", "ExpiredToken", 403, "ExpiredToken", 400),
    "mismatch": (
        "InvalidSignatureException",
        "SignatureDoesNotMatch",
        403,
        "SignatureDoesNotMatch",
        403,
    ),
    "skewed": (
        "InvalidSignatureException",
        "SignatureDoesNotMatch",
        403,
        "RequestTimeTooSkewed",
        403,
    ),
    "expired": ("InvalidSignatureException", "SignatureDoesNotMatch", 403, "AccessDenied", 403),
    "unsigned_headers": (
        "InvalidSignatureException",
        "SignatureDoesNotMatch",
        403,
        "AccessDenied",
        403,
    ),
    "body": (
        "InvalidSignatureException",
        "SignatureDoesNotMatch",
        403,
        "XAmzContentSHA256Mismatch",
        400,
    ),
    "hash_missing": (
        "InvalidSignatureException",
        "SignatureDoesNotMatch",
        403,
        "InvalidRequest",
        400,
    ),
    "hash_invalid": (
        "InvalidSignatureException",
        "SignatureDoesNotMatch",
        403,
        "InvalidArgument",
        400,
    ),
    "unsupported": (
        "IncompleteSignatureException",
        "IncompleteSignature",
        400,
        "InvalidRequest",
        400,
    ),
}


def refusal(fault: str, style: Style, message: str, **members: Any) -> ApiError:
    """The error that a service of this style answers for a fault of the table above."""
    plain, query, query_status, s3, s3_status = _FORMS[fault]
    match style:
        case "json":
            return ApiError(message, code=plain, status=400)
        case "rest":
            return ApiError(message, code=plain, status=403)
        case "query":
            return ApiError(message, code=query, status=query_status)
        case "s3":
            return ApiError(message, code=s3, status=s3_status, **members)


def style_of(request: Request, service: str = "") -> Style:
    """Which style answers this request; `service` is the credential scope's, empty if unsigned.

    An unsigned request with a plain path may be S3 or REST-JSON: whoever routes by path knows,
    and says so itself.
    """
    if service in S3_SERVICES:
        return "s3"
    if "x-amz-target" in request.headers or "rpc-v2" in request.headers.get("smithy-protocol", ""):
        return "json"
    form = request.headers.get("content-type", "").startswith("application/x-www-form-urlencoded")
    if form or request.query.startswith("Action=") or "&Action=" in request.query:
        return "query"
    if service in ("sts", "iam"):
        return "query"
    return "rest"
