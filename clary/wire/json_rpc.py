"""AWS JSON 1.0 and 1.1: the operation in `X-Amz-Target`, one JSON object each way."""

from __future__ import annotations

from dataclasses import dataclass
from threading import Lock
from typing import Any

import orjson
from botocore.model import OperationModel, OperationNotFoundError, ServiceModel

from clary.model.errors import ApiError, UnknownOperationException
from clary.wire.bodies import plain_body
from clary.wire.coerce import LIST_FOUND, Malformed
from clary.wire.event_stream import EVENT_STREAM, EventWriter
from clary.wire.faults import Fault, fault_of
from clary.wire.http import Request, Response
from clary.wire.plans import Plans
from clary.wire.tree import JSON, Reader, TreeReaders, TreeWriters, Writer


@dataclass(frozen=True, slots=True)
class OperationPlan:
    model: OperationModel
    read: Reader | None  # None where the operation takes no input
    write: Writer | None
    events: EventWriter | None  # set where the answer is an event stream


class JsonRpc:
    """One service's JSON protocol; see `ServiceWire` for the contract of the methods."""

    def __init__(self, service: ServiceModel) -> None:
        self._service = service
        self._readers = TreeReaders(JSON)
        self._writers = TreeWriters(JSON)
        lock = Lock()
        self._plans: Plans[str, OperationPlan] = Plans(self._plan, lock)
        self._fault_writers: Plans[str, Writer] = Plans(self._fault_writer, lock)
        version = service.metadata.get("jsonVersion", "1.1")
        self._content_type = f"application/x-amz-json-{version}"

    def operation(self, request: Request) -> OperationModel:
        return self._requested(request).model

    def parse(self, request: Request) -> tuple[OperationModel, dict[str, Any]]:
        plan = self._requested(request)
        try:
            return plan.model, read_body(request, plan.read)
        except Malformed as problem:
            raise ApiError(str(problem), code="SerializationException", status=400) from problem

    def serialise(
        self, operation: OperationModel, output: dict[str, Any], request_id: str
    ) -> Response:
        plan = self._plans[operation.name]
        headers = {"x-amzn-RequestId": request_id, "Content-Type": self._content_type}
        if plan.events is not None:
            headers["Content-Type"] = EVENT_STREAM
            return Response(200, headers, plan.events.body(output, with_initial=True))
        if plan.write is None:
            refuse_members(operation, output)
            return Response(200, headers, b"{}" if operation.output_shape else b"")
        return Response(200, headers, orjson.dumps(plan.write(output)))

    def serialise_error(
        self, operation: OperationModel | None, error: ApiError, request_id: str
    ) -> Response:
        fault = fault_of(self._service, operation, error, modelled_status=False)
        headers = {"x-amzn-RequestId": request_id, "Content-Type": self._content_type}
        headers |= query_error_header(self._service, fault)
        writer = None if fault.shape is None else self._fault_writers[fault.shape.name]
        return Response(fault.status, headers, fault_json(fault, writer))

    def events(self, operation: OperationModel) -> EventWriter | None:
        return self._plans[operation.name].events

    def _requested(self, request: Request) -> OperationPlan:
        prefix, _, name = request.headers.get("x-amz-target", "").rpartition(".")
        # Later models of a service keep its operations and change the prefix; the name decides.
        if not prefix or not name:
            raise UnknownOperationException("The request names no operation in X-Amz-Target")
        try:
            return self._plans[name]
        except OperationNotFoundError as problem:
            raise UnknownOperationException(
                f"{self._service.service_name} has no operation {name!r:.100}"
            ) from problem

    def _plan(self, name: str) -> OperationPlan:
        model = self._service.operation_model(name)
        source, target = model.input_shape, model.output_shape
        events = None
        if target is not None and model.has_event_stream_output:
            events = EventWriter(target, self._writers.writer, orjson.dumps, "application/json")
        return OperationPlan(
            model=model,
            read=None if source is None else self._readers.reader(source),
            write=None if target is None or events else self._writers.writer(target),
            events=events,
        )

    def _fault_writer(self, name: str) -> Writer:
        return self._writers.writer(self._service.shape_for(name))


def read_body(request: Request, read: Reader | None) -> dict[str, Any]:
    """The input in a JSON body; Malformed in every other case."""
    tree = load_json(plain_body(request.headers, request.body))
    if type(tree) is not dict:
        raise Malformed(LIST_FOUND if type(tree) is list else "Expected a JSON object")
    if read is None:
        return {}
    try:
        return read(tree)
    except RecursionError as problem:
        raise Malformed("The request body is nested too deeply") from problem


def load_json(body: bytes) -> Any:
    try:
        return orjson.loads(body)
    except orjson.JSONDecodeError as problem:
        raise Malformed(f"Could not parse request body into json: {problem}") from problem


def refuse_members(operation: OperationModel, output: dict[str, Any]) -> None:
    if output:
        raise ValueError(f"{operation.name} has no output, yet was given {sorted(output)}")


def query_error_header(service: ServiceModel, fault: Fault) -> dict[str, str]:
    """Services that once spoke the query protocol still name the code of that time."""
    if not service.is_query_compatible:
        return {}
    return {"x-amzn-query-error": f"{fault.code};{fault.side}"}


def fault_json(fault: Fault, writer: Writer | None) -> bytes:
    return orjson.dumps(fault_tree(fault, writer))


def fault_tree(fault: Fault, writer: Writer | None) -> dict[str, Any]:
    modelled = writer(fault.modelled) if writer is not None else {}
    return {"__type": fault.name, **modelled, **fault.extras}
