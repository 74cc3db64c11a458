"""Is the model server of an endpoint host well? Asked over its Unix socket, as SageMaker asks GET /ping."""

# Paths are plain strings here: they come from and go to system calls.
# ruff: noqa: PTH105, PTH108

from __future__ import annotations

import contextlib
import os
import stat
import threading
import time
from collections.abc import Callable
from pathlib import Path

from clary.runner import sockets

_TIMEOUT_SECONDS = 2.0
_FIRST_PAUSE_SECONDS = 0.02
_LAST_PAUSE_SECONDS = 0.5
_READY_PAUSE_SECONDS = 5.0
_FAILURES_MAX = 3  # in a row, of a server that was well before


def ping(path: str, target: str, seconds: float = _TIMEOUT_SECONDS) -> bool:
    """Does `GET target` on this socket answer 200 in time?"""
    request = f"GET {target} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"
    deadline = time.monotonic() + seconds
    try:
        with sockets.connect(path, seconds) as connection:
            connection.sendall(request.encode())
            answer = b""
            while b"\r\n" not in answer and len(answer) < 4096:
                connection.settimeout(max(0.001, deadline - time.monotonic()))
                piece = connection.recv(4096)
                if not piece:
                    break
                answer += piece
    except OSError:
        return False
    words = answer.split(b" ", 2)
    return len(words) > 1 and words[0].startswith(b"HTTP/1.") and words[1][:3] == b"200"


class HealthWatch:
    """Asks from a thread of its own, until stopped, and tells when the answer changes."""

    def __init__(
        self, directory: Path, published: str, target: str, tell: Callable[[bool], None]
    ) -> None:
        self._inner = directory / "serve" / "serve.sock"  # where the server listens
        self._published = directory / published  # where the data plane connects
        self._target = target
        self._tell = tell
        self._stopped = threading.Event()
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        self._stopped.clear()
        self._thread = threading.Thread(target=self._watch, name="health", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """End the watch and withdraw the socket; the server is going, or gone."""
        self._stopped.set()
        if self._thread is not None:
            self._thread.join(2 * _TIMEOUT_SECONDS)
        for path in (self._published, self._inner):
            with contextlib.suppress(FileNotFoundError):
                os.unlink(path)

    def _watch(self) -> None:
        pause, failures, ready = _FIRST_PAUSE_SECONDS, 0, False
        while not self._stopped.wait(pause):
            well = ping(str(self._inner), self._target)
            failures = 0 if well else failures + 1
            if well and not ready and not self._stopped.is_set() and self._publish():
                ready = True
                self._tell(True)
            elif ready and failures >= _FAILURES_MAX:
                ready = False
                self._tell(False)
            if ready:
                pause = _READY_PAUSE_SECONDS if well else _LAST_PAUSE_SECONDS
            else:
                pause = min(pause * 1.1, _LAST_PAUSE_SECONDS)

    def _publish(self) -> bool:
        """Give the socket itself a second name, outside of what the program can change.

        The program could put a link to any socket of this machine where its own was; a hard link to
        what is a socket now cannot be turned round later.
        """
        fresh = f"{self._published}.{os.getpid()}"
        try:
            os.link(self._inner, fresh, follow_symlinks=False)
        except FileExistsError:
            os.unlink(fresh)
            return False
        except OSError:
            return False
        if not stat.S_ISSOCK(os.lstat(fresh).st_mode):
            os.unlink(fresh)
            return False
        os.replace(fresh, self._published)
        return True
