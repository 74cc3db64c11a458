"""Questions are answered beside the loop, by a process that may die, and answers are to one question only."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import pytest

from clary.engine import consultations
from clary.engine.consultations import Adviser, Consultations
from clary.reconcile.seen import READY
from clary.store.rows import Row

POINTS = {"dimensions": [{}], "points": [[0.1], [0.9], [0.5]], "values": [1.0, 2.0, 0.1]}
QUESTION = {**POINTS, "pending": [], "seed": 1}


def adviser(program: str = "clary.workloads.tuning") -> Adviser:
    return Adviser(program, lambda row: row.state.get("question"))


def row(number: int, **question: object) -> Row:
    asked = {**QUESTION, **question} if question is not None else None
    return Row("K", f"k{number}", f"arn:{number}", state={"question": asked}, id=number)


class Told:
    """Waits for an answer as the loop does: by being told of it."""

    def __init__(self) -> None:
        self.heard = threading.Event()

    def __call__(self, row_id: int) -> None:
        self.heard.set()

    def wait(self) -> None:
        assert self.heard.wait(60.0), "no answer came"
        self.heard.clear()


@pytest.fixture
def told() -> Told:
    return Told()


@pytest.fixture
def asked(told: Told) -> Iterator[Consultations]:
    made = Consultations(told)
    yield made
    made.close()


def test_a_question_is_answered_and_another_is_not(asked, told):
    one = row(1)
    assert asked.state_of(one, adviser()).status == "absent"
    asked.ask(one, adviser())
    asked.ask(one, adviser())
    told.wait()
    found = asked.state_of(one, adviser())
    assert found.status == "ready" and 0.0 <= found.answer["point"][0] <= 1.0
    assert asked.state_of(row(1, seed=2), adviser()).status == "absent"
    # The same question has the same answer, in any process.
    again = Consultations(told)
    again.ask(one, adviser())
    told.wait()
    assert again.state_of(one, adviser()).answer == found.answer
    again.close()


def test_a_row_without_a_question_waits_for_nothing(asked):
    plain = Row("K", "k", "arn", id=1)
    assert asked.state_of(plain, adviser()) == READY
    asked.ask(plain, adviser())


def test_an_adviser_that_dies_is_told_and_the_next_question_starts_another(asked, told, capfd):
    asked.ask(row(1), adviser("clary.no_such_module"))
    told.wait()
    found = asked.state_of(row(1), adviser())
    assert found.status == "failed" and "did not answer" in found.message
    assert "no_such_module" in capfd.readouterr().err
    asked.ask(row(2), adviser())
    told.wait()
    assert asked.state_of(row(2), adviser()).status == "ready"


def test_an_adviser_that_is_silent_is_given_up(asked, told, monkeypatch):
    monkeypatch.setattr(consultations, "ANSWER_SECONDS", 0.2)
    asked.ask(row(1), adviser("json.tool"))  # waits for the end of its input
    told.wait()
    assert "no answer within" in asked.state_of(row(1), adviser()).message


def test_a_question_that_makes_no_sense_is_answered_by_nothing(asked, told, capfd):
    asked.ask(row(1, values=["x"]), adviser())
    told.wait()
    assert asked.state_of(row(1, values=["x"]), adviser()).answer == {}
    assert "Traceback" in capfd.readouterr().err
