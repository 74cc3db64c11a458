"""The program's output on its way out: line by line to the local log, the metric scraper and the log shipper."""

from __future__ import annotations

import os
import threading
import time
from collections import deque
from collections.abc import Callable
from pathlib import Path

LINE_BYTES_MAX = 256 * 1024
TAIL_LINES = 20
TAIL_LINE_CHARACTERS_MAX = 4096
LOCAL_BYTES_MAX = 64 * 1024 * 1024
_READ_BYTES = 64 * 1024

Sink = Callable[[bytes], object]


class Output:
    """One pipe that a program writes to, read by a thread until its last writer is gone.

    Back-pressure is the policy for a slow sink: the reader waits for it, the pipe fills, and the
    program waits in its own write. Nothing is dropped, and no more than a pipe and a line is held.
    A sink that raises is left alone from then on, and its error kept: logs never end a program.
    """

    def __init__(self, log: Path) -> None:
        self.failures: list[str] = []
        self._log_path = log
        self._sinks: list[Sink] = []
        self._tail: deque[str] = deque(maxlen=TAIL_LINES)
        self._threads: list[threading.Thread] = []

    def add_sink(self, sink: Sink) -> None:
        self._sinks.append(sink)

    @property
    def tail(self) -> list[str]:
        return list(self._tail)

    def open(self) -> int:
        """Start reading a new pipe; returns the end to write to, which the caller closes."""
        reader, writer = os.pipe2(os.O_CLOEXEC) if hasattr(os, "pipe2") else os.pipe()
        thread = threading.Thread(target=self._pump, args=(reader,), name="output", daemon=True)
        self._threads.append(thread)
        thread.start()
        return writer

    def finish(self, seconds: float) -> bool:
        """Wait until every line is handed on; False when a sink is too slow for that."""
        deadline = time.monotonic() + seconds
        for thread in self._threads:
            thread.join(max(0.0, deadline - time.monotonic()))
        alive = [thread for thread in self._threads if thread.is_alive()]
        self._threads = alive
        return not alive

    def say(self, text: str) -> None:
        """Hand on a line that the program did not write, and that is none of its last ones."""
        line = text.encode()
        with open(self._log_path, "ab", buffering=0) as log:
            self._keep(log.write, line + b"\n")
        self._pass_to_sinks(line)

    def _pump(self, reader: int) -> None:
        rest = b""
        with (
            open(self._log_path, "ab", buffering=0) as log,
            open(reader, "rb", buffering=0) as pipe,
        ):
            left = max(0, LOCAL_BYTES_MAX - log.tell())
            while True:
                piece = pipe.read(_READ_BYTES)
                if not piece:
                    break
                if left > 0:
                    self._keep(log.write, piece[:left])
                    left -= len(piece)
                *lines, rest = (rest + piece).split(b"\n")
                while len(rest) >= LINE_BYTES_MAX:
                    lines.append(rest[:LINE_BYTES_MAX])
                    rest = rest[LINE_BYTES_MAX:]
                for line in lines:
                    self._hand_on(line)
            if rest:
                self._hand_on(rest)

    def _hand_on(self, line: bytes) -> None:
        line = line[:-1] if line.endswith(b"\r") else line
        self._tail.append(line.decode("utf-8", "replace")[:TAIL_LINE_CHARACTERS_MAX])
        self._pass_to_sinks(line)

    def _pass_to_sinks(self, line: bytes) -> None:
        for sink in list(self._sinks):
            try:
                sink(line)
            except Exception as problem:  # noqa: BLE001  (see the class: kept, never fatal)
                self.failures.append(f"{type(problem).__name__}: {problem}")
                self._sinks.remove(sink)

    def _keep(self, write: Callable[[bytes], object], piece: bytes) -> None:
        try:
            write(piece)
        except OSError as problem:  # a full disk
            if len(self.failures) < 10:
                self.failures.append(f"local log: {problem}")
