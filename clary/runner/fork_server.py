"""The warm parent of an environment: imports its heavy packages once, then forks itself for every program.

It runs as a script under the environment's own Python, which need not have Clary installed:

    <prefix>/bin/python .../clary/runner/fork_server.py --socket S --preload numpy,pandas,sklearn

Every connection is one program: see `channel` for what is said and `supervisor` for who is forked.
"""

from __future__ import annotations

import os

# Numeric libraries read these while they load. Threads do not survive a fork, so none may exist.
_SERVER_THREADS = ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS")
if __name__ == "__main__":
    for _name in _SERVER_THREADS:
        os.environ[_name] = "1"

import argparse
import contextlib
import fcntl
import gc
import importlib
import select
import signal
import socket
import struct
import sys
import time
from typing import Dict, List, NoReturn

if __name__ == "__main__":
    # The folder of this file holds modules named `logs` or `host`; a program must not find them.
    sys.path[0] = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))

from clary.runner import python_program, sockets, supervisor

_BACKLOG = 128


def main(arguments: List[str]) -> int:
    parser = argparse.ArgumentParser(prog="fork_server")
    parser.add_argument("--socket", required=True)
    parser.add_argument("--preload", default="")
    parser.add_argument("--idle-seconds", type=float, default=3600.0)
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
    _preload(preload, arguments)
    # A workload may bring its own `clary`; ours is needed no longer by name.
    for name in [name for name in sys.modules if name == "clary" or name.startswith("clary.")]:
        del sys.modules[name]
    importlib.invalidate_caches()
    listener = sockets.listen(asked.socket, _BACKLOG)
    _serve(listener, held, asked.socket, asked.idle_seconds)
    return 0


def _preload(names: List[str], arguments: List[str]) -> None:
    """Import what exists; a package that starts threads cannot be forked and is left to the programs."""
    for name in names:
        began = time.monotonic()
        try:
            importlib.import_module(name)
        except ModuleNotFoundError as problem:
            if problem.name != name.split(".")[0]:
                print("%s: %s" % (name, problem), file=sys.stderr)
            continue
        except Exception as problem:  # noqa: BLE001  (a broken package must not cost the others)
            print("%s cannot be imported: %s" % (name, problem), file=sys.stderr)
            continue
        if len(os.listdir("/proc/self/task")) > 1:
            print("%s starts threads when imported: not preloaded" % name, file=sys.stderr)
            without = ",".join(other for other in names if other != name)
            again = [word for word in arguments if word != "--detach"] + ["--preload", without]
            os.execv(sys.executable, [sys.executable, os.path.abspath(__file__), *again])
        print("%s imported in %.2f s" % (name, time.monotonic() - began), file=sys.stderr)


def _serve(listener: socket.socket, held: int, path: str, idle_seconds: float) -> None:
    for name in _SERVER_THREADS:
        os.environ.pop(name, None)
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # the kernel reaps the supervisors
    own = python_program.baseline()
    gc.collect()
    gc.freeze()  # pages of live objects stay shared: no collection in a fork touches them
    sys.stderr.flush()
    identity = os.stat(path).st_ino
    last = time.monotonic()
    while time.monotonic() - last < idle_seconds:
        if not select.select([listener], [], [], min(idle_seconds, 10.0))[0]:
            if not sockets.is_same(path, identity):
                return  # replaced or removed: nobody can reach this server any more
            continue
        last = time.monotonic()
        if not sockets.is_same(path, identity):
            idle_seconds = 0.0  # asked to go; whoever connected before is still served
        with contextlib.suppress(OSError):
            connection, _ = listener.accept()
            with connection:
                if not _is_own_user(connection):
                    continue
                if os.fork() == 0:
                    listener.close()
                    os.close(held)
                    _be_supervisor(connection, own)
    if sockets.is_same(path, identity):
        os.unlink(path)


def _is_own_user(connection: socket.socket) -> bool:
    """Whoever may connect can run code as this user: let in nobody else."""
    packed = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12)
    return struct.unpack("3i", packed)[1] == os.geteuid()


def _be_supervisor(connection: socket.socket, own: python_program.Baseline) -> NoReturn:
    def run_python(recipe: Dict[str, object]) -> NoReturn:
        argv, environment = recipe["argv"], recipe["environment"]
        asked = python_program.invocation(argv, environment)  # type: ignore[arg-type]
        if asked is None:
            supervisor.execute(argv, environment)  # type: ignore[arg-type]
        python_program.run(asked, recipe, own)  # type: ignore[arg-type]

    supervisor.supervise(connection, run_python)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
