"""Adaptive micro-batching: rows that wait while a prediction runs are predicted together.

    connection ──▶ waiting ──▶ fold of several requests ──▶ predict ──▶ split ──▶ connections
                                  on the event loop while that is cheap, else in the model's thread

Nothing ever waits for company: a fold is whatever has arrived when the model is free. While a
prediction runs on the event loop, further requests gather in the sockets; while one runs in the
thread, they gather in `waiting`. Only one prediction runs at a time.
"""

from __future__ import annotations

import logging
import os
import resource
import time
from asyncio import AbstractEventLoop
from collections import deque
from collections.abc import Callable, Mapping
from typing import Any

from clary.workloads.serving.handlers import Answer, Handler, Rejected
from clary.workloads.serving.streams import FOREIGN, Stream, is_stream
from clary.workloads.serving.worker import ModelThreads, leave_if_forked

log = logging.getLogger("clary.serving")

REQUESTS_MAX = 4096
FOLD_REQUESTS_MAX = 256
FOLD_BYTES_MAX = 1 << 22
INLINE_BODY_MAX = 1 << 16
# A prediction of this length or less is cheaper than handing it to a thread and back.
INLINE_SECONDS = 0.003
# What a prediction adds to or takes from the doubt whether the event loop may run the next one:
# one slow prediction among quick ones is the machine's noise, several are the model's nature.
DOUBT_AT_FIRST = 17
DOUBT_INLINE = 16
DOUBT_SLOW = 8
DOUBT_MAX = 40
BLOCKING_SECONDS = 0.05
DOUBT_BLOCKING = 240
# What libraries say, beside raising MemoryError, when an allocation fails.
OUT_OF_MEMORY = ("can't allocate memory", "out of memory", "bad_alloc")


class Ticket:
    """One request that waits for its prediction."""

    __slots__ = ("accept", "body", "content_type", "headers", "reply", "rows", "since")

    def __init__(
        self,
        body: bytes,
        content_type: str,
        accept: str,
        headers: Mapping[str, str],
        reply: Callable[[Answer], None],
    ) -> None:
        self.body = body
        self.content_type = content_type
        self.accept = accept
        self.headers = headers
        self.reply = reply
        self.rows: Any = None
        self.since = 0.0


class Queue:
    """The requests of one process and the order in which its model answers them."""

    def __init__(
        self,
        handler: Handler,
        loop: AbstractEventLoop,
        *,
        batching: bool,
        threads: ModelThreads | None = None,
    ) -> None:
        self.handler = handler
        self.loop = loop
        self.batching = batching and bool(getattr(handler, "batchable", False))
        self.may_inline = self.batching and bool(getattr(handler, "inline", True))
        self.waiting: deque[Ticket] = deque()
        self.unfinished = 0
        self.streams: set[Stream] = set()
        self._own_threads = threads is None
        self._threads = threads or ModelThreads(loop)
        self._in_thread: list[Ticket] = []
        self._stream_jobs: deque[tuple[Any, Any, Any]] = deque()
        self._pid = os.getpid()
        self._running = False
        self._began = 0.0
        self._stream_is_next = False
        self._scheduled = False
        self._doubt = DOUBT_AT_FIRST
        self._warm = False

    def submit(self, ticket: Ticket) -> None:
        """Take a request; its reply is called on the event loop, at once if it is refused."""
        if len(self.waiting) >= REQUESTS_MAX:
            ticket.reply((503, "text/plain", b"Too many requests are waiting for the model."))
            return
        if self.may_inline and len(ticket.body) <= INLINE_BODY_MAX:
            refusal = decode(self.handler, ticket)
            if refusal is not None:
                ticket.reply(refusal)
                return
        self.unfinished += 1
        ticket.since = self.loop.time()
        self.waiting.append(ticket)
        # The rest of this turn of the event loop reads further sockets: let them join.
        self._schedule()

    def run(
        self, work: Callable[[Any], Any], subject: Any, finished: Callable[[Any, Any], None]
    ) -> None:
        """Do a stream's work between predictions: one model is never at two things at once."""
        self._stream_jobs.append((work, subject, finished))
        self._schedule()

    @property
    def is_busy(self) -> bool:
        """Whether anybody still waits for an answer or for the rest of one."""
        return bool(self.unfinished or self.streams)

    def expire(self, seconds: float) -> bool:
        """Answer what has waited too long; True if the model is stuck in something."""
        overdue = self.loop.time() - seconds
        answer = (500, "text/plain", b"The model did not answer within %g seconds." % seconds)
        while self.waiting and self.waiting[0].since < overdue:
            self.unfinished -= 1
            self.waiting.popleft().reply(answer)
        for ticket in self._in_thread:
            if ticket.since < overdue:
                ticket.reply(answer)
                ticket.reply = _nobody
        for stream in list(self.streams):
            if 0 < stream.waits_since < time.monotonic() - seconds:
                stream.fail()
        return self._running and self._began < overdue

    def refuse(self, answer: Answer) -> None:
        """Answer everything that waits, because this process will not come to it."""
        for ticket in (*self._in_thread, *self.waiting):
            ticket.reply(answer)
            ticket.reply = _nobody
        self.unfinished -= len(self.waiting)
        self.waiting.clear()

    def close(self) -> None:
        """Let the threads end after their current work, unless they are others' too."""
        if self._own_threads:
            self._threads.close()

    def _schedule(self) -> None:
        if not self._running and not self._scheduled:
            self._scheduled = True
            self.loop.call_soon(self._start)

    def _start(self) -> None:
        self._scheduled = False
        if self._running:
            return
        if self._stream_jobs and (self._stream_is_next or not self.waiting):
            self._running, self._stream_is_next = True, False
            self._began = self.loop.time()
            self._threads.run(_work_on, self._stream_jobs.popleft(), self._worked)
            return
        self._stream_is_next = True
        if not self.waiting:
            return
        tickets = self._take()
        if self._doubt < DOUBT_INLINE and self.may_inline and tickets[0].rows is not None:
            effort = Effort()
            answers = answer(self.handler, tickets)
            leave_if_forked(self._pid)
            self._judge(effort.seconds())
            self._deliver(tickets, answers)
        else:
            self._running, self._in_thread = True, tickets
            self._began = self.loop.time()
            self._threads.run(self._work, tickets, self._finished)

    def _worked(self, job: tuple[Any, Any, Any], outcome: Any) -> None:
        self._running = False
        job[2](job[1], outcome)
        self._schedule_if_any()

    def _schedule_if_any(self) -> None:
        if self.waiting or self._stream_jobs:
            self._schedule()

    def _take(self) -> list[Ticket]:
        """Take the oldest request and those behind it that may be folded with it."""
        waiting = self.waiting
        tickets = [waiting.popleft()]
        if not self.batching:
            return tickets
        size = len(tickets[0].body)
        decoded = tickets[0].rows is not None
        while waiting and len(tickets) < FOLD_REQUESTS_MAX:
            size += len(waiting[0].body)
            if size > FOLD_BYTES_MAX or (waiting[0].rows is not None) != decoded:
                break
            tickets.append(waiting.popleft())
        return tickets

    def _work(self, tickets: list[Ticket]) -> tuple[float, list[Answer]]:
        """Run in the thread."""
        effort = Effort()
        answers = answer(self.handler, tickets, batching=self.batching)
        return effort.seconds(), answers

    def _finished(self, tickets: list[Ticket], outcome: tuple[float, list[Answer]]) -> None:
        self._running, self._in_thread = False, []
        self._judge(outcome[0])
        self._deliver(tickets, outcome[1])

    def _judge(self, seconds: float) -> None:
        """Learn from a prediction whether the event loop may run the next one."""
        if not self._warm:
            self._warm = True  # the first one makes what the others find
            return
        if seconds <= INLINE_SECONDS:
            self._doubt = max(0, self._doubt - 1)
        elif seconds <= BLOCKING_SECONDS:
            self._doubt = min(DOUBT_MAX, self._doubt + DOUBT_SLOW)
        else:
            self._doubt = DOUBT_BLOCKING

    def _deliver(self, tickets: list[Ticket], answers: list[Answer]) -> None:
        self.unfinished -= len(tickets)
        for at, ticket in enumerate(tickets):
            found = answers[at]
            if isinstance(found[2], Stream):
                self.streams.add(found[2])
                found[2].attach(self, self.streams.discard)
            try:
                ticket.reply(found)
            except Exception as problem:  # noqa: BLE001
                # What a handler returned cannot be written: that must not cost others their answers.
                ticket.reply(failed(problem))
        self._schedule_if_any()


def decode(handler: Any, ticket: Ticket) -> Answer | None:
    """Decode a request's rows into its ticket, or return why it is refused."""
    try:
        ticket.rows = handler.decode(ticket.body, ticket.content_type)
    except Rejected as refusal:
        return refused(refusal)
    except FOREIGN as problem:
        log.exception("The request could not be decoded.")
        return (400, "text/plain", f"{type(problem).__name__}: {problem}".encode())
    return None


def answer(handler: Any, tickets: list[Ticket], *, batching: bool = True) -> list[Answer]:
    """Answer the tickets in their order; those of one width and type share a prediction."""
    if not batching:
        return [invoke(handler, ticket) for ticket in tickets]
    answers: dict[int, Answer] = {}
    groups: dict[Any, list[int]] = {}
    for at, ticket in enumerate(tickets):
        refusal = decode(handler, ticket) if ticket.rows is None else None
        if refusal is not None:
            answers[at] = refusal
            continue
        rows: Any = ticket.rows
        shape = getattr(rows, "shape", ())
        # Sparse matrices and objects of the user's own cannot be laid end to end.
        alone = len(shape) < 2 or not hasattr(rows, "strides") or not shape[0]
        key = at if alone else (shape[1:], rows.dtype)
        groups.setdefault(key, []).append(at)
    for members in groups.values():
        _answer_group(handler, tickets, members, answers)
    return [answers[at] for at in range(len(tickets))]


def _answer_group(
    handler: Any, tickets: list[Ticket], members: list[int], answers: dict[int, Answer]
) -> None:
    if len(members) > 1:
        from numpy import concatenate

        try:
            results = handler.predict(concatenate([tickets[at].rows for at in members]))
            if len(results) != sum(len(tickets[at].rows) for at in members):
                raise ValueError("the model does not return one result for each row")
            start = 0
            for at in members:
                end = start + len(tickets[at].rows)
                answers[at] = _encode(handler, results[start:end], tickets[at].accept)
                start = end
            return
        except FOREIGN as problem:
            log.debug("A fold of %d requests failed (%s): each runs alone.", len(members), problem)
    for at in members:
        answers[at] = _alone(handler, tickets[at])


def _alone(handler: Any, ticket: Ticket) -> Answer:
    try:
        return _encode(handler, handler.predict(ticket.rows), ticket.accept)
    except Rejected as refusal:
        return refused(refusal)
    except FOREIGN as problem:
        return failed(problem)


def _encode(handler: Any, results: Any, accept: str) -> Answer:
    try:
        content_type, body = handler.encode(results, accept)
        return _opened((200, content_type, body))
    except Rejected as refusal:
        return refused(refusal)


def invoke(handler: Handler, ticket: Ticket) -> Answer:
    """Answer one request without folding."""
    try:
        return _opened(
            handler.invoke(ticket.body, ticket.content_type, ticket.accept, ticket.headers)
        )
    except Rejected as refusal:
        return refused(refusal)
    except FOREIGN as problem:
        return failed(problem)


def _opened(found: Answer) -> Answer:
    """Begin a stream: an error before its first piece is an answer as any other."""
    if is_stream(found[2]):
        return found[0], found[1], Stream(found[2]).open()
    return found


class Effort:
    """How long a piece of work holds its thread up. What a busy machine adds to it does not count:
    only a thread that has let go of its processor by itself was waiting for something.
    """

    __slots__ = ("_began", "_usage")

    def __init__(self) -> None:
        self._began = time.perf_counter()
        self._usage = resource.getrusage(resource.RUSAGE_THREAD)

    def seconds(self) -> float:
        """The time since this was made, of this thread."""
        seconds = time.perf_counter() - self._began
        before, usage = self._usage, resource.getrusage(resource.RUSAGE_THREAD)
        if seconds > BLOCKING_SECONDS and usage.ru_nvcsw > before.ru_nvcsw:
            return seconds
        return usage.ru_utime + usage.ru_stime - before.ru_utime - before.ru_stime


def _work_on(job: tuple[Any, Any, Any]) -> Any:
    return job[0](job[1])


def _nobody(answer: Answer) -> None:
    """The request has had its answer; a late stream is not begun."""
    if isinstance(answer[2], Stream):
        answer[2].cancel()


def refused(refusal: Rejected) -> Answer:
    """Return the answer of a refusal."""
    return refusal.status, "text/plain", refusal.message.encode("utf-8", "replace")


def failed(problem: BaseException) -> Answer:
    """Log the traceback and tell the client the type and the message."""
    log.error("The prediction failed.", exc_info=problem)
    text = f"{type(problem).__name__}: {problem}"
    status = 507 if is_out_of_memory(problem) else 500
    return status, "text/plain", text.encode("utf-8", "replace")


def is_out_of_memory(problem: BaseException) -> bool:
    """Say whether an allocation failed: the host unloads another model and tries again."""
    if isinstance(problem, MemoryError):
        return True
    text = str(problem).lower() if isinstance(problem, (RuntimeError, ValueError)) else ""
    return any(words in text for words in OUT_OF_MEMORY)
