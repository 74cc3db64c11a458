"""The REST protocols but for their bodies: routing, bindings, payload members, statuses."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from threading import Lock
from typing import Any, Protocol

from botocore.model import OperationModel, ServiceModel, Shape, StructureShape

from clary.model.errors import ApiError
from clary.wire.bodies import plain_body
from clary.wire.coerce import Malformed, write_bytes
from clary.wire.event_stream import EVENT_STREAM, EventWriter
from clary.wire.faults import Fault, fault_of
from clary.wire.http import Request, Response
from clary.wire.http_bindings import InputBindings, OutputBindings
from clary.wire.json_rpc import refuse_members
from clary.wire.plans import Plans
from clary.wire.routes import Match, QueryFields, Routes, query_literals

BodyReader = Callable[[bytes], Any]
BodyWriter = Callable[[Any], bytes]


class Bodies(Protocol):
    """What REST-JSON and REST-XML must say about bodies.

    One thread at a time compiles; what it returns is called by many.
    """

    content_type: str
    malformed_code: str

    def reader(self, shape: Shape, *, payload: bool) -> BodyReader:
        """A reader of a payload member's shape, or of an input shape's unbound members."""
        ...

    def writer(self, operation: OperationModel, shape: Shape, *, payload: bool) -> BodyWriter: ...

    def events(self, output: StructureShape) -> EventWriter: ...

    def fault_writer(self, shape: StructureShape | None) -> Callable[[Fault, str], bytes]:
        """Writes an error's body from the fault, less header-bound members, and the request id."""
        ...

    def headers(self, request_id: str) -> dict[str, str]: ...

    def fault_headers(self, fault: Fault) -> dict[str, str]: ...


@dataclass(frozen=True, slots=True)
class Payload:
    """The member that is the whole body."""

    name: str
    raw: bool  # bytes or text as they are
    text: bool
    always: bool  # present even if the body is empty


@dataclass(frozen=True, slots=True)
class InputPlan:
    bindings: InputBindings
    payload: Payload | None
    read: BodyReader | None  # None where no member is in the body

    def parse(self, request: Request, labels: dict[str, str], query: QueryFields) -> dict[str, Any]:
        found = self.bindings.read(labels, query, request.headers)
        payload = self.payload
        if payload is not None and payload.raw:
            if request.body or payload.always:
                found[payload.name] = text_of(request.body) if payload.text else request.body
        elif self.read is not None:
            body = plain_body(request.headers, request.body)
            if payload is None:
                found |= self.read(body) if body else {}
            elif body:
                found[payload.name] = self.read(body)
        return found


@dataclass(frozen=True, slots=True)
class OutputPlan:
    bindings: OutputBindings
    payload: Payload | None
    write: BodyWriter | None
    events: EventWriter | None
    content_type: str

    def body(self, members: dict[str, Any], headers: dict[str, str]) -> bytes:
        """The body of the unbound members; adds its content type unless a member gave one."""
        data, kind = self._encode(members)
        named = any(name.lower() == "content-type" for name in headers)
        if data and kind and not named:
            headers["Content-Type"] = kind
        return data

    def _encode(self, members: dict[str, Any]) -> tuple[bytes, str]:
        payload = self.payload
        if payload is None:
            if self.write is None:
                if members:
                    raise ValueError(f"the output has no members {sorted(members)}")
                return b"", ""
            return self.write(members), self.content_type
        unknown = members.keys() - {payload.name}
        if unknown:
            raise ValueError(f"the output has no members {sorted(unknown)}")
        value = members.get(payload.name)
        if self.events is not None:
            return self.events.body(members, with_initial=False), EVENT_STREAM
        if value is None:
            return b"", ""
        if payload.raw:
            return raw_bytes(value), "text/plain" if payload.text else "application/octet-stream"
        assert self.write is not None
        return self.write(value), self.content_type


def raw_bytes(value: Any) -> bytes:
    return value.encode() if isinstance(value, str) else write_bytes(value)


def text_of(body: bytes) -> str:
    try:
        return body.decode()
    except UnicodeDecodeError as problem:
        raise Malformed("The request body is not UTF-8") from problem


@dataclass(frozen=True, slots=True)
class OperationPlan:
    model: OperationModel
    source: InputPlan | None
    target: OutputPlan | None


@dataclass(frozen=True, slots=True)
class FaultPlan:
    bindings: OutputBindings | None
    write: Callable[[Fault, str], bytes]


class Rest:
    """One service's REST protocol; see `ServiceWire` for the contract of the methods."""

    def __init__(self, service: ServiceModel, bodies: Bodies) -> None:
        self._service = service
        self._bodies = bodies
        self._routes = Routes(service)
        lock = Lock()
        self._plans: Plans[str, OperationPlan] = Plans(self._plan, lock)
        self._fault_plans: Plans[str, FaultPlan] = Plans(self._fault_plan, lock)

    def operation(self, request: Request) -> OperationModel:
        return self._plans[self._match(request).operation].model

    def parse(self, request: Request) -> tuple[OperationModel, dict[str, Any]]:
        match = self._match(request)
        plan = self._plans[match.operation]
        if plan.source is None:
            return plan.model, {}
        try:
            return plan.model, plan.source.parse(request, match.labels, match.query)
        except Malformed as problem:
            raise self._malformed(problem) from problem
        except RecursionError as problem:
            raise self._malformed("The request body is nested too deeply") from problem

    def serialise(
        self, operation: OperationModel, output: dict[str, Any], request_id: str
    ) -> Response:
        plan = self._plans[operation.name]
        headers = self._bodies.headers(request_id)
        status = int(operation.http.get("responseCode", 200))
        if plan.target is None:
            refuse_members(operation, output)
            return Response(status, headers)
        bound, members = plan.target.bindings.split(output, headers)
        body = plan.target.body(members, headers)
        if status == 204 or operation.http.get("method") == "HEAD":
            body = b""
        return Response(bound or status, headers, body)

    def serialise_error(
        self, operation: OperationModel | None, error: ApiError, request_id: str
    ) -> Response:
        fault = fault_of(self._service, operation, error)
        plan = self._fault_plans[fault.shape.name if fault.shape is not None else ""]
        headers = self._bodies.headers(request_id)
        headers |= self._bodies.fault_headers(fault)
        headers["Content-Type"] = self._bodies.content_type
        if plan.bindings is not None:
            rest = plan.bindings.split(fault.modelled, headers)[1]
            fault = fault.having(rest)
        body = plan.write(fault, request_id)
        # An answer to HEAD has no body; clients see the status alone.
        silent = operation is not None and operation.http.get("method") == "HEAD"
        return Response(fault.status, headers, b"" if silent else body)

    def events(self, operation: OperationModel) -> EventWriter | None:
        target = self._plans[operation.name].target
        return None if target is None else target.events

    def _match(self, request: Request) -> Match:
        try:
            return self._routes.match(request)
        except Malformed as problem:
            raise self._malformed(problem) from problem

    def _malformed(self, problem: Malformed | str) -> ApiError:
        return ApiError(str(problem), code=self._bodies.malformed_code, status=400)

    def _plan(self, name: str) -> OperationPlan:
        model = self._service.operation_model(name)
        source, target = model.input_shape, model.output_shape
        return OperationPlan(
            model,
            None if source is None else input_plan(model, source, self._bodies),
            None if target is None else output_plan(model, target, self._bodies),
        )

    def _fault_plan(self, name: str) -> FaultPlan:
        shape = self._service.shape_for(name) if name else None
        if not isinstance(shape, StructureShape):
            return FaultPlan(None, self._bodies.fault_writer(None))
        return FaultPlan(OutputBindings(shape), self._bodies.fault_writer(shape))


def input_plan(model: OperationModel, shape: StructureShape, bodies: Bodies) -> InputPlan:
    payload = payload_of(shape)
    literals = [name for name, _ in query_literals(str(model.http["requestUri"]))]
    read = None
    if payload is not None and not payload.raw:
        read = bodies.reader(shape.members[payload.name], payload=True)
    elif payload is None and has_body(shape):
        read = bodies.reader(shape, payload=False)
    return InputPlan(InputBindings(shape, literals), payload, read)


def output_plan(model: OperationModel, shape: StructureShape, bodies: Bodies) -> OutputPlan:
    payload = payload_of(shape)
    write = events = None
    if model.has_event_stream_output:
        events = bodies.events(shape)
    elif payload is not None and not payload.raw:
        write = bodies.writer(model, shape.members[payload.name], payload=True)
    elif payload is None and has_body(shape):
        write = bodies.writer(model, shape, payload=False)
    return OutputPlan(OutputBindings(shape), payload, write, events, bodies.content_type)


def payload_of(shape: StructureShape) -> Payload | None:
    name = shape.serialization.get("payload")
    if name is None:
        return None
    member = shape.members[name]
    # The frames of an event stream that comes in are handed on as they are.
    streams = bool(member.serialization.get("eventstream"))
    text = member.type_name == "string"
    raw = streams or text or member.type_name == "blob"
    always = name in shape.required_members or bool(member.serialization.get("streaming"))
    return Payload(str(name), raw, text, always)


def has_body(shape: StructureShape) -> bool:
    return any("location" not in member.serialization for member in shape.members.values())
