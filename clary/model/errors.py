"""Every error that a client can see, as AWS words it.

ApiError
├── ValidationException            400  a member breaks its constraint, or the request makes no sense now
├── ResourceNotFound               400  modelled not-found of some kinds
├── ResourceInUse                  400  the name is taken, or something still depends on it
├── ResourceLimitExceeded          400  a quota of this installation
├── ConflictException              400  two writers, or a group that is not empty
├── AccessDeniedException          400  the policies say no (403 on REST services)
├── UnrecognizedClientException    400  unknown access key (403 on REST services)
├── UnknownOperationException      400  no such operation in the service's model
├── NotImplementedException        400  a real operation that Clary does not answer yet
├── ThrottlingException            400  a bounded queue is full; clients retry
├── ServiceUnavailable             503  a part of Clary is restarting; clients retry
└── InternalFailure                500  a defect of Clary; the log has the traceback under the request id

A service whose codes differ raises `ApiError(message, code="NoSuchKey", status=404)` itself: the class is
a convenience, the code on the wire is the contract.
"""

from __future__ import annotations

from typing import Any


class ApiError(Exception):
    """An answer that the client sees as an AWS error; `members` are extra fields of the error's shape.

    `request_id` is set where something else, as a log, names the request too; else the answer gets a
    new one.
    """

    code = "InternalFailure"
    status = 500

    def __init__(
        self, message: str, *, code: str | None = None, status: int | None = None, **members: Any
    ) -> None:
        super().__init__(message)
        self.message = message
        self.code = code or type(self).code
        self.status = status or type(self).status
        self.members = members
        self.request_id = ""


class ValidationException(ApiError):
    code = "ValidationException"
    status = 400


class ResourceNotFound(ApiError):
    code = "ResourceNotFound"
    status = 400


class ResourceInUse(ApiError):
    code = "ResourceInUse"
    status = 400


class ResourceLimitExceeded(ApiError):
    code = "ResourceLimitExceeded"
    status = 400


class ConflictException(ApiError):
    code = "ConflictException"
    status = 400


class AccessDeniedException(ApiError):
    code = "AccessDeniedException"
    status = 400


class UnrecognizedClientException(ApiError):
    code = "UnrecognizedClientException"
    status = 400


class UnknownOperationException(ApiError):
    code = "UnknownOperationException"
    status = 400


class NotImplementedException(ApiError):
    code = "NotImplementedException"
    status = 400


class ThrottlingException(ApiError):
    code = "ThrottlingException"
    status = 400


class ServiceUnavailable(ApiError):
    code = "ServiceUnavailable"
    status = 503


class InternalFailure(ApiError):
    code = "InternalFailure"
    status = 500
