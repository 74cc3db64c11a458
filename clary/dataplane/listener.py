"""The one public port: a connection's first bytes tell HTTP, HTTPS and proxy requests apart.

0x16 .............. TLS at once ......... decrypt, then HTTP          (clients that map DNS names)
"CONNECT aws:443" . we are that host .... 200, TLS, then HTTP         (clients with HTTPS_PROXY)
"CONNECT other" ... not ours ............ 403, or a blind tunnel      (pip in the same shell)
anything else ..... HTTP
"""

from __future__ import annotations

import asyncio
import logging
import re
import socket
import ssl
from collections.abc import Coroutine
from typing import Any, cast

from clary.dataplane.authority import Authority, is_aws_host
from clary.dataplane.connections import Connections
from clary.dataplane.tunnel import Splice, Tunnels

log = logging.getLogger(__name__)

CONNECTIONS_MAX = 4096
CONNECT_HEAD_BYTES_MAX = 8 * 1024
FIRST_BYTES_SECONDS = 30.0
HANDSHAKE_SECONDS = 15.0
TLS_HANDSHAKE = 0x16
CONNECT = b"CONNECT "
CONNECT_LINE = re.compile(
    rb"CONNECT (\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9._-]+):(\d{1,5}) HTTP/1\.[01]\r\n"
)


class Listener:
    """What all client connections share."""

    def __init__(self, connections: Connections, authority: Authority, tunnels: Tunnels) -> None:
        self.connections = connections
        self.tunnels = tunnels
        self.context = authority.server_context()
        self.undecided = 0  # connections whose first bytes have not told what they are
        self._tasks: set[asyncio.Task[None]] = set()

    def __call__(self) -> FirstBytes:
        return FirstBytes(self)

    def start(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._done)

    def count(self) -> int:
        """Every client connection of this process."""
        decided = len(self.connections.state.connections) + self.tunnels.open
        return decided + self.undecided

    def close(self) -> None:
        for task in self._tasks:
            task.cancel()
        self.tunnels.close()

    def _done(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (problem := task.exception()) is not None:
            log.error("a client connection failed", exc_info=problem)


class FirstBytes(asyncio.Protocol):
    """A connection whose protocol is not known yet; it hands over as soon as it is."""

    def __init__(self, listener: Listener) -> None:
        self.listener = listener
        self.transport: asyncio.Transport
        self.received = bytearray()
        self.handshaking = False
        self.lost = False
        self.decided = False
        self.timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)
        self.listener.undecided += 1
        if self.listener.count() > CONNECTIONS_MAX:
            self.transport.abort()
            return
        loop = asyncio.get_running_loop()
        self.timer = loop.call_later(FIRST_BYTES_SECONDS, self.transport.abort)

    def connection_lost(self, exc: Exception | None) -> None:
        self.lost = True
        self._stop_timer()
        self._decide()

    def data_received(self, data: bytes) -> None:
        self.received += data
        if self.handshaking:
            return
        if self.received[0] == TLS_HANDSHAKE:
            self._stop_timer()
            self.transport.pause_reading()
            self.listener.start(self._unwrap())
        elif self.received.startswith(CONNECT):
            self._connect()
        elif not CONNECT.startswith(self.received):
            self._hand_over(self.transport, peer=None)

    def _decide(self) -> None:
        """Another protocol counts this connection from here on, or nobody does."""
        if not self.decided:
            self.decided = True
            self.listener.undecided -= 1

    def _stop_timer(self) -> None:
        if self.timer is not None:
            self.timer.cancel()
            self.timer = None

    def _hand_over(self, transport: asyncio.Transport, *, peer: tuple[str, int] | None) -> None:
        self._stop_timer()
        self._decide()
        http = self.listener.connections.make(peer)
        transport.set_protocol(http)
        http.connection_made(transport)
        if self.received:
            http.data_received(bytes(self.received))

    def _connect(self) -> None:
        end = self.received.find(b"\r\n\r\n")
        if end < 0:
            if len(self.received) > CONNECT_HEAD_BYTES_MAX:
                self._refuse(431, "The proxy request is too large.")
            return
        self._stop_timer()
        request = CONNECT_LINE.match(self.received)
        if request is None:
            self._refuse(400, "The proxy request names no host and port.")
            return
        host, port = request[1].decode().lower().strip("[]"), int(request[2])
        early = bytes(self.received[end + 4 :])
        self.received.clear()
        if is_aws_host(host):
            if port != 443 or early:
                self._refuse(403, "Clary answers for AWS hosts on port 443 only.")
                return
            self.handshaking = True
            self.transport.write(b"HTTP/1.1 200 Connection established\r\n\r\n")
            self.listener.start(self._terminate())
        elif not self.listener.tunnels.allowed:
            self._refuse(403, f"Clary answers for AWS hosts only and does not pass {host} through.")
        else:
            self.handshaking = True
            self.transport.pause_reading()
            self.listener.start(self._tunnel(host, port, early))

    def _refuse(self, status: int, text: str) -> None:
        body = (text + "\n").encode()
        self.transport.write(
            b"HTTP/1.1 %d Refused\r\ncontent-type: text/plain\r\ncontent-length: %d\r\n"
            b"connection: close\r\n\r\n%s" % (status, len(body), body)
        )
        self.transport.close()

    async def _terminate(self) -> None:
        """Become the AWS host: TLS with its certificate, then HTTP."""
        loop = asyncio.get_running_loop()
        try:
            # This object stays the protocol during the handshake: it keeps request bytes that
            # arrive together with the end of the handshake.
            wrapped = await loop.start_tls(
                self.transport,
                self,
                self.listener.context,
                server_side=True,
                ssl_handshake_timeout=HANDSHAKE_SECONDS,
            )
        except (OSError, ssl.SSLError) as problem:
            log.info("a TLS handshake failed: %s", problem)
            self.transport.abort()
            return
        if wrapped is None or self.lost:
            return
        self._hand_over(wrapped, peer=None)

    async def _tunnel(self, host: str, port: int, early: bytes) -> None:
        try:
            far = await self.listener.tunnels.dial(host, port)
        except (OSError, TimeoutError) as problem:
            self._refuse(502, f"Clary cannot reach {host}:{port}: {problem or 'timed out'}.")
            return
        if self.lost:
            far.transport.abort()
            return
        self.transport.write(b"HTTP/1.1 200 Connection established\r\n\r\n")
        self._decide()
        self.listener.tunnels.join(self.transport, far, early)

    async def _unwrap(self) -> None:
        """Serve a client that opens with TLS, spliced to a TLS server inside this process.

        The bytes read already cannot be given back to the event loop, hence the inner socket pair.
        """
        loop = asyncio.get_running_loop()
        peer = self.transport.get_extra_info("peername")
        inner, outer = socket.socketpair()
        try:
            _, far = await loop.create_connection(Splice, sock=outer)
        except OSError:
            inner.close()
            outer.close()
            raise
        self._decide()
        self.listener.tunnels.join(self.transport, far, bytes(self.received))
        http = self.listener.connections.make((peer[0], peer[1]) if peer else None)
        try:
            await loop.connect_accepted_socket(
                lambda: http,
                inner,
                ssl=self.listener.context,
                ssl_handshake_timeout=HANDSHAKE_SECONDS,
            )
        except (OSError, ssl.SSLError) as problem:
            log.info("a TLS handshake failed: %s", problem)
            far.transport.abort()
