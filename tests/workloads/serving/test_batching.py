"""Micro-batching: what is folded, what is not, and whose mistake costs whom."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from typing import Any

import numpy

from clary.workloads.serving.batching import REQUESTS_MAX, Effort, Queue, Ticket, answer
from clary.workloads.serving.handlers import Rejected

LINE = "text/csv"


class Doubling:
    """Doubles each row's sum; can be held up in the middle of a prediction."""

    batchable = True

    def __init__(self) -> None:
        self.folds: list[int] = []
        self.gate = threading.Event()
        self.gate.set()
        self.entered = threading.Event()

    def ping(self) -> bool:
        return True

    def decode(self, body: bytes, content_type: str) -> Any:
        if content_type != LINE:
            raise Rejected(415, "only CSV")
        return numpy.array([[float(word) for word in body.split(b",")]])

    def predict(self, rows: Any) -> Any:
        self.folds.append(len(rows))
        self.entered.set()
        assert self.gate.wait(20)
        if (rows == 666).any():
            raise ValueError("a row of 666")
        return rows.sum(axis=1) * 2

    def encode(self, results: Any, accept: str) -> tuple[str, bytes]:
        if accept == "no/way":
            raise Rejected(406, "not this")
        return "text/csv", ",".join(map(str, results.tolist())).encode()

    def invoke(self, body: bytes, content_type: str, accept: str, headers: Any) -> Any:
        kind, out = self.encode(self.predict(self.decode(body, content_type)), accept)
        return 200, kind, out


def ask(
    handler: Any, bodies: list[bytes], *, batching: bool = True, held: bool = True
) -> list[Any]:
    """Hold up a first request, let `bodies` gather behind it, and return their answers."""

    async def run() -> list[Any]:
        loop = asyncio.get_running_loop()
        queue = Queue(handler, loop, batching=batching)
        first = loop.create_future()
        answers = [loop.create_future() for _ in bodies]
        if held:
            handler.gate.clear()
            queue.submit(ticket(b"1,1", first.set_result))
            while not handler.entered.is_set():
                await asyncio.sleep(0.001)
        for at, body in enumerate(bodies):
            queue.submit(ticket(body, answers[at].set_result))
        handler.gate.set()
        found = await asyncio.wait_for(asyncio.gather(*answers), 20)
        assert queue.unfinished == 0
        queue.close()
        return found

    return asyncio.run(run())


def ticket(
    body: bytes, reply: Callable[[Any], None], kind: str = LINE, accept: str = "*/*"
) -> Ticket:
    return Ticket(body, kind, accept, {}, reply)


def test_rows_that_wait_are_predicted_together_and_answered_in_order() -> None:
    handler = Doubling()
    answers = ask(handler, [b"%d,1" % n for n in range(20)])
    assert handler.folds == [1, 20]
    assert [body for _, _, body in answers] == [b"%.1f" % (2 * n + 2) for n in range(20)]


def test_a_row_that_breaks_the_prediction_fails_alone() -> None:
    answers = ask(Doubling(), [b"1,1", b"666,1", b"2,2"])
    assert [status for status, _, _ in answers] == [200, 500, 200]
    assert answers[1][2] == b"ValueError: a row of 666"
    assert answers[2][2] == b"8.0"


def test_a_row_that_cannot_be_decoded_fails_alone_and_at_once() -> None:
    handler = Doubling()
    answers = ask(handler, [b"1,1", b"one,two", b"2,2"])
    assert [status for status, _, _ in answers] == [200, 400, 200]
    assert b"could not convert string to float" in answers[1][2]
    assert handler.folds == [1, 2]


def test_rows_of_different_width_are_predicted_apart() -> None:
    handler = Doubling()
    answers = ask(handler, [b"1,1", b"1", b"2,2", b"3"])
    assert [body for _, _, body in answers] == [b"4.0", b"2.0", b"8.0", b"6.0"]
    assert sorted(handler.folds[1:]) == [2, 2]


def test_a_model_that_does_not_answer_row_by_row_is_asked_alone() -> None:
    class Mean(Doubling):
        def predict(self, rows: Any) -> Any:
            return numpy.array([rows.mean()])

    handler = Mean()
    found = answer(handler, [ticket(b"1,3", print), ticket(b"5,7", print)])
    assert [body for _, _, body in found] == [b"2.0", b"6.0"]


def test_batching_can_be_switched_off() -> None:
    handler = Doubling()
    ask(handler, [b"1,1"] * 5, batching=False)
    assert handler.folds == [1] * 6


def test_a_lone_request_waits_for_nobody() -> None:
    handler = Doubling()
    assert ask(handler, [b"3,4"], held=False) == [(200, "text/csv", b"14.0")]
    assert handler.folds == [1]


def test_refusals_keep_their_status() -> None:
    found = answer(
        Doubling(),
        [ticket(b"1", print, "a/b"), ticket(b"1", print, LINE, "no/way"), ticket(b"1", print)],
    )
    assert [status for status, _, _ in found] == [415, 406, 200]


def test_cheap_predictions_move_to_the_event_loop_and_dear_ones_leave_it() -> None:
    class Recorder(Doubling):
        def __init__(self) -> None:
            super().__init__()
            self.threads: list[str] = []

        def predict(self, rows: Any) -> Any:
            self.threads.append(threading.current_thread().name)
            return rows.sum(axis=1)

    async def run() -> list[str]:
        handler = Recorder()
        queue = Queue(handler, asyncio.get_running_loop(), batching=True)

        async def once() -> None:
            reply = asyncio.get_running_loop().create_future()
            queue.submit(ticket(b"1,2", reply.set_result))
            await asyncio.wait_for(reply, 20)

        queue._judge(1.0)  # of the first prediction, which warms up, nothing is learnt
        for _ in range(4):
            queue._judge(0.0001)
        await once()
        for _ in range(2):
            queue._judge(0.01)
        await once()
        queue._doubt = 0
        queue._judge(1.0)
        await once()
        queue.close()
        return handler.threads

    threads = asyncio.run(run())
    assert threads == ["MainThread", "clary-model", "clary-model"]


def test_a_full_queue_answers_503() -> None:
    handler = Doubling()
    answers = ask(handler, [b"1,1"] * (REQUESTS_MAX + 5))
    assert [status for status, _, _ in answers].count(503) == 5


def test_sparse_rows_are_never_folded() -> None:
    import scipy.sparse

    class Sparse(Doubling):
        def decode(self, body: bytes, content_type: str) -> Any:
            return scipy.sparse.csr_matrix([[float(body), 0.0]])

        def predict(self, rows: Any) -> Any:
            self.folds.append(rows.shape[0])
            return numpy.asarray(rows.sum(axis=1)).ravel()

    handler = Sparse()
    found = answer(handler, [ticket(b"3", print), ticket(b"4", print)])
    assert [body for _, _, body in found] == [b"3.0", b"4.0"]
    assert handler.folds == [1, 1]


def test_an_answer_that_cannot_be_written_costs_nobody_else_an_answer() -> None:
    class Odd(Doubling):
        def encode(self, results: Any, accept: str) -> tuple[str, Any]:
            return super().encode(results, accept) if accept != "odd" else ("text/csv", object())

    async def run() -> list[Any]:
        loop = asyncio.get_running_loop()
        queue = Queue(Odd(), loop, batching=True)
        told = [loop.create_future() for _ in range(3)]

        def careful(future: Any) -> Callable[[Any], None]:
            def reply(found: Any) -> None:
                assert isinstance(found[2], bytes)
                future.set_result(found)

            return reply

        for future, accept in zip(told, ("*/*", "odd", "*/*"), strict=True):
            queue.submit(ticket(b"1,1", careful(future), accept=accept))
        found = await asyncio.wait_for(asyncio.gather(*told), 20)
        queue.close()
        return found

    statuses = [status for status, _, _ in asyncio.run(run())]
    assert statuses == [200, 500, 200]


def test_waiting_counts_as_effort_and_being_put_aside_does_not() -> None:
    waiting = Effort()
    threading.Event().wait(0.06)
    assert waiting.seconds() >= 0.06
    working = Effort()
    assert working.seconds() < 0.05
