"""Slots: never more than there are, and nobody who waits is overtaken."""

from __future__ import annotations

from clary.engine.slots import Slots


def test_rows_are_called_in_their_order_as_slots_become_free():
    slots = Slots(2)
    assert slots.reserve(1, 1)
    assert slots.reserve(2, 1)
    for row_id in (5, 4, 3):
        assert not slots.reserve(row_id, 1)
        slots.wait(row_id, 1)
    assert slots.call() == []
    slots.hold(1, 0)
    assert slots.call() == [3]
    assert slots.call() == []  # its slot is promised
    assert not slots.reserve(4, 1)
    assert slots.reserve(3, 1)
    assert slots.free() == 0


def test_a_large_job_is_not_overtaken_by_small_ones():
    slots = Slots(2)
    assert slots.reserve(1, 1)
    slots.wait(2, 2)
    slots.wait(3, 1)
    assert slots.call() == []
    assert not slots.reserve(3, 1)
    slots.hold(1, 0)
    assert slots.call() == [2]
    assert slots.reserve(2, 2)


def test_a_job_of_more_hosts_than_slots_runs_alone():
    slots = Slots(2)
    assert slots.reserve(1, 1)
    assert not slots.reserve(2, 5)
    slots.wait(2, 5)
    slots.hold(1, 0)
    assert slots.call() == [2]
    assert slots.reserve(2, 5)
    assert not slots.reserve(3, 1)


def test_a_row_that_waits_no_longer_holds_up_nobody():
    slots = Slots(1)
    assert slots.reserve(1, 1)
    slots.wait(2, 1)
    slots.wait(3, 1)
    slots.wait(2, 0)  # it was stopped
    slots.hold(1, 0)
    assert slots.call() == [3]
    slots.wait(3, 0)  # stopped after it was called
    assert slots.reserve(4, 1)


def test_launching_again_takes_no_more_slots():
    slots = Slots(2)
    assert slots.reserve(1, 2)
    assert slots.reserve(1, 2)
    assert slots.free() == 0
