"""The lines of a capture file, exactly as SageMaker writes them, and the name of the file."""

from __future__ import annotations

import time
from base64 import b64encode
from collections.abc import Mapping
from dataclasses import dataclass

import orjson

from clary.dataplane.capture_settings import CaptureSettings
from clary.dataplane.request_ids import IdSeries, unique_id
from clary.dataplane.upstream import Headers

SIDES_REMEMBERED_MAX = 256
INFERENCE_ID = "x-amzn-sagemaker-inference-id"
ATTRIBUTES = "x-amzn-sagemaker-custom-attributes"
TOLD = (b"content-type", ATTRIBUTES.encode())


# One invocation as it was: its time, the request's body and headers, the answer's body and headers;
# None stands for a body that is not captured. A plain tuple, as one is made for every request.
Record = tuple[float, bytes | None, Mapping[str, str], bytes | None, Headers]


@dataclass(frozen=True, slots=True)
class Frame:
    """A line but for the data, the number and the time."""

    headers: Headers  # of the answers that it is for
    start: bytes
    reads: bool  # whether the request's body is told as text
    middle: bytes
    tells: bool  # whether the answer's is
    end: bytes
    tail: bytes


class Lines:
    """Makes the lines of one configuration. All but the data is much the same from line to line, and
    the event loop waits while lines are made: what was encoded once is not encoded again.
    """

    def __init__(self, settings: CaptureSettings) -> None:
        self._settings = settings
        # By type and identity: model servers repeat their heads, and those are remembered as one object.
        self._frames: dict[tuple[str, int], Frame] = {}
        self._sides: dict[tuple[str, str], tuple[bytes, str]] = {}  # start of a side, its encoding
        self._stamp: tuple[int, bytes] = (-1, b"")
        self._events = IdSeries()

    def line(self, record: Record) -> bytes:
        moment, given, headers, answer, answer_headers = record
        second = int(moment)
        if second != self._stamp[0]:
            stamp = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(second))
            self._stamp = (second, stamp.encode())
        if given is None or answer is None or INFERENCE_ID in headers or ATTRIBUTES in headers:
            return self._unusual(record)
        kind = headers.get("content-type", "")
        frame = self._frames.get((kind, id(answer_headers)))
        if frame is None or frame.headers is not answer_headers:
            frame = self._frame(kind, answer_headers)
        try:
            return b'%b%b%b%b%b%b%b%b"},"eventVersion":"0"}\n' % (
                frame.start,
                orjson.dumps(given.decode()) if frame.reads else b'"%b"' % b64encode(given),
                frame.middle,
                orjson.dumps(answer.decode()) if frame.tells else b'"%b"' % b64encode(answer),
                frame.end,
                self._events.next(),
                frame.tail,
                self._stamp[1],
            )
        except UnicodeDecodeError:
            return self._unusual(record)

    def _frame(self, kind: str, answer_headers: Headers) -> Frame:
        """What is told of every invocation with these types, around what differs."""
        told, attributes = (_header(answer_headers, name) for name in TOLD)
        given_start, given_encoding = self._start(kind, "INPUT")
        told_start, told_encoding = self._start(told, "OUTPUT")
        extra = b'"customAttributes":[%b],' % orjson.dumps(attributes) if attributes else b""
        frame = Frame(
            headers=answer_headers,
            start=b'{"captureData":{"endpointInput":%b' % given_start,
            reads=given_encoding != "BASE64",
            middle=b',"encoding":"%b"},"endpointOutput":%b' % (given_encoding.encode(), told_start),
            tells=told_encoding != "BASE64",
            end=b',"encoding":"%b"}},"eventMetadata":{"eventId":"' % told_encoding.encode(),
            tail=b'",%b"inferenceTime":"' % extra,
        )
        if len(self._frames) >= SIDES_REMEMBERED_MAX:
            self._frames.clear()
        self._frames[kind, id(answer_headers)] = frame
        return frame

    def _unusual(self, record: Record) -> bytes:
        """A line with anything that is not told of most invocations."""
        _, given, headers, answer, answer_headers = record
        content_type, attributes = (_header(answer_headers, name) for name in TOLD)
        attributes = attributes or headers.get(ATTRIBUTES, "")
        sides: list[bytes] = []
        if given is not None:
            kind = headers.get("content-type", "")
            sides.append(b'"endpointInput":' + self._side(given, kind, "INPUT"))
        if answer is not None:
            sides.append(b'"endpointOutput":' + self._side(answer, content_type, "OUTPUT"))
        event = b'{"eventId":"%b",' % self._events.next()
        if INFERENCE_ID in headers:
            event += b'"inferenceId":%b,' % orjson.dumps(headers[INFERENCE_ID])
        if attributes:
            event += b'"customAttributes":[%b],' % orjson.dumps(attributes)
        return (
            b'{"captureData":{%b},"eventMetadata":%b"inferenceTime":"%b"},"eventVersion":"0"}\n'
            % (b",".join(sides), event, self._stamp[1])
        )

    def _side(self, content: bytes, content_type: str, mode: str) -> bytes:
        start, encoding = self._start(content_type, mode)
        if encoding != "BASE64":
            try:
                data = orjson.dumps(content.decode())
                return b'%b%b,"encoding":"%b"}' % (start, data, encoding.encode())
            except UnicodeDecodeError:
                pass  # what is announced as text but is none can be written in one way only
        return b'%b"%b","encoding":"BASE64"}' % (start, b64encode(content))

    def _start(self, content_type: str, mode: str) -> tuple[bytes, str]:
        """A side up to its data, and how these are to be encoded."""
        found = self._sides.get((content_type, mode))
        if found is None:
            kind = orjson.dumps(content_type)
            start = b'{"observedContentType":%b,"mode":"%b","data":' % (kind, mode.encode())
            if len(self._sides) >= SIDES_REMEMBERED_MAX:
                self._sides.clear()
            found = self._sides[content_type, mode] = (start, self._settings.encoding(content_type))
        return found


def object_key(prefix: str, endpoint: str, variant: str, when: float) -> str:
    """Below the destination: endpoint/variant/yyyy/mm/dd/hh/MM-SS-mmm-uuid.jsonl, in UTC."""
    moment = time.gmtime(when)
    milliseconds = int(when * 1000) % 1000
    folder = time.strftime("%Y/%m/%d/%H", moment)
    name = f"{moment.tm_min:02d}-{moment.tm_sec:02d}-{milliseconds:03d}-{unique_id()}.jsonl"
    return "/".join([*([prefix] if prefix else []), endpoint, variant, folder, name])


def _header(headers: Headers, name: bytes) -> str:
    return next((value.decode("latin-1") for found, value in headers if found == name), "")
