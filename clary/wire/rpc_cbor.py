"""Smithy RPC v2 CBOR: the operation in the path, one CBOR map each way."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import datetime
from threading import Lock
from typing import Any

from botocore.model import OperationModel, OperationNotFoundError, ServiceModel, Shape

from clary.model.errors import ApiError, UnknownOperationException
from clary.wire.bodies import plain_body
from clary.wire.cbor import dumps, loads
from clary.wire.coerce import Malformed, mismatch, write_bytes, write_float
from clary.wire.event_stream import EVENT_STREAM, EventWriter
from clary.wire.faults import fault_of
from clary.wire.http import Request, Response
from clary.wire.json_rpc import fault_tree, query_error_header, refuse_members
from clary.wire.plans import Plans
from clary.wire.timestamps import from_epoch, moment
from clary.wire.tree import Format, Reader, TreeReaders, TreeWriters, Writer

PATH = re.compile(r"/service/[^/]+/operation/([A-Za-z0-9_]+)/?")
HEADERS = {"Content-Type": "application/cbor", "smithy-protocol": "rpc-v2-cbor"}


def read_blob(value: Any) -> bytes:
    if type(value) is bytes:
        return value
    raise mismatch(value, "a Blob")


def read_timestamp(value: Any) -> datetime:
    if isinstance(value, datetime):
        return value
    if type(value) is int or type(value) is float:
        return from_epoch(value)
    raise mismatch(value, "a Timestamp")


def timestamp_writer(_shape: Shape) -> Writer:
    return moment


CBOR = Format(read_blob, read_timestamp, write_bytes, write_float, timestamp_writer)


@dataclass(frozen=True, slots=True)
class OperationPlan:
    model: OperationModel
    read: Reader | None
    write: Writer | None
    events: EventWriter | None


class RpcCbor:
    """One service's CBOR protocol; see `ServiceWire` for the contract of the methods."""

    def __init__(self, service: ServiceModel) -> None:
        self._service = service
        self._readers = TreeReaders(CBOR)
        self._writers = TreeWriters(CBOR)
        lock = Lock()
        self._plans: Plans[str, OperationPlan] = Plans(self._plan, lock)
        self._fault_writers: Plans[str, Writer] = Plans(self._fault_writer, lock)

    def operation(self, request: Request) -> OperationModel:
        return self._requested(request).model

    def parse(self, request: Request) -> tuple[OperationModel, dict[str, Any]]:
        plan = self._requested(request)
        try:
            body = plain_body(request.headers, request.body)
            # An operation without input is called with no body at all.
            tree = loads(body) if body else {}
            if type(tree) is not dict:
                raise mismatch(tree, "a map")
            return plan.model, {} if plan.read is None else plan.read(tree)
        except Malformed as problem:
            raise ApiError(str(problem), code="SerializationException", status=400) from problem

    def serialise(
        self, operation: OperationModel, output: dict[str, Any], request_id: str
    ) -> Response:
        plan = self._plans[operation.name]
        headers = {"x-amzn-RequestId": request_id, **HEADERS}
        if plan.events is not None:
            headers["Content-Type"] = EVENT_STREAM
            return Response(200, headers, plan.events.body(output, with_initial=True))
        if plan.write is None:
            refuse_members(operation, output)
            return Response(200, headers, dumps({}))
        return Response(200, headers, dumps(plan.write(output)))

    def serialise_error(
        self, operation: OperationModel | None, error: ApiError, request_id: str
    ) -> Response:
        fault = fault_of(self._service, operation, error)
        headers = {"x-amzn-RequestId": request_id, **HEADERS}
        headers |= query_error_header(self._service, fault)
        writer = None if fault.shape is None else self._fault_writers[fault.shape.name]
        return Response(fault.status, headers, dumps(fault_tree(fault, writer)))

    def events(self, operation: OperationModel) -> EventWriter | None:
        return self._plans[operation.name].events

    def _requested(self, request: Request) -> OperationPlan:
        found = PATH.fullmatch(request.path)
        try:
            if found is not None:
                return self._plans[found[1]]
        except OperationNotFoundError as problem:
            raise unknown(self._service, request) from problem
        raise unknown(self._service, request)

    def _plan(self, name: str) -> OperationPlan:
        model = self._service.operation_model(name)
        source, target = model.input_shape, model.output_shape
        events = None
        if target is not None and model.has_event_stream_output:
            events = EventWriter(target, self._writers.writer, dumps, "application/cbor")
        return OperationPlan(
            model=model,
            read=None if source is None else self._readers.reader(source),
            write=None if target is None or events else self._writers.writer(target),
            events=events,
        )

    def _fault_writer(self, name: str) -> Writer:
        return self._writers.writer(self._service.shape_for(name))


def unknown(service: ServiceModel, request: Request) -> UnknownOperationException:
    return UnknownOperationException(
        f"{service.service_name} has no operation at {request.path[:200]}", status=404
    )
