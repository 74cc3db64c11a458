"""One started program, as its runner sees it: how it is started, signalled, and what became of it."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
import time
from typing import Any, NamedTuple

from clary.runner import channel, python_program, sockets

RUN, LAUNCH = b"R", b"L"  # the first byte to a nursery: run a host, or supervise a program
_ANSWER_SECONDS_MAX = 30.0
_CONNECT_SECONDS_MAX = 1.0


class StartError(Exception):
    """The sandbox could not be built; the program has not run."""


class RefusedError(StartError):
    """The supervisor said so itself: nothing of the program runs, another way may be tried."""


class Ending(NamedTuple):
    exit_code: int | None
    signal: str | None
    lost: str = ""  # why it is not known how the program ended
    out_of_memory: bool = False  # as a container engine told


class Launcher:
    """Whoever forks a supervisor for this runner: the nursery, which is warm, or a process started for it.

    The runner does not fork by itself, because by then it has threads.
    """

    def __init__(self, nursery: str) -> None:
        self._nursery = nursery

    def connect(self) -> socket.socket:
        if self._nursery:
            with contextlib.suppress(OSError):
                connection = sockets.connect(self._nursery, _CONNECT_SECONDS_MAX)
                connection.sendall(LAUNCH)
                return connection
        near, far = socket.socketpair()
        with far:
            argv = [sys.executable, "-m", "clary.runner", "--supervise", str(far.fileno())]
            # It detaches at once, so there is nothing to wait for but that.
            subprocess.run(argv, check=True, pass_fds=[far.fileno()], timeout=_ANSWER_SECONDS_MAX)
        return near


class Running:
    """A program under its supervisor; `connection` is readable when there is something to `hear`."""

    def __init__(self, connection: socket.socket, process: int, lines: channel.Lines) -> None:
        self.connection = connection
        self.process = process
        self._lines = lines

    def has_news(self) -> bool:
        """Is there something to hear that was read already, so that `connection` may stay silent?"""
        return self._lines.has_kept()

    def signal(self, number: int) -> None:
        with contextlib.suppress(OSError):  # it has just ended
            channel.send(self.connection, {"signal": number})

    def hear(self) -> Ending | None:
        """Read what the supervisor says; the ending once there is one."""
        messages = self._lines.receive()
        if messages is None:
            return Ending(None, None, "the program's supervisor was killed")
        for message in messages:
            ending = _ending(message)
            if ending is not None:
                return ending
        return None

    def close(self) -> None:
        self.connection.close()


def _ending(message: dict[str, Any]) -> Ending | None:
    if "failed" in message:
        return Ending(None, None, message["failed"])
    if "exited" not in message:
        return None
    status, out_of_memory = message["exited"], bool(message.get("out_of_memory"))
    if os.WIFSIGNALED(status):
        number = os.WTERMSIG(status)
        try:
            name = signal.Signals(number).name
        except ValueError:
            name = f"SIG{number}"
        return Ending(None, name, out_of_memory=out_of_memory)
    return Ending(os.WEXITSTATUS(status), None, out_of_memory=out_of_memory)


def start(
    recipe: dict[str, Any], output: int, launcher: Launcher, fork_socket: str, prefix: str
) -> Running:
    """Start the program as a fork of its warm environment where that is right and possible, else afresh."""
    if fork_socket and recipe["mode"] != "plain" and recipe["may_fork"]:
        asked = python_program.invocation(recipe["argv"], recipe["environment"], prefix)
        if asked is not None:
            try:
                return _converse(launcher.connect(), dict(recipe, warm=fork_socket), output)
            except RefusedError as refusal:
                print(f"not started warm: {refusal}", file=sys.stderr)
    return _converse(launcher.connect(), recipe, output)


def _converse(connection: socket.socket, recipe: dict[str, Any], output: int) -> Running:
    patience = float(recipe.get("start_seconds", _ANSWER_SECONDS_MAX))
    try:
        connection.settimeout(patience)
        channel.send_recipe(connection, recipe, [output, output])
        lines = channel.Lines(connection)
        deadline = time.monotonic() + patience
        while time.monotonic() < deadline:
            messages = lines.receive()
            if messages is None:
                break
            for index, message in enumerate(messages):
                if "failed" in message:
                    raise RefusedError(message["failed"])
                if "started" in message:
                    lines.put_back(messages[index + 1 :])
                    return Running(connection, message["started"], lines)
        raise StartError("the supervisor did not answer")
    except BaseException:
        connection.close()
        raise
