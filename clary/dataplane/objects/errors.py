"""S3's errors on the wire: an XML document, and nothing at all where the answer has no body."""

from __future__ import annotations

import errno
import logging

from clary.dataplane.objects.request import Answer, S3Request
from clary.dataplane.objects.xml import DECLARATION
from clary.model.errors import ApiError
from clary.store.full_disk import object_store_full
from clary.wire.xml_text import escape

log = logging.getLogger(__name__)

DENIED = frozenset({"AccessDenied", "AccessDeniedException"})
HEADERS = "headers"  # a member of an error that is headers of the answer, not part of the document


def access_denied(message: str = "Access Denied") -> ApiError:
    return ApiError(message, code="AccessDenied", status=403)


def invalid_argument(message: str, name: str = "", value: str = "") -> ApiError:
    members = {"ArgumentName": name, "ArgumentValue": value} if name else {}
    return ApiError(message, code="InvalidArgument", status=400, **members)


def not_implemented(operation: str) -> ApiError:
    return ApiError(
        f"A header or parameter you provided implies functionality that is not implemented: {operation}.",
        code="NotImplemented",
        status=501,
    )


def as_api_error(problem: Exception, request: S3Request) -> ApiError:
    """What the client is told of any failure; a defect of ours is logged under the request id."""
    if isinstance(problem, ApiError):
        if problem.code in DENIED:
            return ApiError(problem.message, code="AccessDenied", status=403, **problem.members)
        return problem
    full = object_store_full(problem)
    if full:
        return full
    if isinstance(problem, OSError) and problem.errno in (errno.EMFILE, errno.ENFILE):
        return ApiError("Please reduce your request rate.", code="SlowDown", status=503)
    log.error("request %s failed", request.request_id, exc_info=problem)
    message = "We encountered an internal error. Please try again."
    return ApiError(message, code="InternalError", status=500)


def error_answer(problem: ApiError, request: S3Request) -> Answer:
    headers: dict[str, str] = dict(problem.members.get(HEADERS, {}))
    if request.method == "HEAD" or problem.status == 304:
        return Answer(problem.status, headers)
    headers["content-type"] = "application/xml"
    return Answer(problem.status, headers, error_document(problem, request).encode())


def error_document(problem: ApiError, request: S3Request) -> str:
    members = "".join(
        f"<{name}>{escape(str(value))}</{name}>"
        for name, value in problem.members.items()
        if name != HEADERS
    )
    return (
        f"{DECLARATION}<Error><Code>{escape(problem.code)}</Code><Message>{escape(problem.message)}</Message>"
        f"{members}<RequestId>{request.request_id}</RequestId><HostId>{request.host_id}</HostId></Error>"
    )
