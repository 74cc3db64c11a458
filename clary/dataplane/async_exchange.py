"""One streamed exchange with a model server: a payload of any size in, an answer of any size out."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Mapping
from pathlib import Path
from typing import IO, BinaryIO

import httptools

from clary.dataplane.upstream import (
    AnswerOverdue,
    CannotConnect,
    ConnectionLost,
    Headers,
    UpstreamFailure,
)

BLOCK_BYTES = 1 << 20
ANSWER_BYTES_MAX = 1 << 30
CONNECT_SECONDS = 2.0


class NotKept(UpstreamFailure):
    """The answer came, and this machine had no place for it."""


class Reply:
    """The answer as it arrives: its body goes to `file`."""

    def __init__(self, file: IO[bytes]) -> None:
        self.file = file
        self.status = 0
        self.headers: Headers = []
        self.size = 0
        self.complete = False
        self._framed = False
        self._pieces: list[bytes] = []
        self._parser = httptools.HttpResponseParser(self)

    def content_type(self) -> str:
        found = (value for name, value in self.headers if name == b"content-type")
        return next(found, b"").decode("latin-1")

    async def feed(self, data: bytes) -> None:
        try:
            self._parser.feed_data(data)
        except (httptools.HttpParserError, httptools.HttpParserUpgrade) as problem:
            raise ConnectionLost(f"the answer is not HTTP: {problem}") from problem
        pieces, self._pieces = self._pieces, []
        if pieces:
            if self.size > ANSWER_BYTES_MAX:
                raise ConnectionLost(f"the answer is longer than {ANSWER_BYTES_MAX} bytes")
            try:
                await asyncio.to_thread(self.file.writelines, pieces)
            except OSError as problem:
                raise NotKept(f"the answer could not be kept: {problem}") from problem

    def end(self) -> None:
        """The connection ended; for an answer without a length that is its end."""
        if not self.complete and (not self.status or self._framed):
            raise ConnectionLost("the connection closed before the answer was complete")
        self.complete = True

    # httptools callbacks

    def on_message_begin(self) -> None:
        self.headers = []

    def on_header(self, name: bytes, value: bytes) -> None:
        name = name.lower()
        self._framed = self._framed or name in (b"content-length", b"transfer-encoding")
        self.headers.append((name, value))

    def on_headers_complete(self) -> None:
        status = self._parser.get_status_code()
        self.status = status if status >= 200 else 0

    def on_body(self, body: bytes) -> None:
        self.size += len(body)
        self._pieces.append(body)

    def on_message_complete(self) -> None:
        self.complete = self.status >= 200


async def exchange(
    socket: Path,
    headers: Mapping[str, str],
    payload: BinaryIO,
    payload_bytes: int,
    answer: IO[bytes],
    *,
    seconds: float,
) -> Reply:
    """Send the payload and receive the answer; raise an UpstreamFailure."""
    try:
        async with asyncio.timeout(CONNECT_SECONDS):
            reader, writer = await asyncio.open_unix_connection(str(socket), limit=BLOCK_BYTES)
    except (OSError, TimeoutError) as problem:
        raise CannotConnect(f"{socket}: {problem or 'timed out'}") from problem
    lines = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
    head = (
        f"POST /invocations HTTP/1.1\r\nhost: model\r\n{lines}"
        f"content-length: {payload_bytes}\r\nconnection: close\r\n\r\n"
    )
    writer.write(head.encode("latin-1"))
    sending = asyncio.create_task(_send(writer, payload))
    try:
        async with asyncio.timeout(seconds):
            return await _receive(reader, answer)
    except TimeoutError as problem:
        raise AnswerOverdue(f"no answer within {seconds:g} s") from problem
    except OSError as problem:
        raise ConnectionLost(f"the connection broke: {problem}") from problem
    finally:
        # A server may refuse a payload before it has all of it; nobody sends the rest then.
        sending.cancel()
        await asyncio.gather(sending, return_exceptions=True)
        writer.close()
        with contextlib.suppress(OSError):
            await writer.wait_closed()


async def _send(writer: asyncio.StreamWriter, payload: BinaryIO) -> None:
    # A connection that breaks here is told by the side that receives.
    with contextlib.suppress(OSError):
        while block := await asyncio.to_thread(payload.read, BLOCK_BYTES):
            writer.write(block)
            await writer.drain()


async def _receive(reader: asyncio.StreamReader, file: IO[bytes]) -> Reply:
    reply = Reply(file)
    while not reply.complete:
        data = await reader.read(BLOCK_BYTES)
        if data:
            await reply.feed(data)
        else:
            reply.end()
    return reply
