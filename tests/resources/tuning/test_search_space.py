"""Ranges of every scale, as points of the unit cube and back."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from clary.resources.tuning.search_space import Choices, Numbers, Space


def continuous(low: str, high: str, scaling: str) -> Numbers:
    ranges = {"Name": "x", "MinValue": low, "MaxValue": high, "ScalingType": scaling}
    (found,) = Space.of({"ContinuousParameterRanges": [ranges]}).parameters
    assert isinstance(found, Numbers)
    return found


@pytest.mark.parametrize(
    ("low", "high", "scaling", "middle"),
    [
        ("0", "10", "Linear", 5.0),
        ("0.001", "10", "Logarithmic", 0.1),
        ("0", "0.99", "ReverseLogarithmic", 0.9),
        ("1", "10", "Auto", 5.5),
        ("0.01", "1", "Auto", 0.1),
        ("-5", "5", "Auto", 0.0),
    ],
)
def test_the_middle_of_a_range_lies_where_its_scale_puts_it(low, high, scaling, middle):
    assert math.isclose(float(continuous(low, high, scaling).value(0.5)), middle, abs_tol=1e-9)


@given(
    place=st.floats(0, 1),
    scaling=st.sampled_from(["Linear", "Logarithmic", "ReverseLogarithmic"]),
)
def test_a_value_stays_inside_and_leads_back_to_its_place(place, scaling):
    one = continuous("0.001", "0.999", scaling)
    value = one.value(place)
    assert 0.001 <= float(value) <= 0.999
    back = one.place(value)
    assert back is not None and abs(back - place) < 1e-6


@given(place=st.floats(0, 1), low=st.integers(1, 50), width=st.integers(0, 5_000))
def test_an_integer_range_includes_both_ends_and_writes_whole_numbers(place, low, width):
    one = Numbers("n", low, low + width, "Logarithmic", whole=True)
    assert low <= int(one.value(place)) <= low + width
    assert (int(one.value(0.0)), int(one.value(1.0))) == (low, low + width)


def test_values_outside_their_range_have_no_place():
    space = Space((Numbers("n", 1, 5, "Linear", whole=True), Choices("k", ("a", "b"))))
    assert space.point({"n": "6", "k": "a"}) is None
    assert space.point({"n": "many", "k": "a"}) is None
    assert space.point({"n": "3", "k": "c"}) is None
    assert space.point({"n": "3"}) is None
    assert space.point({"n": "3", "k": "b"}) == [0.5, 0.75]


def test_the_adviser_is_told_which_coordinates_can_be_tried():
    space = Space(
        (
            Numbers("few", 1, 3, "Linear", whole=True),
            Numbers("many", 1, 10_000, "Linear", whole=True),
            Choices("kind", ("a", "b", "c")),
        )
    )
    assert space.dimensions() == [{"levels": [0.0, 0.5, 1.0]}, {}, {"choices": 3}]


def test_a_grid_goes_through_every_combination_with_values_as_they_were_given():
    space = Space((Choices("a", ('"x"', '"y"')), Choices("b", ("1", "2"))))
    assert space.grid_size() == 4
    assert list(space.grid()) == [
        {"a": '"x"', "b": "1"},
        {"a": '"x"', "b": "2"},
        {"a": '"y"', "b": "1"},
        {"a": '"y"', "b": "2"},
    ]
