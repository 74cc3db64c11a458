"""Blind tunnels: bytes of a CONNECT to a host that is not ours, passed both ways unread."""

from __future__ import annotations

import asyncio
import base64
import re
from typing import cast
from urllib.parse import SplitResult, unquote

CONNECT_SECONDS = 10.0
ANSWER_BYTES_MAX = 16 * 1024
PROXY_STATUS = re.compile(rb"HTTP/1\.[01] (\d{3})")


class Splice(asyncio.Protocol):
    """One end of a tunnel: what arrives is written to the other end, at its pace."""

    def __init__(self) -> None:
        self.transport: asyncio.Transport
        self.other: Splice | None = None
        self.early = bytearray()
        self.ended = False
        self.tunnels: Tunnels | None = None
        self.first_bytes: asyncio.Future[None] | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        if self.other is not None:
            self.other.transport.write(data)
            return
        self.early += data
        if self.first_bytes is not None and not self.first_bytes.done():
            self.first_bytes.set_result(None)

    def eof_received(self) -> bool:
        """Pass a half-close on; the tunnel ends when both sides have said theirs."""
        self.ended = True
        other = self.other
        if other is None or other.ended or not other.transport.can_write_eof():
            return False
        other.transport.write_eof()
        return True

    def connection_lost(self, exc: Exception | None) -> None:
        if self.first_bytes is not None and not self.first_bytes.done():
            self.first_bytes.set_exception(exc or ConnectionResetError("closed"))
        other, self.other = self.other, None
        if other is not None:
            other.other = None
            other.transport.close()
            if self.tunnels is not None:
                self.tunnels.forget(self, other)

    def pause_writing(self) -> None:
        if self.other is not None:
            self.other.transport.pause_reading()

    def resume_writing(self) -> None:
        if self.other is not None:
            self.other.transport.resume_reading()


class Tunnels:
    """Every open tunnel, and whether strangers' hosts may be reached at all."""

    def __init__(self, *, allowed: bool, upstream_proxy: SplitResult | None = None) -> None:
        self.allowed = allowed
        self.upstream_proxy = upstream_proxy
        self._ends: set[Splice] = set()

    @property
    def open(self) -> int:
        return len(self._ends) // 2

    async def dial(self, host: str, port: int) -> Splice:
        """Reach the host as any program on this machine would: directly, or through its proxy."""
        loop = asyncio.get_running_loop()
        proxy = self.upstream_proxy
        async with asyncio.timeout(CONNECT_SECONDS):
            if proxy is None:
                _, far = await loop.create_connection(Splice, host, port)
                return far
            _, far = await loop.create_connection(Splice, proxy.hostname or "", proxy.port or 80)
            try:
                await self._ask_proxy(far, proxy, host, port)
            except BaseException:
                far.transport.abort()
                raise
            return far

    async def _ask_proxy(self, far: Splice, proxy: SplitResult, host: str, port: int) -> None:
        target = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
        lines = [f"CONNECT {target} HTTP/1.1", f"Host: {target}"]
        if proxy.username:
            pair = f"{unquote(proxy.username)}:{unquote(proxy.password or '')}"
            lines.append("Proxy-Authorization: Basic " + base64.b64encode(pair.encode()).decode())
        far.transport.write("\r\n".join([*lines, "", ""]).encode())
        while b"\r\n\r\n" not in far.early:
            if len(far.early) > ANSWER_BYTES_MAX:
                raise ConnectionRefusedError("the proxy of this machine sent an endless answer")
            far.first_bytes = asyncio.get_running_loop().create_future()
            await far.first_bytes
        far.first_bytes = None
        status = PROXY_STATUS.match(far.early)
        if status is None or status[1] != b"200":
            said = status[1].decode() if status else "nothing sensible"
            raise ConnectionRefusedError(f"the proxy of this machine answered {said}")
        del far.early[: far.early.index(b"\r\n\r\n") + 4]

    def join(self, near: asyncio.Transport, far: Splice, early: bytes) -> None:
        """Splice a client's transport and a dialled connection; `early` goes out first."""
        end = Splice()
        end.connection_made(near)
        end.other, far.other = far, end
        end.tunnels = far.tunnels = self
        self._ends |= {end, far}
        near.set_protocol(end)
        if far.early:
            near.write(bytes(far.early))
            far.early.clear()
        if early:
            far.transport.write(early)
        near.resume_reading()

    def forget(self, *ends: Splice) -> None:
        self._ends.difference_update(ends)

    def close(self) -> None:
        for end in list(self._ends):
            end.transport.abort()
