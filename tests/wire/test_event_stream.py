"""Event streams, with botocore's parser at the other end."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest
from botocore.eventstream import EventStream, EventStreamBuffer
from botocore.exceptions import EventStreamError
from botocore.parsers import PROTOCOL_PARSERS

from clary.wire.coerce import Malformed
from clary.wire.event_stream import (
    EVENT_STREAM,
    decode_messages,
    encode_error,
    encode_message,
)
from clary.wire.protocols import ServiceWire
from tests.wire.samples import model


class Body:
    """What botocore takes a streaming body for."""

    def __init__(self, data: bytes) -> None:
        self._data = data

    def stream(self) -> Any:
        for start in range(0, len(self._data), 7):
            yield self._data[start : start + 7]

    def close(self) -> None:
        self._data = b""


def events_by_botocore(service: str, protocol: str, operation: str, data: bytes) -> Any:
    shape = model(service).operation_model(operation).get_event_stream_output()
    parser = PROTOCOL_PARSERS[protocol].EVENT_STREAM_PARSER_CLS()
    return EventStream(Body(data), shape, parser, operation)


def test_parts_of_a_model_response_reach_botocore() -> None:
    operation = model("sagemaker-runtime").operation_model("InvokeEndpointWithResponseStream")
    wire = ServiceWire(model("sagemaker-runtime")).named("rest-json")
    parts = [{"PayloadPart": {"Bytes": b"one\n"}}, {"PayloadPart": {"Bytes": b"\x00two"}}]
    output = {"Body": parts, "ContentType": "application/json"}
    response = wire.serialise(operation, output, "request-1")
    assert response.headers["Content-Type"] == EVENT_STREAM
    assert response.headers["X-Amzn-SageMaker-Content-Type"] == "application/json"
    name = "InvokeEndpointWithResponseStream"
    assert list(events_by_botocore("sagemaker-runtime", "rest-json", name, response.body)) == parts


def test_an_exception_in_the_stream_is_raised_by_botocore() -> None:
    name = "InvokeEndpointWithResponseStream"
    operation = model("sagemaker-runtime").operation_model(name)
    writer = ServiceWire(model("sagemaker-runtime")).named("rest-json").events(operation)
    assert writer is not None
    data = writer.event("ModelStreamError", {"Message": "died", "ErrorCode": "ModelInvocation"})
    with pytest.raises(EventStreamError, match=r"\(ModelStreamError\).*died"):
        list(events_by_botocore("sagemaker-runtime", "rest-json", name, data))
    with pytest.raises(EventStreamError, match=r"\(InternalFailure\).*gone"):
        stream = encode_error("InternalFailure", "gone")
        list(events_by_botocore("sagemaker-runtime", "rest-json", name, stream))
    with pytest.raises(ValueError, match="Nothing"):
        writer.event("Nothing", {})


def test_a_json_service_begins_its_stream_with_the_initial_response() -> None:
    operation = model("logs").operation_model("StartLiveTail")
    wire = ServiceWire(model("logs")).named("json")
    update = {"sessionResults": [{"message": "é", "timestamp": 5}]}
    response = wire.serialise(operation, {"responseStream": [{"sessionUpdate": update}]}, "r")
    stream = events_by_botocore("logs", "json", "StartLiveTail", response.body)
    assert stream.get_initial_response().payload == b"{}"
    assert list(stream) == [{"sessionUpdate": update}]


def test_select_sends_records_stats_and_an_empty_end() -> None:
    operation = model("s3").operation_model("SelectObjectContent")
    wire = ServiceWire(model("s3")).named("rest-xml")
    events = [
        {"Records": {"Payload": b"1,2\n"}},
        {"Stats": {"Details": {"BytesScanned": 5}}},
        {"End": {}},
    ]
    response = wire.serialise(operation, {"Payload": events}, "r")
    found = list(events_by_botocore("s3", "rest-xml", "SelectObjectContent", response.body))
    assert found == events


HEADERS = {
    "true": True,
    "false": False,
    "int": -5,
    "long": 2**40,
    "text": "é",
    "bytes": b"\x00",
    "time": datetime(2024, 5, 1, 10, 0, 0, 500_000, UTC),
}


def test_every_type_of_header_survives() -> None:
    data = encode_message(HEADERS, b"payload") + encode_message({}, b"")
    first, second = decode_messages(data)
    assert (first.headers, first.payload) == (HEADERS, b"payload")
    assert (second.headers, second.payload) == ({}, b"")
    buffer = EventStreamBuffer()
    buffer.add_data(data)
    assert next(buffer).headers["long"] == 2**40


def test_any_damaged_byte_is_noticed() -> None:
    data = encode_message({"name": "value"}, b"payload")
    for position in range(len(data)):
        damaged = bytearray(data)
        damaged[position] ^= 0x20
        with pytest.raises(Malformed):
            list(decode_messages(bytes(damaged)))
        with pytest.raises(Malformed):
            list(decode_messages(data[:position] or b"\0"))
