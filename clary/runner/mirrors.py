"""A directory that a running program writes, copied to a prefix of S3 as it changes."""

from __future__ import annotations

import os
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from . import trees
from .connections import FileShrank
from .s3 import S3
from .s3_answers import S3Error
from .transfers import Count, Task, run_all

SCANS_BEFORE_UNSETTLED = 5


class Signature(NamedTuple):
    size: int
    mtime_ns: int


def joined(prefix: str, path: str) -> str:
    """A key below a prefix, with one `/` between; the prefix itself is the user's and stays."""
    if not prefix or prefix.endswith("/"):
        return prefix + path
    return f"{prefix}/{path}"


def key_text(path: str) -> str:
    """A file's path as a key: S3's keys are UTF-8, file names are any bytes."""
    return os.fsencode(path).decode("utf-8", "backslashreplace")


class Mirror:
    """One directory and its prefix; not for several threads at once."""

    def __init__(
        self,
        s3: S3,
        bucket: str,
        prefix: str,
        root: Path,
        relative: str,
        *,
        deletes: bool,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        self._s3 = s3
        self._bucket = bucket
        self._prefix = prefix
        self._root = root
        self._relative = relative
        self._deletes = deletes
        self._headers = headers
        self._stored: dict[str, Signature] = {}
        self._seen: dict[str, tuple[Signature, int]] = {}

    @property
    def stored(self) -> Mapping[str, Signature]:
        """What S3 holds of this directory, by path."""
        return self._stored

    def adopt(self) -> None:
        """Take what is there for what S3 holds, as after a restore."""
        self._stored = self._look() or {}

    def bring_up(self, *, final: bool = False) -> None:
        """Upload what changed and delete what went; raise the first fault, to be tried again.

        A file still being written is left for the next look, but not for ever, and never at the
        end. A directory that is gone altogether, or became a link, deletes nothing.
        """
        present = self._look()
        if present is None:
            return
        changed = [path for path, now in present.items() if self._stored.get(path) != now]
        if not final:
            changed = [path for path in changed if self._settled(path, present[path])]
        self._seen = {path: seen for path, seen in self._seen.items() if path in present}
        faults: list[Exception] = []
        run_all([self._sender(path, faults) for path in changed], threads=4)
        if faults:
            raise faults[0]
        if self._deletes:
            gone = [path for path in self._stored if path not in present]
            self._s3.delete_many(self._bucket, [self._key(path) for path in gone])
            for path in gone:
                del self._stored[path]

    def _look(self) -> dict[str, Signature] | None:
        try:
            os.close(trees.open_directory(self._root, self._relative))
        except OSError:
            return None
        return {
            entry.path: Signature(entry.size, entry.mtime_ns)
            for entry in trees.walk(self._root, self._relative)
            if entry.kind == "file"
        }

    def _settled(self, path: str, now: Signature) -> bool:
        seen, scans = self._seen.get(path, (None, 0))
        self._seen[path] = (now, scans + 1)
        return seen == now or scans >= SCANS_BEFORE_UNSETTLED

    def _sender(self, path: str, faults: list[Exception]) -> Task:
        def send_or_note(count: Count) -> None:
            # One file that cannot be read must not keep the others from being stored.
            try:
                send(count)
            except (S3Error, OSError) as problem:
                faults.append(problem)

        def send(count: Count) -> None:
            try:
                descriptor = trees.open_file(self._root, f"{self._relative}/{path}")
            except OSError as problem:
                if problem.errno in trees.GONE:
                    return  # the next look sees what became of it
                raise
            try:
                status = os.fstat(descriptor)
                self._s3.put_descriptor(
                    self._bucket, self._key(path), descriptor, self._headers, count
                )
            except FileShrank:
                return
            finally:
                os.close(descriptor)
            self._stored[path] = Signature(status.st_size, status.st_mtime_ns)
            self._seen.pop(path, None)

        return send_or_note

    def _key(self, path: str) -> str:
        return joined(self._prefix, key_text(path))


class Keeper:
    """A thread that brings mirrors up every few seconds until it is told to finish."""

    def __init__(self, mirrors: Sequence[Mirror], interval_seconds: float) -> None:
        self._mirrors = mirrors
        self._interval_seconds = interval_seconds
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None
        self.last_problem = ""  # of a look that failed; the next one tries again

    def start(self) -> None:
        if self._mirrors:
            self._thread = threading.Thread(target=self._work, name="mirror", daemon=True)
            self._thread.start()

    def finish(self) -> None:
        """Stop, and bring every mirror up one last time; raise what then still fails."""
        self._stop.set()
        if self._thread is not None:
            self._thread.join()
            self._thread = None
        for mirror in self._mirrors:
            mirror.bring_up(final=True)

    def _work(self) -> None:
        while not self._stop.wait(self._interval_seconds):
            for mirror in self._mirrors:
                try:
                    mirror.bring_up()
                    self.last_problem = ""
                except (S3Error, OSError) as problem:
                    self.last_problem = str(problem)
