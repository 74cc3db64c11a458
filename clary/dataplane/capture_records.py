"""The lines of a capture file, exactly as SageMaker writes them, and the name of the file."""

from __future__ import annotations

import base64
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache

import orjson

from clary.dataplane.capture_settings import CaptureSettings
from clary.dataplane.request_ids import unique_id
from clary.dataplane.upstream import Headers

# The event loop has to wait while a thread encodes, so the thread pauses after a few records.
RECORDS_BETWEEN_PAUSES = 64
BYTES_BETWEEN_PAUSES = 256 * 1024
PAUSE_SECONDS = 0.0005


@dataclass(frozen=True, slots=True)
class Record:
    """One invocation as it was; None stands for a side that is not captured."""

    time: float
    input: bytes | None
    headers: Mapping[str, str]
    output: bytes | None
    answer_headers: Headers


def lines_of(records: Sequence[Record], settings: CaptureSettings) -> bytes:
    """The content of a file. It pauses now and then: whoever calls is a thread of its own."""
    lines: list[bytes] = []
    count, size = 0, 0
    for record in records:
        line = line_of(record, settings)
        lines.append(line)
        count += 1
        size += len(line)
        if count >= RECORDS_BETWEEN_PAUSES or size >= BYTES_BETWEEN_PAUSES:
            count, size = 0, 0
            time.sleep(PAUSE_SECONDS)
    return b"".join(lines)


def line_of(record: Record, settings: CaptureSettings) -> bytes:
    data: dict[str, object] = {}
    headers = record.headers
    if record.input is not None:
        data["endpointInput"] = _side(
            record.input, headers.get("content-type", ""), "INPUT", settings
        )
    if record.output is not None:
        content_type = _header(record.answer_headers, b"content-type")
        data["endpointOutput"] = _side(record.output, content_type, "OUTPUT", settings)
    event: dict[str, object] = {"eventId": unique_id()}
    if "x-amzn-sagemaker-inference-id" in headers:
        event["inferenceId"] = headers["x-amzn-sagemaker-inference-id"]
    attributes = _header(record.answer_headers, b"x-amzn-sagemaker-custom-attributes")
    attributes = attributes or headers.get("x-amzn-sagemaker-custom-attributes", "")
    if attributes:
        event["customAttributes"] = [attributes]
    event["inferenceTime"] = _stamp(int(record.time))
    document = {"captureData": data, "eventMetadata": event, "eventVersion": "0"}
    return orjson.dumps(document) + b"\n"


def object_key(prefix: str, endpoint: str, variant: str, when: float) -> str:
    """Below the destination: endpoint/variant/yyyy/mm/dd/hh/MM-SS-mmm-uuid.jsonl, in UTC."""
    moment = time.gmtime(when)
    milliseconds = int(when * 1000) % 1000
    folder = time.strftime("%Y/%m/%d/%H", moment)
    name = f"{moment.tm_min:02d}-{moment.tm_sec:02d}-{milliseconds:03d}-{unique_id()}.jsonl"
    return "/".join([*([prefix] if prefix else []), endpoint, variant, folder, name])


def _side(content: bytes, content_type: str, mode: str, settings: CaptureSettings) -> object:
    encoding = settings.encoding(content_type)
    data = ""
    if encoding != "BASE64":
        try:
            data = content.decode()
        except UnicodeDecodeError:
            encoding = "BASE64"  # what is announced as text but is none can be written no other way
    if encoding == "BASE64":
        data = base64.b64encode(content).decode()
    return {
        "observedContentType": content_type,
        "mode": mode,
        "data": data,
        "encoding": encoding,
    }


@lru_cache(16)
def _stamp(second: int) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(second))


def _header(headers: Headers, name: bytes) -> str:
    return next((value.decode("latin-1") for found, value in headers if found == name), "")
