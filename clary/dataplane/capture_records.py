"""The lines of a capture file, exactly as SageMaker writes them, and the name of the file."""

from __future__ import annotations

import base64
import random
import time
from collections.abc import Mapping

import orjson

from clary.dataplane.capture_settings import CaptureSettings
from clary.dataplane.request_ids import unique_id
from clary.dataplane.upstream import Headers

SIDES_REMEMBERED_MAX = 256


# One invocation as it was: its time, the request's body and headers, the answer's body and headers;
# None stands for a body that is not captured. A plain tuple, as one is made for every request.
Record = tuple[float, bytes | None, Mapping[str, str], bytes | None, Headers]


class Lines:
    """Makes the lines of one configuration. All but the data is much the same from line to line, and
    the event loop waits while lines are made: what was encoded once is not encoded again.
    """

    def __init__(self, settings: CaptureSettings) -> None:
        self._settings = settings
        self._sides: dict[tuple[str, str], tuple[bytes, str]] = {}  # start of a side, its encoding
        # By identity: model servers repeat their heads, and those are remembered as one object.
        self._answers: dict[int, tuple[Headers, str, str]] = {}
        self._stamp: tuple[int, bytes] = (-1, b"")
        # Event ids have the form of random UUIDs; those of a file differ in their last digits.
        self._event = unique_id()[:24].encode()
        self._events = random.getrandbits(40)

    def line(self, record: Record) -> bytes:
        moment, given, headers, answer, answer_headers = record
        content_type, attributes = self._answer(answer_headers)
        attributes = attributes or headers.get("x-amzn-sagemaker-custom-attributes", "")
        sides: list[bytes] = []
        if given is not None:
            kind = headers.get("content-type", "")
            sides.append(b'"endpointInput":' + self._side(given, kind, "INPUT"))
        if answer is not None:
            sides.append(b'"endpointOutput":' + self._side(answer, content_type, "OUTPUT"))
        self._events += 1
        event = b'{"eventId":"%b%012x",' % (self._event, self._events)
        if "x-amzn-sagemaker-inference-id" in headers:
            number = orjson.dumps(headers["x-amzn-sagemaker-inference-id"])
            event += b'"inferenceId":%b,' % number
        if attributes:
            event += b'"customAttributes":[%b],' % orjson.dumps(attributes)
        second = int(moment)
        if second != self._stamp[0]:
            stamp = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(second))
            self._stamp = (second, stamp.encode())
        return (
            b'{"captureData":{%b},"eventMetadata":%b"inferenceTime":"%b"},"eventVersion":"0"}\n'
            % (b",".join(sides), event, self._stamp[1])
        )

    def _side(self, content: bytes, content_type: str, mode: str) -> bytes:
        found = self._sides.get((content_type, mode))
        if found is None:
            kind = orjson.dumps(content_type)
            start = b'{"observedContentType":%b,"mode":"%b","data":' % (kind, mode.encode())
            if len(self._sides) >= SIDES_REMEMBERED_MAX:
                self._sides.clear()
            found = (start, self._settings.encoding(content_type))
            self._sides[content_type, mode] = found
        start, encoding = found
        if encoding != "BASE64":
            try:
                data = orjson.dumps(content.decode())
                return b'%b%b,"encoding":"%b"}' % (start, data, encoding.encode())
            except UnicodeDecodeError:
                pass  # what is announced as text but is none can be written in one way only
        return b'%b"%b","encoding":"BASE64"}' % (start, base64.b64encode(content))

    def _answer(self, headers: Headers) -> tuple[str, str]:
        """Content type and custom attributes of an answer's head."""
        found = self._answers.get(id(headers))
        if found is None or found[0] is not headers:
            if len(self._answers) >= SIDES_REMEMBERED_MAX:
                self._answers.clear()
            found = (
                headers,
                _header(headers, b"content-type"),
                _header(headers, b"x-amzn-sagemaker-custom-attributes"),
            )
            self._answers[id(headers)] = found
        return found[1], found[2]


def object_key(prefix: str, endpoint: str, variant: str, when: float) -> str:
    """Below the destination: endpoint/variant/yyyy/mm/dd/hh/MM-SS-mmm-uuid.jsonl, in UTC."""
    moment = time.gmtime(when)
    milliseconds = int(when * 1000) % 1000
    folder = time.strftime("%Y/%m/%d/%H", moment)
    name = f"{moment.tm_min:02d}-{moment.tm_sec:02d}-{milliseconds:03d}-{unique_id()}.jsonl"
    return "/".join([*([prefix] if prefix else []), endpoint, variant, folder, name])


def _header(headers: Headers, name: bytes) -> str:
    return next((value.decode("latin-1") for found, value in headers if found == name), "")
