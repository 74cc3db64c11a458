"""One HTTP/1.1 request to an external server, over TLS or not, streamed both ways."""

from __future__ import annotations

import asyncio
import contextlib
import ssl
from collections import deque
from collections.abc import AsyncIterator

import httptools

CONNECT_SECONDS = 10.0
SILENCE_SECONDS = 120.0  # of a server that is working on an answer
READ_BYTES = 256 * 1024


class NoAnswer(Exception):
    """The server could not be reached, fell silent or spoke nonsense; `begun` if its answer was under way."""

    def __init__(self, message: str, *, begun: bool = False) -> None:
        super().__init__(message)
        self.begun = begun


class Exchange:
    """A request being sent and its answer being read; made by `exchange`."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer
        self._parser = httptools.HttpResponseParser(self)
        self._pieces: deque[bytes] = deque()
        self._headed = False
        self._complete = False
        self._bodiless = False
        self.begun = False
        self.status = 0
        self.headers: list[tuple[bytes, bytes]] = []

    async def send(self, data: bytes) -> None:
        self._writer.write(data)
        try:
            await self._writer.drain()
        except OSError as problem:
            # It may have refused before the body was through: what it said is read next.
            if not self._reader.at_eof() and not self._writer.is_closing():
                raise NoAnswer(str(problem)) from problem

    async def read_head(self, method: str) -> None:
        self._bodiless = method == "HEAD"
        while not self._headed:
            await self._read()

    async def body(self) -> AsyncIterator[bytes]:
        if self._bodiless or self.status in (204, 304):
            return
        while True:
            while self._pieces:
                yield self._pieces.popleft()
            if self._complete:
                return
            await self._read()

    async def _read(self) -> None:
        try:
            async with asyncio.timeout(SILENCE_SECONDS):
                data = await self._reader.read(READ_BYTES)
            if data:
                self._parser.feed_data(data)
            elif self._headed and not self._framed():
                self._complete = True
            else:
                raise NoAnswer("the connection was closed early", begun=self.begun)
        except (OSError, TimeoutError, httptools.HttpParserError) as problem:
            message = str(problem) or type(problem).__name__
            raise NoAnswer(message, begun=self.begun) from problem

    def _framed(self) -> bool:
        return any(name in (b"content-length", b"transfer-encoding") for name, _ in self.headers)

    # What httptools calls.

    def on_header(self, name: bytes, value: bytes) -> None:
        if not self._headed:
            self.headers.append((name.lower(), value))

    def on_headers_complete(self) -> None:
        self.status = self._parser.get_status_code()
        if self.status < 200:
            self.headers.clear()
        else:
            self._headed = True

    def on_body(self, data: bytes) -> None:
        self._pieces.append(data)

    def on_message_complete(self) -> None:
        if self._headed:
            self._complete = True


@contextlib.asynccontextmanager
async def exchange(host: str, port: int, tls: ssl.SSLContext | None) -> AsyncIterator[Exchange]:
    try:
        async with asyncio.timeout(CONNECT_SECONDS):
            reader, writer = await asyncio.open_connection(
                host, port, ssl=tls, limit=4 * READ_BYTES
            )
    except (OSError, TimeoutError) as problem:
        raise NoAnswer(str(problem) or "the connection timed out") from problem
    try:
        yield Exchange(reader, writer)
    finally:
        writer.close()
        with contextlib.suppress(OSError, TimeoutError):
            async with asyncio.timeout(2):
                await writer.wait_closed()
