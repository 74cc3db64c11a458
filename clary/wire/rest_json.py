"""REST-JSON bodies: what `rest.py` needs for Lambda, the SageMaker runtimes and their like."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import orjson
from botocore.model import OperationModel, Shape, StructureShape

from clary.wire.event_stream import EventWriter
from clary.wire.faults import Fault
from clary.wire.json_rpc import fault_json, load_json
from clary.wire.rest import BodyReader, BodyWriter
from clary.wire.tree import JSON, TreeReaders, TreeWriters


class JsonBodies:
    content_type = "application/json"
    malformed_code = "SerializationException"

    def __init__(self) -> None:
        self._readers = TreeReaders(JSON)
        self._writers = TreeWriters(JSON)

    def reader(self, shape: Shape, *, payload: bool) -> BodyReader:
        if payload or not isinstance(shape, StructureShape):
            read = self._readers.reader(shape)
        else:
            read = self._readers.body(shape)
        return lambda body: read(load_json(body))

    def writer(self, operation: OperationModel, shape: Shape, *, payload: bool) -> BodyWriter:
        if payload or not isinstance(shape, StructureShape):
            write = self._writers.writer(shape)
        else:
            write = self._writers.body(shape)
        return lambda value: orjson.dumps(write(value))

    def events(self, output: StructureShape) -> EventWriter:
        return EventWriter(output, self._writers.writer, orjson.dumps, self.content_type)

    def fault_writer(self, shape: StructureShape | None) -> Callable[[Fault, str], bytes]:
        writer: Callable[[Any], Any] | None = None if shape is None else self._writers.body(shape)
        return lambda fault, _request_id: fault_json(fault, writer)

    def headers(self, request_id: str) -> dict[str, str]:
        return {"x-amzn-RequestId": request_id}

    def fault_headers(self, fault: Fault) -> dict[str, str]:
        return {"x-amzn-ErrorType": fault.name}
