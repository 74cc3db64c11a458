"""Whole exchanges with one model server: few connections, one write for all requests of a turn.

    submit ── lane ── outbox ── one write at the end of the loop's turn ── answers, in order ── asker

A lane is a keep-alive connection. A server that is known to take pipelined requests (Clary's own)
gets up to `depth` of them on each lane: rows that arrive together reach it in one piece, and it
predicts them together. Any other server gets one request at a time on each lane.
"""

from __future__ import annotations

import asyncio
from collections import deque
from pathlib import Path
from typing import cast

from clary.dataplane.answer_heads import AnswerHead
from clary.dataplane.lane import Asker, Lane, Ticket
from clary.dataplane.upstream import (
    AnswerOverdue,
    CannotConnect,
    ConnectionLost,
    NotBegun,
    PoolBusy,
    UpstreamFailure,
)

SWEEP_SECONDS = 0.1
HEADS_REMEMBERED_MAX = 1024
HEAD_REMEMBERED_BYTES_MAX = 2048


class Lanes:
    """The connections to one model server: at most `lanes_max`, with `depth` requests on each."""

    def __init__(
        self,
        address: Path,
        *,
        lanes_max: int,
        depth: int = 1,
        waiting_max: int = 1024,
        body_bytes_max: int,
        connect_seconds: float = 1.0,
        waiting_seconds: float = 30.0,
        idle_seconds: float = 30.0,
    ) -> None:
        self.address = address
        self.lanes_max = lanes_max
        self.depth = depth
        self.waiting_max = waiting_max
        self.body_bytes_max = body_bytes_max
        self.connect_seconds = connect_seconds
        self.waiting_seconds = waiting_seconds
        self.idle_seconds = idle_seconds
        self.outstanding = 0  # requests sent or waiting; what "least outstanding" compares
        self.peak = 0  # of `outstanding`, since somebody took it
        self.loop = asyncio.get_running_loop()
        self._lanes: list[Lane] = []
        self._waiting: deque[Ticket] = deque()
        self._heads: dict[bytes, AnswerHead] = {}
        self._current: Lane | None = None  # takes the requests of this turn of the loop
        self._touched: list[Lane] = []
        self._opening: set[asyncio.Task[None]] = set()
        self._sweeper: asyncio.TimerHandle | None = None
        self._closed = False

    def submit(self, asker: Asker, request: list[bytes], seconds: float) -> None:
        """Send one request at the end of this turn; the whole answer is due within `seconds`.

        Raise PoolBusy where too many wait already.
        """
        now = self.loop.time()
        lane = self._current
        if lane is None or lane.closed or len(lane.pending) >= self.depth:
            lane = self._choose()
        ticket = Ticket(asker, request, seconds, now + self.waiting_seconds)
        if lane is None:
            if len(self._waiting) >= self.waiting_max:
                raise PoolBusy(f"{self.waiting_max} requests wait already")
            self._waiting.append(ticket)
            self._open_more()
        else:
            self._give(lane, ticket, now)
        self.outstanding += 1
        if self.outstanding > self.peak:
            self.peak = self.outstanding
        if self._sweeper is None:
            self._sweeper = self.loop.call_later(SWEEP_SECONDS, self._sweep)

    def close(self) -> None:
        """Close what is idle now, and what is busy when it is done."""
        self._closed = True
        for lane in list(self._lanes):
            if not lane.pending:
                lane.drop()

    # What the lanes tell.

    def head(self, raw: bytes) -> AnswerHead:
        head = self._heads.get(raw)
        if head is None:
            head = AnswerHead.parse(raw)
            if len(raw) <= HEAD_REMEMBERED_BYTES_MAX:
                if len(self._heads) >= HEADS_REMEMBERED_MAX:
                    self._heads.clear()
                self._heads[raw] = head
        return head

    def settled(self, lane: Lane, wanted: bool) -> None:
        """A lane delivered an answer: it has room for another request."""
        if wanted:
            self.outstanding -= 1
        if self._waiting:
            self._pump()
        if self._closed and not lane.pending and not lane.closed:
            lane.drop()

    def lost(self, lane: Lane, problem: UpstreamFailure) -> None:
        """A lane is gone: what was asked on it fails."""
        if lane in self._lanes:
            self._lanes.remove(lane)
        if self._current is lane:
            self._current = None
        pending = list(lane.pending)
        lane.pending.clear()
        lane.outbox.clear()
        behind = NotBegun(str(problem)) if type(problem) is ConnectionLost else problem
        for number, ticket in enumerate(pending):
            # A server answers in order: it had not come to what stands behind the first.
            self._fail(ticket, behind if number else problem)
        if self._waiting:
            self._open_more()

    # Lanes and their requests.

    def _choose(self) -> Lane | None:
        """The lane with the fewest requests on it, if that has room for one more."""
        lane, fewest = None, self.depth
        for one in self._lanes:
            count = len(one.pending)
            if count < fewest:
                lane, fewest = one, count
                if not count:
                    break
        if lane is None:
            return None
        if fewest and len(self._lanes) + len(self._opening) < self.lanes_max:
            self._open()
        self._current = lane if self.depth > 1 else None
        return lane

    def _give(self, lane: Lane, ticket: Ticket, now: float) -> None:
        if not lane.outbox:
            if not self._touched:
                self.loop.call_soon(self._flush)
            self._touched.append(lane)
        lane.put(ticket, now)

    def _flush(self) -> None:
        touched, self._touched = self._touched, []
        self._current = None
        for lane in touched:
            lane.flush()

    def _pump(self) -> None:
        """Give what waits to the lanes that have room."""
        while self._waiting:
            lane = self._choose()
            if lane is None:
                self._open_more()
                return
            ticket = self._waiting.popleft()
            if ticket.asker is not None:
                self._give(lane, ticket, self.loop.time())

    def _open_more(self) -> None:
        wanted = -(-len(self._waiting) // self.depth)
        while len(self._opening) < wanted:
            if len(self._lanes) + len(self._opening) >= self.lanes_max:
                return
            self._open()

    def _open(self) -> None:
        task = self.loop.create_task(self._connect())
        self._opening.add(task)
        task.add_done_callback(self._opening.discard)

    async def _connect(self) -> None:
        task = cast("asyncio.Task[None]", asyncio.current_task())
        try:
            async with asyncio.timeout(self.connect_seconds):
                _, lane = await self.loop.create_unix_connection(
                    lambda: Lane(self), str(self.address)
                )
        except (OSError, TimeoutError) as problem:
            self._not_opened(task, str(problem) or "timed out")
            return
        if lane.closed:
            self._not_opened(task, "closed at once")
            return
        self._opening.discard(task)
        lane.idle_since = self.loop.time()
        self._lanes.append(lane)
        self._pump()
        if self._closed and not lane.pending:
            lane.drop()

    def _not_opened(self, task: asyncio.Task[None], why: str) -> None:
        """What waits must not wait for lanes that nobody opens any more."""
        self._opening.discard(task)
        if not self._lanes and not self._opening:
            failure = CannotConnect(f"{self.address}: {why}")
            waiting, self._waiting = self._waiting, deque()
            for ticket in waiting:
                self._fail(ticket, failure)

    # Time.

    def _sweep(self) -> None:
        """Give up what is overdue and close what is idle; runs while there is anything to watch."""
        self._sweeper = None
        now = self.loop.time()
        for lane in list(self._lanes):
            if not lane.pending:
                if now - lane.idle_since > self.idle_seconds:
                    lane.drop()
                continue
            for ticket in list(lane.pending):
                if now >= ticket.due:
                    self._fail(ticket, AnswerOverdue(f"no answer within {ticket.seconds:g} s"))
            if all(ticket.asker is None for ticket in lane.pending):
                lane.drop()
        while self._waiting and now >= self._waiting[0].due:
            text = f"no connection became free within {self.waiting_seconds:g} s"
            self._fail(self._waiting.popleft(), PoolBusy(text))
        if self._lanes or self._waiting:
            self._sweeper = self.loop.call_later(SWEEP_SECONDS, self._sweep)

    def _fail(self, ticket: Ticket, problem: UpstreamFailure) -> None:
        asker, ticket.asker = ticket.asker, None
        if asker is not None:
            self.outstanding -= 1
            asker.failed(problem)
