"""The warm parent of runners: has their code imported, and forks one in a few milliseconds when asked.

    executor ── R path ──▶ nursery ─fork─▶ runner ── "." once it holds its lock ──▶ executor
      runner ── L recipe ──▶ nursery ─fork─▶ supervisor of the runner's program

What it forks has a session of its own: neither the nursery's end nor that of the process that asked
touches it. The nursery itself ends when it is idle or its socket is removed.
"""

# Paths are plain strings here: they come from and go to system calls.
# ruff: noqa: PTH100, PTH108, PTH116, PTH120

from __future__ import annotations

import contextlib
import gc
import os
import select
import signal
import socket
import struct
import sys
import time
import traceback
from collections.abc import Callable
from typing import NoReturn

from clary.runner import host, huge_pages, namespaces, program, recipe, sockets, supervisor
from clary.runner.parts import MakeParts

IDLE_SECONDS = 900.0
_BACKLOG = 128
_REQUEST_BYTES_MAX = 64 * 1024
_REQUEST_SECONDS_MAX = 5.0
_LOOK_SECONDS = 10.0


def serve(path: str, make_parts: MakeParts, idle_seconds: float = IDLE_SECONDS) -> int:
    """Fork runners until idle; 0 as well when another nursery holds this socket."""
    os.closerange(3, 1024)  # whatever the caller left open would be every runner's
    held = sockets.claim(path)
    if held is None:
        return 0
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    recipe.system_mounts()  # remembered for every fork
    namespaces.be_ready()
    listener = sockets.listen(path, _BACKLOG)
    identity = os.stat(path).st_ino
    gc.collect()
    gc.freeze()
    huge_pages.gather()
    last = time.monotonic()
    while time.monotonic() - last < idle_seconds:
        if not select.select([listener], [], [], min(idle_seconds, _LOOK_SECONDS))[0]:
            if not sockets.is_same(path, identity):
                return 0
            continue
        last = time.monotonic()
        if not sockets.is_same(path, identity):
            idle_seconds = 0.0  # asked to go; whoever connected before is still served
        with contextlib.suppress(OSError):
            connection, _ = listener.accept()
            with connection:
                if _is_own_user(connection) and os.fork() == 0:
                    listener.close()
                    os.close(held)
                    _answer(connection, make_parts, path)
    if sockets.is_same(path, identity):
        os.unlink(path)
    return 0


def _is_own_user(connection: socket.socket) -> bool:
    """Whoever may connect can start work as this user: let in nobody else."""
    if not hasattr(socket, "SO_PEERCRED"):
        return True  # the socket's mode 0600 stands alone
    packed = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12)
    return struct.unpack("3i", packed)[1] == os.geteuid()


def _answer(connection: socket.socket, make_parts: MakeParts, nursery: str) -> NoReturn:
    try:
        connection.settimeout(_REQUEST_SECONDS_MAX)
        word = connection.recv(1)
        if word == program.LAUNCH:
            supervisor.supervise(connection)
        if word == program.RUN:
            _run(connection, make_parts, nursery)
    except BaseException:  # noqa: BLE001  (a forked child must end here)
        traceback.print_exc()
    os._exit(1)


def _run(connection: socket.socket, make_parts: MakeParts, nursery: str) -> NoReturn:
    request = b""
    while not request.endswith(b"\n") and len(request) < _REQUEST_BYTES_MAX:
        piece = connection.recv(4096)
        if not piece:
            raise ValueError("a request ended early")
        request += piece

    def started() -> None:
        with contextlib.suppress(OSError):
            connection.sendall(b".")
        connection.close()

    become_runner(os.fsdecode(request[:-1]), make_parts, started, nursery)


def become_runner(
    path: str, make_parts: MakeParts, started: Callable[[], None], nursery: str = ""
) -> NoReturn:
    """Leave the parent's session and streams, and run one host; the caller was forked for this."""
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    os.setsid()
    directory = os.path.dirname(os.path.abspath(path))
    nothing = os.open(os.devnull, os.O_RDONLY)
    log = os.open(directory + "/runner.log", os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    for source, target in ((nothing, 0), (log, 1), (log, 2)):
        os.dup2(source, target)
    os.close(nothing)
    os.close(log)
    os.umask(0o022)
    with contextlib.suppress(OSError, AttributeError):  # other systems know no subreaper
        namespaces.adopt_orphans()
    code = 1
    try:
        code = host.run(path, make_parts, started, nursery)
    except BaseException:  # noqa: BLE001  (runner.log is where it is looked for)
        traceback.print_exc()
    with contextlib.suppress(OSError, ValueError):
        sys.stderr.flush()
    # Threads that were abandoned (a transfer after a halt) must not keep the runner alive.
    os._exit(code)
