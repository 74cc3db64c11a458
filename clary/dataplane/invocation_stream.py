"""The body of InvokeEndpointWithResponseStream: a container's pieces, framed as events."""

from __future__ import annotations

import json

from clary.dataplane.answers import Headers, Send
from clary.dataplane.upstream import Answer, AnswerOverdue, UpstreamFailure
from clary.wire.event_stream import EVENT_STREAM, encode_message

STREAM_SECONDS_MAX = 8 * 60.0  # SageMaker's bound on a whole stream
PART_BYTES_MAX = 1024 * 1024
PART_HEADERS = {
    ":message-type": "event",
    ":event-type": "PayloadPart",
    ":content-type": "application/octet-stream",
}
ERROR_HEADERS = {
    ":message-type": "exception",
    ":exception-type": "ModelStreamError",
    ":content-type": "application/json",
}


async def send_stream(answer: Answer, headers: Headers, send: Send) -> bool:
    """Send the stream to its end; False if the container broke it off, which the client is told."""
    renamed: Headers = [
        (b"x-amzn-sagemaker-content-type" if name == b"content-type" else name, value)
        for name, value in headers
    ]
    renamed.append((b"content-type", EVENT_STREAM.encode()))
    await send({"type": "http.response.start", "status": 200, "headers": renamed})
    whole = True
    try:
        while piece := await answer.chunk():
            for start in range(0, len(piece), PART_BYTES_MAX):
                frame = encode_message(PART_HEADERS, piece[start : start + PART_BYTES_MAX])
                await send({"type": "http.response.body", "body": frame, "more_body": True})
    except UpstreamFailure as problem:
        whole = False
        await send({"type": "http.response.body", "body": _error(problem), "more_body": True})
    finally:
        answer.abandon()
    await send({"type": "http.response.body", "body": b""})
    return whole


def _error(problem: UpstreamFailure) -> bytes:
    late = isinstance(problem, AnswerOverdue)
    document = {
        "ErrorCode": "ModelInvocationTimeExceeded" if late else "StreamBroken",
        "Message": str(problem),
    }
    return encode_message(ERROR_HEADERS, json.dumps(document).encode())
