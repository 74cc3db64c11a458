"""An error on its way out: which modelled shape it is, and what each protocol calls it."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Any

from botocore.model import NoShapeFoundError, OperationModel, ServiceModel, StructureShape

from clary.model.errors import ApiError

# SQS spoke the query protocol before JSON, and its clients still match the codes of that time; the
# model has lost them. The names are those of the error shapes.
SQS_QUERY_CODES = {
    "QueueDoesNotExist": "AWS.SimpleQueueService.NonExistentQueue",
    "QueueDeletedRecently": "AWS.SimpleQueueService.QueueDeletedRecently",
    "QueueNameExists": "QueueAlreadyExists",
    "MessageNotInflight": "AWS.SimpleQueueService.MessageNotInflight",
    "PurgeQueueInProgress": "AWS.SimpleQueueService.PurgeQueueInProgress",
    "UnsupportedOperation": "AWS.SimpleQueueService.UnsupportedOperation",
    "EmptyBatchRequest": "AWS.SimpleQueueService.EmptyBatchRequest",
    "TooManyEntriesInBatchRequest": "AWS.SimpleQueueService.TooManyEntriesInBatchRequest",
    "BatchEntryIdsNotDistinct": "AWS.SimpleQueueService.BatchEntryIdsNotDistinct",
    "BatchRequestTooLong": "AWS.SimpleQueueService.BatchRequestTooLong",
    "InvalidBatchEntryId": "AWS.SimpleQueueService.InvalidBatchEntryId",
}


@dataclass(frozen=True, slots=True)
class Fault:
    """What a protocol needs to write an error."""

    shape: StructureShape | None  # None where the model does not know the code
    name: str  # in JSON and CBOR: the shape's name
    code: str  # in query and XML: the code that the model gives the shape
    status: int
    message: str
    modelled: dict[str, Any]  # members of the shape, the message among them
    extras: dict[str, Any]  # members that the model does not know

    def having(self, modelled: dict[str, Any]) -> Fault:
        """The same fault with other modelled members."""
        return replace(self, modelled=modelled)

    @property
    def side(self) -> str:
        return "Receiver" if self.status >= 500 else "Sender"


def fault_of(
    service: ServiceModel,
    operation: OperationModel | None,
    error: ApiError,
    *,
    modelled_status: bool = True,
) -> Fault:
    """Match an error to its shape by name or code, an operation's own errors first.

    `modelled_status` is False for AWS JSON, whose clients' faults are 400 whatever the model says.
    """
    shape = shape_of(service, operation, error.code)
    names = shape.members if shape is not None else {}
    message_member = next((name for name in names if name.lower() == "message"), None)
    modelled = {name: value for name, value in error.members.items() if name in names}
    extras = {name: plain(value) for name, value in error.members.items() if name not in names}
    if message_member is not None:
        modelled.setdefault(message_member, error.message)
    else:
        extras.setdefault("message", error.message)
    name = shape.name if shape is not None else error.code
    code = str(shape.error_code) if shape is not None else error.code
    if service.service_name == "sqs":
        code = SQS_QUERY_CODES.get(name, code)
    if not service.is_query_compatible:
        name = code
    status = status_of(error, shape, modelled_status)
    return Fault(shape, name, code, status, error.message, modelled, extras)


def plain(value: Any) -> Any:
    """A member that the model does not know, as something every protocol can write."""
    if isinstance(value, dict):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    return value if isinstance(value, str | int | float) else str(value)


def shape_of(
    service: ServiceModel, operation: OperationModel | None, code: str
) -> StructureShape | None:
    for shape in operation.error_shapes if operation is not None else ():
        if isinstance(shape, StructureShape) and code in (shape.name, shape.error_code):
            return shape
    # What is no shape's name may still be the code that the query protocol gives one.
    with suppress(NoShapeFoundError):
        found = service.shape_for(code)
        if isinstance(found, StructureShape) and found.metadata.get("exception"):
            return found
    for shape in service.error_shapes:
        if isinstance(shape, StructureShape) and shape.error_code == code:
            return shape
    return None


def status_of(error: ApiError, shape: StructureShape | None, modelled_status: bool) -> int:
    """The raiser's choice, else the model's, else the class's.

    A plain ApiError defaults to 500; one that the model knows is no defect of ours, so it is 400.
    """
    if error.status != type(error).status:
        return error.status
    if shape is None:
        return error.status
    status = shape.metadata.get("error", {}).get("httpStatusCode")
    if status is not None and (modelled_status or status >= 500):
        return int(status)
    return 400 if type(error) is ApiError else error.status
