"""FastFile channels: a program reads objects as files, and what it reads is fetched as it reads.

    program ── read ──▶ kernel (page cache) ── request ──▶ runner ── GET of a range ──▶ door

The objects are listed before the program starts and not touched; the listing is what the program sees to
its end. A few threads for each mount answer requests and never wait for the network: what must be fetched
is answered by whoever fetched it (see `fast_files_spans`).
"""

from __future__ import annotations

import contextlib
import errno
import os
import socket
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

from . import channel as handover
from . import fast_files_mount, fast_files_protocol, sockets
from .credentials import Provider
from .fast_files_protocol import Request
from .fast_files_spans import Object, Spans
from .fast_files_tree import Tree
from .manifests import check_for_clashes, items_of
from .s3 import S3
from .spec import HostSpec

PATIENCE_SECONDS = 60.0
ANSWER_SECONDS = 20.0
SENTENCES_MAX = 50
THREADS = 3  # for each mount: one may wait for a disk
STAGED = (
    "Channel {name}: FastFile input is staged as File here: its objects were downloaded before the "
    "program starts, and are plain files. {why}"
)
_LOOK_SECONDS = 0.5
_JOIN_SECONDS = 0.5
_HAND_OVER_SECONDS_MAX = 10.0
_BACKLOG = 32


def notes(spec: HostSpec) -> list[str]:
    """What the job's log says of FastFile channels that are downloaded after all."""
    if not spec.no_fast_files:
        return []
    staged = [one.name for one in spec.inputs if one.mode == "FastFile"]
    return [STAGED.format(name=name, why=spec.no_fast_files) for name in staged]


class FastFiles:
    """The FastFile channels of one host. `say` hears what the user must know, a line at a time."""

    def __init__(
        self, spec: HostSpec, say: Callable[[str], None], stopping: threading.Event
    ) -> None:
        self._spec = spec
        self._say = say
        self._stopping = stopping
        self._said: set[str] = set()
        self._names = fast_files_mount.streamed(spec)
        self._mounts: dict[str, tuple[Tree, list[Object | None]]] = {}
        self._listener: socket.socket | None = None
        self._ended = threading.Event()
        # A read must end some time, so this is less patient than a download.
        self._spans = Spans(self._connect(), self._say_once)

    def _connect(self) -> S3:
        spec = self._spec
        return S3(
            spec.endpoint_url,
            spec.region,
            Provider(spec, "role"),
            patience_seconds=PATIENCE_SECONDS,
            answer_seconds=ANSWER_SECONDS,
        )

    @property
    def fetched(self) -> int:
        """Bytes that have come over the network."""
        return self._spans.fetched

    def list_objects(self, s3: S3) -> None:
        """List the objects of every channel; raises what `manifests.items_of` raises."""
        for one in self._spec.inputs:
            if one.name in self._names:
                items = items_of(self._spec, s3, one)
                check_for_clashes(items, f"channel {one.name}")
                tree = Tree(items, time.time())
                self._mounts[one.name] = (
                    tree,
                    [
                        None if node.item is None else Object(one.name, node.item)
                        for node in tree.nodes
                    ],
                )

    def start(self) -> None:
        """Listen for mounts; call it before the program starts."""
        if self._names:
            path = str(self._spec.directory / fast_files_mount.SOCKET)
            self._listener = sockets.listen(path, _BACKLOG)
            threading.Thread(target=self._accept, name="fast-files", daemon=True).start()

    def stop(self) -> None:
        """Answer no more; the program has ended, and its mounts with it."""
        self._ended.set()
        self._spans.close()
        self._spans.join(_JOIN_SECONDS)
        if self._listener is not None:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(self._spec.directory / fast_files_mount.SOCKET)  # noqa: PTH108

    def _accept(self) -> None:
        """Take mounts over as they are made, until the host ends or its program is to be killed."""
        assert self._listener is not None
        self._listener.settimeout(_LOOK_SECONDS)
        with self._listener:
            while not self._ended.is_set() and not self._stopping.is_set():
                try:
                    self._take(self._listener.accept()[0])
                except socket.timeout:  # noqa: UP041 - another class before 3.10
                    continue
                except (OSError, ValueError, RuntimeError) as problem:
                    print(f"a channel could not be taken over: {problem}", file=sys.stderr)
                    self._ended.wait(_LOOK_SECONDS)
        # A process cannot be killed while it waits for an answer.
        self._spans.close()

    def _take(self, connection: socket.socket) -> None:
        with connection:
            connection.settimeout(_HAND_OVER_SECONDS_MAX)
            said, (descriptor,) = handover.receive_recipe(connection, 1)
        tree, objects = self._mounts[said["channel"]]
        # Should no thread start, the descriptor is closed, and the program hears so at once.
        _Mount(descriptor, said["device"], tree, objects, self._spans).start()

    def _say_once(self, sentence: str) -> None:
        """A reader that tries again and again must not fill the log."""
        if sentence not in self._said and len(self._said) < SENTENCES_MAX:
            self._said.add(sentence)
            self._say(sentence)


class _Mount:
    """One mounted channel, from its first request to the end of its namespace."""

    def __init__(
        self,
        descriptor: int,
        device: str,
        tree: Tree,
        objects: list[Object | None],
        spans: Spans,
    ) -> None:
        self._descriptor = descriptor
        self._device = device
        self._tree = tree
        self._objects = objects
        self._spans = spans
        self._needs_no_open = False
        self._guard = threading.Lock()
        self._users = 0  # of the descriptor: every thread, and every read that is unanswered
        self._answers: dict[int, Callable[[Request], bytes]] = {
            fast_files_protocol.INIT: self._greet,
            fast_files_protocol.LOOKUP: self._look_up,
            fast_files_protocol.GETATTR: self._attributes,
            fast_files_protocol.OPEN: lambda _: self._open(folder=False),
            fast_files_protocol.OPENDIR: lambda _: self._open(folder=True),
            fast_files_protocol.READDIRPLUS: self._list,
            fast_files_protocol.STATFS: lambda _: fast_files_protocol.statistics(
                len(self._objects), self._tree.size
            ),
            fast_files_protocol.RELEASE: lambda _: b"",
            fast_files_protocol.RELEASEDIR: lambda _: b"",
        }

    def start(self) -> None:
        self._users = THREADS
        started = 0
        try:
            for _ in range(THREADS):
                threading.Thread(target=self._serve, name="fast-files", daemon=True).start()
                started += 1
        finally:
            for _ in range(THREADS - started):
                self._let_go()

    def _serve(self) -> None:
        """Answer until the mount is gone."""
        unanswered = (fast_files_protocol.FORGET, fast_files_protocol.BATCH_FORGET)
        try:
            while True:
                try:
                    message = os.read(self._descriptor, fast_files_protocol.REQUEST_BYTES_MAX)
                except OSError as problem:
                    if problem.errno in (errno.ENOENT, errno.EINTR, errno.EAGAIN):
                        continue  # what was asked was called off meanwhile
                    return  # ENODEV: the last process that could ask is gone
                request = fast_files_protocol.parse(message)
                if request.operation == fast_files_protocol.READ:
                    self._read(request)
                elif request.operation not in unanswered:
                    self._send([self._answer(request)])
        finally:
            self._let_go()

    def _let_go(self) -> None:
        with self._guard:
            self._users -= 1
            is_last = not self._users
        if is_last:
            os.close(self._descriptor)

    def _answer(self, request: Request) -> bytes:
        answer = self._answers.get(request.operation)
        if answer is None:
            return fast_files_protocol.refusal(request.unique, errno.ENOSYS)
        try:
            return fast_files_protocol.answer(request.unique, answer(request))
        except OSError as problem:
            return fast_files_protocol.refusal(request.unique, problem.errno or errno.EIO)

    def _send(self, parts: list[bytes | memoryview]) -> None:
        with contextlib.suppress(OSError):  # whoever asked is gone
            os.writev(self._descriptor, parts)

    def _greet(self, request: Request) -> bytes:
        try:
            greeting, self._needs_no_open = fast_files_protocol.greeting(request.body)
        except fast_files_protocol.ProtocolRefusal as problem:
            raise OSError(errno.EPROTO, str(problem)) from problem
        ahead = fast_files_protocol.AHEAD_BYTES_MAX // 1024
        with contextlib.suppress(OSError):  # root alone may; it costs others some speed
            Path(f"/sys/class/bdi/{self._device}/read_ahead_kb").write_text(f"{ahead}\n")
        return greeting

    def _look_up(self, request: Request) -> bytes:
        folder = self._tree.node(request.node)
        found = folder.children.get(fast_files_protocol.name_of(request.body))
        if found is None:
            return fast_files_protocol.absent()
        return fast_files_protocol.entry(self._tree.shown(found))

    def _attributes(self, request: Request) -> bytes:
        return fast_files_protocol.attributes(self._tree.shown(self._tree.node(request.node)))

    def _open(self, *, folder: bool) -> bytes:
        if self._needs_no_open:
            raise OSError(errno.ENOSYS, "open is not needed")
        return fast_files_protocol.opened(folder=folder)

    def _list(self, request: Request) -> bytes:
        offset, room = fast_files_protocol.range_of(request.body)
        return self._tree.listing(self._tree.node(request.node), offset, room)

    def _read(self, request: Request) -> None:
        whole = self._objects[request.node - fast_files_protocol.ROOT]
        offset, size = fast_files_protocol.range_of(request.body)

        def deliver(pieces: list[memoryview], number: int) -> None:
            if number:
                self._send([fast_files_protocol.refusal(request.unique, number)])
            else:
                length = sum(len(piece) for piece in pieces)
                self._send([fast_files_protocol.head(request.unique, length), *pieces])
            self._let_go()

        with self._guard:
            self._users += 1
        if whole is None:
            deliver([], errno.EISDIR)
        else:
            self._spans.read(whole, offset, size, deliver)
