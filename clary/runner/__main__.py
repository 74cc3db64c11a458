"""`python -m clary.runner`: run one host, or be the nursery that forks runners."""

from __future__ import annotations

import argparse
import os
import socket
import sys

from clary.runner import host, nursery, supervisor
from clary.runner.standard_parts import StandardParts


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="python -m clary.runner")
    parser.add_argument("spec", nargs="?", help="the spec.json of a host")
    parser.add_argument("--detach", action="store_true", help="return once the runner has begun")
    parser.add_argument("--nursery", metavar="SOCKET", help="fork runners on request instead")
    parser.add_argument("--idle-seconds", type=float, default=nursery.IDLE_SECONDS)
    parser.add_argument("--supervise", type=int, metavar="DESCRIPTOR", help=argparse.SUPPRESS)
    asked = parser.parse_args(arguments)
    if asked.nursery:
        if asked.detach and os.fork() != 0:
            return 0
        return nursery.serve(asked.nursery, StandardParts, asked.idle_seconds)
    if asked.supervise is not None:
        return _supervise(asked.supervise)
    if not asked.spec:
        parser.error("a spec or --nursery is needed")
    if asked.detach:
        return _detach(asked.spec)
    return host.run(asked.spec, StandardParts)


def _detach(path: str) -> int:
    """Start a runner that outlives this process; 0 once its lock is held, by it or another."""
    reader, writer = os.pipe()
    if os.fork() == 0:
        os.close(reader)

        def started() -> None:
            os.write(writer, b".")
            os.close(writer)

        nursery.become_runner(path, StandardParts, started)
    os.close(writer)
    with open(reader, "rb", buffering=0) as pipe:
        return 0 if pipe.read(1) else 1


def _supervise(descriptor: int) -> int:
    """Leave a supervisor behind that serves the socket a runner passed on."""
    connection = socket.socket(fileno=descriptor)
    if os.fork() == 0:
        connection.set_inheritable(False)
        supervisor.supervise(connection)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
