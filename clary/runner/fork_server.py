"""The warm parent of an environment: imports its heavy packages once, then forks itself for every program.

It runs as a script under the environment's own Python, which need not have Clary installed:

    <prefix>/bin/python .../clary/runner/fork_server.py --socket S --preload numpy,pandas,sklearn

Every connection is one program. Its supervisor has made the namespaces and their process 1, and passes
descriptors of them; a fork of the server enters them before any user code runs. See `channel` for what is
said, and `supervisor` for who asks.
"""

# Paths are plain strings here: they come from and go to system calls.
# ruff: noqa: E402, PTH100, PTH108, PTH116, PTH120, PTH208

from __future__ import annotations

import os

# Numeric libraries read these while they load. Threads do not survive a fork, so none may exist.
_THREADLESS = {
    "OPENBLAS_NUM_THREADS": "1",
    "OMP_NUM_THREADS": "1",
    "MKL_NUM_THREADS": "1",
    # Threads that wait for one another sleep: on a busy machine they would burn its processors.
    "GOMP_SPINCOUNT": "0",
    "JE_ARROW_MALLOC_CONF": "background_thread:false",  # the allocator inside pyarrow
}
if __name__ == "__main__":
    os.environ.update(_THREADLESS)

import argparse
import contextlib
import gc
import importlib
import json
import resource
import select
import signal
import socket
import struct
import sys
import time
from typing import Any, NoReturn

if __name__ == "__main__":
    # The folder of this file holds modules named `logs` or `host`; a program must not find them.
    sys.path[0] = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))

from clary.runner import channel, huge_pages, init, namespaces, python_program, sockets
from clary.runner.starting import Outlets, execute, last_words, settle

# jemalloc (in pyarrow) ends this thread before a fork and starts it again after, on both sides.
_FORK_SAFE_THREADS = ("jemalloc_bg_thd",)
_BACKLOG = 128
_REQUEST_SECONDS_MAX = 2.0


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="fork_server")
    parser.add_argument("--socket", required=True)
    parser.add_argument("--preload", default="")
    parser.add_argument("--idle-seconds", type=float, default=3600.0)
    parser.add_argument("--attempt", type=int, default=0, help=argparse.SUPPRESS)
    parser.add_argument("--detach", action="store_true", help="return at once")
    asked = parser.parse_args(arguments)
    if asked.detach and os.fork() != 0:
        return 0
    os.closerange(3, 1024)  # whatever the caller left open would be every program's
    held = sockets.claim(asked.socket)
    if held is None:
        return 0  # another server of this environment lives
    sys.path.pop(0)
    preload = [name for name in asked.preload.split(",") if name]
    arguments = [word for word in arguments if word != "--detach"]
    _preload(preload, arguments, asked.attempt)
    # A workload may bring its own `clary`; ours is needed no longer by name.
    for name in [name for name in sys.modules if name == "clary" or name.startswith("clary.")]:
        del sys.modules[name]
    importlib.invalidate_caches()
    listener = sockets.listen(asked.socket, _BACKLOG)
    _serve(listener, held, asked.socket, asked.idle_seconds)
    return 0


def _preload(names: list[str], arguments: list[str], attempt: int) -> None:
    """Import what exists; a package that leaves a thread behind cannot be forked and is left out."""
    for index, name in enumerate(names):
        began = time.monotonic()
        try:
            importlib.import_module(name)
        except ModuleNotFoundError as problem:
            if problem.name != name.split(".")[0]:
                print(f"{name}: {problem}", file=sys.stderr)
            continue
        except Exception as problem:  # noqa: BLE001  (a broken package must not cost the others)
            print(f"{name} cannot be imported: {problem}", file=sys.stderr)
            continue
        threads = _threads()
        if threads:
            print(f"{name} leaves threads {threads}: not preloaded", file=sys.stderr)
            # What others import as well cannot be avoided by leaving it out: then what came before
            # it has to do. So this ends after two attempts, whatever the packages are.
            kept = names[:index] + (names[index + 1 :] if attempt == 0 else [])
            again = [*arguments, "--preload", ",".join(kept), "--attempt", str(attempt + 1)]
            sys.stderr.flush()
            os.execv(sys.executable, [sys.executable, os.path.abspath(__file__), *again])
        print(f"{name} imported in {time.monotonic() - began:.2f} s", file=sys.stderr)


def _threads() -> list[str]:
    """The names of this process's other threads, but for those that know how to live through a fork."""
    found = []
    for number in os.listdir("/proc/self/task"):
        with contextlib.suppress(OSError):  # it has just ended
            with open(f"/proc/self/task/{number}/comm", encoding="utf-8") as file:
                name = file.read().strip()
            if int(number) != os.getpid() and name not in _FORK_SAFE_THREADS:
                found.append(name)
    return found


def _serve(listener: socket.socket, held: int, path: str, idle_seconds: float) -> None:
    for name in _THREADLESS:
        os.environ.pop(name, None)
    server = _Server(listener, held)
    namespaces.be_ready()
    gc.collect()
    gc.freeze()  # pages of live objects stay shared: no collection in a fork touches them
    huge_pages.gather()
    sys.stderr.flush()
    identity = os.stat(path).st_ino
    last = time.monotonic()
    while time.monotonic() - last < idle_seconds or server.has_programs():
        if not server.wait(min(idle_seconds, 10.0)):
            if not sockets.is_same(path, identity) and not server.has_programs():
                return  # replaced or removed: nobody can reach this server any more
            continue
        last = time.monotonic()
        if not sockets.is_same(path, identity):
            idle_seconds = 0.0  # asked to go; whoever connected before is still served
        with contextlib.suppress(OSError):
            connection, _ = listener.accept()
            server.answer(connection)
    if sockets.is_same(path, identity):
        os.unlink(path)


class _Server:
    """Forks programs and, being their parent, tells each one's supervisor how it ended."""

    def __init__(self, listener: socket.socket, held: int) -> None:
        self._listener = listener
        self._held = held
        self._waiting: dict[int, socket.socket] = {}
        self._wake, self._waker = socket.socketpair()
        self._wake.setblocking(False)
        self._waker.setblocking(False)
        signal.set_wakeup_fd(self._waker.fileno(), warn_on_full_buffer=False)
        signal.signal(signal.SIGCHLD, lambda *_: None)
        self._processes = os.open("/proc/self/ns/pid", os.O_RDONLY | os.O_CLOEXEC)
        self._own = python_program.baseline()

    def has_programs(self) -> bool:
        return bool(self._waiting)

    def wait(self, seconds: float) -> bool:
        """Wait for a connection, and see to the dead meanwhile; False when none came in time."""
        deadline = time.monotonic() + seconds
        while True:
            left = max(0.0, deadline - time.monotonic())
            ready = select.select([self._listener, self._wake], [], [], left)[0]
            if self._wake in ready:
                with contextlib.suppress(BlockingIOError):
                    self._wake.recv(512)
                self._bury()
            if self._listener in ready or not ready:
                return bool(ready)

    def _bury(self) -> None:
        while self._waiting:
            process, status = os.waitpid(-1, os.WNOHANG)
            if process == 0:
                return
            with self._waiting.pop(process) as connection, contextlib.suppress(OSError):
                channel.send(connection, {"status": status})

    def answer(self, connection: socket.socket) -> None:
        """Fork one program; every failure is the asker's to hear, none ends the server."""
        opened: list[int] = []
        try:
            _check_user(connection)
            connection.settimeout(_REQUEST_SECONDS_MAX)
            recipe, opened = channel.receive_recipe(connection)
            given: dict[str, list[int]] = {}
            for name, descriptor in zip(recipe["descriptors"], opened):  # noqa: B905  (of 3.10)
                given.setdefault(name, []).append(descriptor)
            process = self._fork(recipe, given, connection)
            self._waiting[process] = connection
            channel.send(connection, {"forked": process})
        except (OSError, ValueError, KeyError) as problem:
            with contextlib.suppress(OSError):
                channel.send(connection, {"failed": f"{type(problem).__name__}: {problem}"})
            if connection not in self._waiting.values():
                connection.close()
        finally:
            for descriptor in opened:
                os.close(descriptor)

    def _fork(
        self, recipe: dict[str, Any], given: dict[str, list[int]], connection: socket.socket
    ) -> int:
        spaces = {kind: given[kind][0] for kind in init.KINDS if kind in given}
        outlets = Outlets(given["output"][0], given["error"][0], given.get("group", []))
        process = -1
        if "user" not in spaces:
            # As root the program can be forked straight into its process namespace, and the server
            # comes back at once: one fork of a large process instead of two.
            init.join(spaces, ["pid"])
        try:
            process = os.fork()
        finally:
            if "user" not in spaces and process != 0:
                namespaces.setns(self._processes, namespaces.CLONE_NEWPID)
        if process == 0:
            self._enter(recipe, spaces, outlets, given["report"][0], connection)
        return process

    def _enter(
        self,
        recipe: dict[str, Any],
        spaces: dict[str, int],
        outlets: Outlets,
        reporting: int,
        connection: socket.socket,
    ) -> NoReturn:
        """In the fork: go where the program belongs, and become it."""
        report = socket.socket(fileno=reporting)
        with last_words(report):
            self._let_go(connection)
            if "user" in spaces:
                _stand_between(spaces)
            init.join(spaces, ("ipc", "uts", "net", "mnt"))
            init.close_all(*spaces.values())
            self._become(recipe, outlets, report)

    def _let_go(self, connection: socket.socket) -> None:
        """In a fork: close all that is the server's."""
        signal.set_wakeup_fd(-1)
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        for opened in (connection, self._listener, self._wake, self._waker):
            opened.close()
        for other in self._waiting.values():
            other.close()
        os.close(self._held)
        os.close(self._processes)

    def _become(self, recipe: dict[str, Any], outlets: Outlets, report: socket.socket) -> NoReturn:
        settle(recipe, outlets)
        namespaces.drop_privileges()
        report.send(b'{"started": true}')
        argv, environment = recipe["argv"], recipe["environment"]
        asked = python_program.invocation(argv, environment)
        if asked is None:
            report.close()
            execute(argv, environment)
        own = os.getpid()

        def tell(code: int) -> None:
            """Say how it ended before the memory of a large process is taken down."""
            if os.getpid() == own:  # a child that the program forked is not the program
                for descriptor in (0, 1, 2):
                    os.close(descriptor)
                report.send(json.dumps({"status": code << 8}).encode())

        python_program.run(asked, environment, self._own, tell)


def _stand_between(spaces: dict[str, int]) -> None:
    """Enter a user namespace, and its process namespace with a child; returns in that child.

    An ordinary user gains the right to enter the one only inside the other. The process between them
    ends as the program ends, so that the server learns of it.
    """
    init.join(spaces, ("user", "pid"))
    process = os.fork()
    if process == 0:
        return
    _, status = os.waitpid(process, 0)
    if os.WIFSIGNALED(status):
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        with contextlib.suppress(OSError):  # SIGKILL has no handler to reset
            signal.signal(os.WTERMSIG(status), signal.SIG_DFL)
        os.kill(os.getpid(), os.WTERMSIG(status))
    os._exit(os.WEXITSTATUS(status))


def _check_user(connection: socket.socket) -> None:
    """Whoever may connect can run code as this user: let in nobody else."""
    packed = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12)
    user = struct.unpack("3i", packed)[1]
    if user != os.geteuid():
        raise PermissionError(f"user {user} may not use this fork server")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
