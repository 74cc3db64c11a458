"""A supervisor's watch over its child: passes on what the runner asks, hears what the sandbox says, judges the end."""

from __future__ import annotations

import contextlib
import json
import os
import select
import signal
import socket
from typing import Any, NamedTuple

from clary.runner import bubblewrap, channel, container_program, init

Message = dict[str, Any]


class Child(NamedTuple):
    """What the supervisor forked: process 1, bubblewrap, or the plain program itself."""

    process: int
    mode: str  # namespaces | warm | bubblewrap | plain | container
    report: socket.socket | None
    server: socket.socket | None = None  # the fork server that is a warm program's parent
    server_lines: channel.Lines | None = None


class Watch:
    def __init__(self, connection: socket.socket, wake: socket.socket, child: Child) -> None:
        connection.setblocking(True)
        self._connection = connection
        self._wake = wake
        self._child = child
        self._sources: list[Any] = [connection, wake]
        self._sources += [source for source in (child.report, child.server) if source is not None]
        self._lines = channel.Lines(connection)
        self._sent: list[int] = []
        self._killed = False
        self._failed = ""
        self._status: int | None = None
        self._out_of_memory = False
        self._heard = b""
        self._inner = 0  # bubblewrap's process 1, once known
        self._program = -1  # a warm program's descriptor: it names that process and no later one

    def until_exit(self) -> Message:
        """Returns what to tell the runner last."""
        if self._child.report is None:
            self._tell_started(self._child.process)
        if self._child.server_lines is not None and self._child.server_lines.has_kept():
            self._hear_server()
        while True:
            for source in select.select(self._sources, [], [])[0]:
                self._attend(source)
            ended, status = os.waitpid(self._child.process, os.WNOHANG)
            if ended:
                while self._child.report in self._sources:
                    self._attend(self._child.report)
                return self._verdict(status)

    def _attend(self, source: Any) -> None:
        if source is self._connection:
            self._hear_runner()
        elif source is self._child.report:
            self._hear_sandbox()
        elif source is self._child.server:
            self._hear_server()
        elif source == self._program:
            self._sources.remove(source)
            while self._child.report in self._sources and self._status is None:
                self._hear_sandbox()  # what it said last
            if self._status is None and not self._failed:
                self._failed = "the fork server ended, so it is not known how the program did"
            self._end_warm()
        else:
            with contextlib.suppress(BlockingIOError):
                self._wake.recv(512)

    # The runner ------------------------------------------------------------------------------------

    def _hear_runner(self) -> None:
        messages = self._lines.receive()
        if messages is None:
            self._sources.remove(self._connection)
            self._signal(signal.SIGKILL)
        for message in messages or ():
            self._signal(int(message["signal"]))

    def _tell_started(self, process: int) -> None:
        with contextlib.suppress(OSError):
            channel.send(self._connection, {"started": process})

    def _signal(self, number: int) -> None:
        self._sent.append(number)
        with contextlib.suppress(ProcessLookupError):
            if self._child.mode == "container":
                assert self._child.report is not None
                container_program.signal_program(self._child.report, number)
            elif number == signal.SIGKILL:
                self._killed = True
                os.kill(self._child.process, number)
            elif self._child.mode == "bubblewrap":
                bubblewrap.signal_program(self._inner, number)
            elif self._child.mode == "warm":
                signal.pidfd_send_signal(self._program, number)
            else:
                os.kill(self._child.process, number)

    # The sandbox -----------------------------------------------------------------------------------

    def _hear_sandbox(self) -> None:
        assert self._child.report is not None
        try:
            data, ancillary, _, _ = self._child.report.recvmsg(
                4096, socket.CMSG_SPACE(init.CREDENTIALS.size), socket.MSG_DONTWAIT
            )
        except (BlockingIOError, ConnectionResetError):
            data, ancillary = b"", []
        if not data:
            self._sources.remove(self._child.report)
            return
        self._heard += data
        if not self._heard.rstrip().endswith(b"}"):
            return  # bubblewrap writes its report in pieces
        message, self._heard = json.loads(self._heard.decode()), b""
        if self._child.mode == "bubblewrap":
            if "child-pid" in message:
                self._inner = message["child-pid"]
                self._tell_started(self._inner)
        elif "started" in message:
            self._begin(message.get("process") or init.sender(ancillary))
        if "status" in message and self._status is None:
            self._status = int(message["status"])
            self._out_of_memory = bool(message.get("out_of_memory"))
            self._end_warm()
        if "failed" in message:
            self._failed = str(message["failed"])
            self._end_warm()

    def _begin(self, process: int) -> None:
        if self._child.mode == "warm" and self._program < 0:
            with contextlib.suppress(ProcessLookupError):
                self._program = os.pidfd_open(process)
        self._tell_started(process)

    # The fork server -------------------------------------------------------------------------------

    def _hear_server(self) -> None:
        assert self._child.server_lines is not None
        messages = self._child.server_lines.receive()
        if messages is None:
            self._sources.remove(self._child.server)
            if self._status is None and self._program >= 0:
                self._sources.append(self._program)
            elif self._status is None and not self._failed:
                self._failed = "the fork server ended before the program began"
                self._end_warm()
        for message in messages or ():
            if "failed" in message:
                self._failed = self._failed or str(message["failed"])
            elif self._status is None:
                self._status = int(message["status"])
            self._end_warm()

    def _end_warm(self) -> None:
        """The program is over: process 1, which is not its parent, is told by being killed."""
        if self._child.mode == "warm":
            with contextlib.suppress(ProcessLookupError):
                os.kill(self._child.process, signal.SIGKILL)

    # The end ---------------------------------------------------------------------------------------

    def _verdict(self, status: int) -> Message:
        if self._failed:
            return {"failed": self._failed}
        if self._status is not None:
            return {"exited": self._status, "out_of_memory": self._out_of_memory}
        if self._killed:
            return {"exited": int(signal.SIGKILL)}
        if self._child.mode == "bubblewrap":
            return {"exited": bubblewrap.program_status(status, self._sent)}
        if self._child.mode == "plain" or os.WIFSIGNALED(status):
            return {"exited": status}
        return {"failed": "process 1 of the sandbox ended without a word"}
