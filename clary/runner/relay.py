"""A relay of byte streams between two networks that cannot reach each other: this machine's, and a sandbox's own.

              this machine                      the sandbox's network
    door ──▶ serve.sock ──▶ inward relay ──────────▶ 127.0.0.1:8080, any program's server
    door ◀────────────────── outward relay ◀──────── 127.0.0.1:4510, where the program expects the door

A relay is a small process and knows nothing of HTTP: keep-alive, chunks and upgrades pass as they come.
"""

from __future__ import annotations

import contextlib
import errno
import os
import selectors
import signal
import socket
import time
import traceback
from collections.abc import Callable, Iterable
from typing import NoReturn

from clary.runner import namespaces

CONNECTIONS_MAX = 1000
_PIECE_BYTES = 256 * 1024
_HALF_OPEN_SECONDS_MAX = 120.0
_LOOK_SECONDS = 10.0
_CONNECTING = (0, errno.EINPROGRESS)
_QUICK_ACKNOWLEDGEMENT: int = getattr(socket, "TCP_QUICKACK", 0)  # of Linux

Connect = Callable[[], socket.socket]


def to_port(host: str, port: int) -> Connect:
    """Begin to connect to a port, without waiting for it."""

    def connect() -> socket.socket:
        opened = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET)
        try:
            opened.setblocking(False)
            opened.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            number = opened.connect_ex((host, port))
            if number not in _CONNECTING:
                raise OSError(number, os.strerror(number))
        except BaseException:
            opened.close()
            raise
        return opened

    return connect


def start(listen: Callable[[], socket.socket], connect: Connect, keep: Iterable[int] = ()) -> int:
    """Fork a relay that ends with this process; `listen` is called in it, as are all connects.

    It inherits nothing but the streams of this process and the descriptors in `keep`.
    """
    parent = os.getpid()
    process = os.fork()
    if process == 0:
        try:
            _settle(parent, {0, 1, 2, *keep})
            Relay(listen(), connect).run()
        except BaseException:  # noqa: BLE001  (a forked child must end here)
            traceback.print_exc()
        os._exit(1)
    return process


def _settle(parent: int, kept: set[int]) -> None:
    with contextlib.suppress(OSError, AttributeError):  # other systems have no such signal
        namespaces.die_with_parent()
    if os.getppid() != parent:
        os._exit(1)
    signal.set_wakeup_fd(-1)
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGCHLD):
        signal.signal(number, signal.SIG_DFL)
    signal.signal(signal.SIGPIPE, signal.SIG_IGN)
    before = 3
    for descriptor in [*sorted(kept - {0, 1, 2}), 65536]:
        os.closerange(before, descriptor)
        before = descriptor + 1


class _End:
    """One side of a pair; `waiting` is what it has yet to be sent."""

    def __init__(self, connection: socket.socket, *, connecting: bool) -> None:
        self.connection = connection
        self.connecting = connecting
        self.waiting = memoryview(b"")
        self.has_ended = False  # it said that it will send no more
        self.is_shut = False  # it was told that no more will come
        self.other: _End = self
        self.moved = 0.0
        self.acknowledges = bool(_QUICK_ACKNOWLEDGEMENT) and connection.family != socket.AF_UNIX

    def acknowledge(self) -> None:
        """Servers that write head and body apart wait, for up to 40 ms, until the head is acknowledged."""
        if self.acknowledges:
            self.connection.setsockopt(socket.IPPROTO_TCP, _QUICK_ACKNOWLEDGEMENT, 1)


class Relay:
    """Pairs each connection of a listener with one of its own; one thread, no byte held but those on the way."""

    def __init__(self, listener: socket.socket, connect: Connect) -> None:
        self._listener = listener
        self._connect = connect
        self._selector = selectors.DefaultSelector()
        self._pairs = 0
        self._buffer = bytearray(_PIECE_BYTES)
        self._ends: dict[int, _End] = {}
        listener.setblocking(False)
        self._selector.register(listener, selectors.EVENT_READ)
        self._accepts = True

    def run(self) -> NoReturn:
        swept = time.monotonic()
        while True:
            for key, events in self._selector.select(_LOOK_SECONDS):
                if key.fileobj is self._listener:
                    self._accept()
                    continue
                end = self._ends.get(key.fd)
                if end is not None and end.connection is key.fileobj:
                    self._attend(end, events)
            if time.monotonic() - swept > _LOOK_SECONDS:
                swept = time.monotonic()
                self._sweep(swept - _HALF_OPEN_SECONDS_MAX)

    def _accept(self) -> None:
        try:
            near, _ = self._listener.accept()
        except (BlockingIOError, ConnectionAbortedError):
            return
        except OSError as problem:
            if problem.errno not in (errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM):
                raise
            self._rest()
            return
        try:
            far = self._connect()
        except OSError:
            near.close()
            return
        near.setblocking(False)
        if near.family != socket.AF_UNIX:
            near.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        one, two = _End(near, connecting=False), _End(far, connecting=True)
        one.other, two.other = two, one
        for end in (one, two):
            self._ends[end.connection.fileno()] = end
        self._selector.register(far, selectors.EVENT_WRITE)  # near is heard once far is there
        self._pairs += 1
        if self._pairs >= CONNECTIONS_MAX:
            self._rest()

    def _rest(self) -> None:
        """Further connections wait in the listener's queue until one has ended."""
        if self._accepts and self._pairs:
            self._selector.unregister(self._listener)
            self._accepts = False

    def _attend(self, end: _End, events: int) -> None:
        try:
            if end.connecting:
                number = end.connection.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
                if number:
                    raise OSError(number, os.strerror(number))
                end.connecting = False
                end.acknowledge()
            elif events & selectors.EVENT_WRITE:
                self._send(end)
            if events & selectors.EVENT_READ and not end.has_ended and not end.other.waiting:
                self._receive(end)
            for one in (end, end.other):
                if one.has_ended and not one.other.waiting and not one.other.is_shut:
                    one.other.connection.shutdown(socket.SHUT_WR)
                    one.other.is_shut = True
            if end.has_ended and end.other.has_ended and end.is_shut and end.other.is_shut:
                self._close(end)
                return
            self._watch(end)
            self._watch(end.other)
        except OSError:
            self._close(end)

    def _receive(self, end: _End) -> None:
        try:
            count = end.connection.recv_into(self._buffer)
        except BlockingIOError:
            return
        end.moved = end.other.moved = time.monotonic()
        if not count:
            end.has_ended = True
            return
        end.acknowledge()  # the kernel forgets it with every answer
        try:
            sent = end.other.connection.send(memoryview(self._buffer)[:count])
        except BlockingIOError:
            sent = 0
        if sent < count:
            end.other.waiting = memoryview(bytes(self._buffer[sent:count]))

    def _send(self, end: _End) -> None:
        if end.waiting:
            with contextlib.suppress(BlockingIOError):
                end.waiting = end.waiting[end.connection.send(end.waiting) :]
                end.moved = end.other.moved = time.monotonic()

    def _watch(self, end: _End) -> None:
        """A side is heard only while what it said before has been passed on."""
        wanted = 0
        if not end.has_ended and not end.other.waiting and not end.other.connecting:
            wanted |= selectors.EVENT_READ
        if end.waiting or end.connecting:
            wanted |= selectors.EVENT_WRITE
        known = self._selector.get_map().get(end.connection)
        if known is None:
            if wanted:
                self._selector.register(end.connection, wanted)
        elif not wanted:
            self._selector.unregister(end.connection)
        elif known.events != wanted:
            self._selector.modify(end.connection, wanted)

    def _close(self, end: _End) -> None:
        for one in (end, end.other):
            if one.connection in self._selector.get_map():
                self._selector.unregister(one.connection)
            self._ends.pop(one.connection.fileno(), None)
            one.connection.close()
        self._pairs -= 1
        if not self._accepts:
            self._selector.register(self._listener, selectors.EVENT_READ)
            self._accepts = True

    def _sweep(self, before: float) -> None:
        """Let go of pairs of which one side has ended long ago and the other says nothing."""
        for end in list(self._ends.values()):
            if end.has_ended and end.moved < before and end.connection.fileno() >= 0:
                self._close(end)
