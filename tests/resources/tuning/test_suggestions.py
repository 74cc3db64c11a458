"""Suggestions are the same each time, fill the space, and do not repeat themselves."""

from __future__ import annotations

from clary.resources.tuning.search_space import Choices, Numbers, Space
from clary.resources.tuning.suggestions import (
    Evaluated,
    grid_values,
    question,
    spread_point,
    spread_values,
    start_count,
)

SPACE = Space((Numbers("x", 0, 1, "Linear"), Numbers("y", 0, 1, "Linear")))


def test_the_same_number_and_seed_give_the_same_point():
    assert spread_point(3, 5, 1) == spread_point(3, 5, 1)
    assert spread_point(3, 5, 1) != spread_point(3, 5, 2)
    assert spread_point(20, 5, 1) == spread_point(20, 5, 1)


def test_the_first_points_fill_the_space():
    """Each quarter of a square gets between 3 and 5 of 16 points, whatever the seed."""
    for seed in range(20):
        points = [spread_point(2, number, seed) for number in range(16)]
        quarters = [(x < 0.5, y < 0.5) for x, y in points]
        assert all(2 <= quarters.count(one) <= 6 for one in set(quarters)), seed
        assert len(set(quarters)) == 4


def test_values_that_were_tried_are_not_tried_again_while_there_are_others():
    space = Space((Choices("kind", ("a", "b", "c")),))
    tried: list[dict[str, str]] = []
    for number in range(3):
        tried.append(spread_values(space, number, 11, tried))
    assert sorted(one["kind"] for one in tried) == ["a", "b", "c"]
    assert spread_values(space, 3, 11, tried)["kind"] in "abc"


def test_a_grid_ends():
    space = Space((Choices("kind", ("a", "b")),))
    assert [grid_values(space, n) for n in range(3)] == [{"kind": "a"}, {"kind": "b"}, None]


def test_the_adviser_is_asked_once_enough_is_known():
    known = [Evaluated((0.1, n / 10), float(n)) for n in range(start_count(2) - 1)]
    assert question(SPACE, known, 1) is None
    asked = question(SPACE, [*known, Evaluated((0.9, 0.9), None)], 1)
    assert asked is not None
    assert asked["values"] == [0.0, 1.0, 2.0, 3.0]
    assert asked["pending"] == [(0.9, 0.9)]
    assert question(SPACE, [*known, Evaluated((0.9, 0.9), 2.0)], 1) != asked
