"""Questions whose answers take long to work out: asked in a process of their own, beside the loop.

A question is a pure function of its row, so an answer that is lost with control is worked out again.
"""

from __future__ import annotations

import hashlib
import logging
import os
import queue
import select
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import orjson

from clary.reconcile.seen import READY, Preparation
from clary.store.rows import Row

log = logging.getLogger(__name__)

WAITING_MAX = 1_000
ANSWER_SECONDS = 60.0
IDLE_SECONDS = 120.0
LINE_BYTES_MAX = 1024 * 1024


@dataclass(frozen=True, slots=True)
class Adviser:
    """What a kind declares: a module run as `python -m`, which answers lines of JSON, and the question of a row.

    A row without a question (None) waits for nothing.
    """

    program: str
    question: Callable[[Row], dict[str, Any] | None]


@dataclass(slots=True)
class _Asked:
    digest: str
    answer: Preparation | None = None  # None while it is being worked out


class Consultations:
    """One process for each program, started by the first question and gone when idle or when control is."""

    def __init__(self, answered: Callable[[int], None]) -> None:
        self._answered = answered  # told the id of a row whose answer is there
        self._asked: dict[int, _Asked] = {}
        self._waiting: queue.Queue[tuple[int, str, str, bytes] | None] = queue.Queue(WAITING_MAX)
        self._guard = threading.Lock()
        self._thread: threading.Thread | None = None
        self._program = ""
        self._process: subprocess.Popen[bytes] | None = None

    def state_of(self, row: Row, adviser: Adviser) -> Preparation:
        question = adviser.question(row)
        if question is None:
            return READY
        digest = _digest(question)
        with self._guard:
            asked = self._asked.get(row.id)
            if asked is None or asked.digest != digest:
                return Preparation("absent")
            return asked.answer or Preparation("building", "Working out what to try next")

    def ask(self, row: Row, adviser: Adviser) -> None:
        question = adviser.question(row)
        if question is None:
            return
        digest = _digest(question)
        with self._guard:
            asked = self._asked.get(row.id)
            if asked is not None and asked.digest == digest:
                return
            if len(self._asked) >= WAITING_MAX:
                self._asked.pop(next(iter(self._asked)))
            try:
                self._waiting.put_nowait((row.id, digest, adviser.program, orjson.dumps(question)))
            except queue.Full:
                return  # the row asks again at its next look
            self._asked[row.id] = _Asked(digest)
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="adviser", daemon=True)
                self._thread.start()

    def forget(self, row_id: int) -> None:
        with self._guard:
            self._asked.pop(row_id, None)

    def close(self) -> None:
        thread = self._thread
        if thread is not None:
            self._waiting.put(None)
            self._end_process()  # an answer that is being worked out is given up
            thread.join(timeout=10)

    def _run(self) -> None:
        while True:
            try:
                item = self._waiting.get(timeout=IDLE_SECONDS)
            except queue.Empty:
                self._end_process()
                continue
            if item is None:
                self._end_process()
                return
            row_id, digest, program, question = item
            with self._guard:
                wanted = self._asked.get(row_id)
            if wanted is None or wanted.digest != digest:
                continue  # the row has moved on
            found = self._consult(program, question)
            with self._guard:
                wanted.answer = found
            self._answered(row_id)

    def _consult(self, program: str, question: bytes) -> Preparation:
        try:
            return Preparation("ready", answer=orjson.loads(self._exchange(program, question)))
        except (OSError, ValueError) as problem:
            log.warning("%s did not answer: %s", program, problem)
            self._end_process()
            return Preparation("failed", f"{program} did not answer: {problem}"[:1024])

    def _exchange(self, program: str, question: bytes) -> bytes:
        process = self._process
        if process is None or process.poll() is not None or self._program != program:
            self._end_process()
            process = self._process = _start(program)
            self._program = program
        assert process.stdin is not None and process.stdout is not None
        process.stdin.write(question + b"\n")
        process.stdin.flush()
        deadline = time.monotonic() + ANSWER_SECONDS
        line = b""
        while not line.endswith(b"\n"):
            left = deadline - time.monotonic()
            if left <= 0 or not select.select([process.stdout], [], [], left)[0]:
                raise OSError(f"no answer within {ANSWER_SECONDS:.0f} s")
            more = os.read(process.stdout.fileno(), 65536)
            if not more:
                raise OSError("its process ended; control's log has its last words")
            line += more
            if len(line) > LINE_BYTES_MAX:
                raise OSError("its answer is too long")
        return line

    def _end_process(self) -> None:
        process, self._process = self._process, None
        if process is not None:
            process.kill()
            process.wait()
            for pipe in (process.stdin, process.stdout):
                if pipe is not None:
                    pipe.close()


def _start(program: str) -> subprocess.Popen[bytes]:
    """It ends by itself at the end of its input, so it does not outlive control."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
    return subprocess.Popen(
        [sys.executable, "-m", program],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        bufsize=0,
        env=environment,
        start_new_session=True,
    )


def _digest(question: dict[str, Any]) -> str:
    return hashlib.sha256(orjson.dumps(question, option=orjson.OPT_SORT_KEYS)).hexdigest()
