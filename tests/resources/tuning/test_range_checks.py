"""Ranges that make no sense are refused by name, with what to do."""

from __future__ import annotations

import pytest

from clary.model.errors import ValidationException
from clary.resources.tuning.autotune import chosen_ranges
from clary.resources.tuning.definitions import Definition
from clary.resources.tuning.range_checks import check_ranges


def checked(ranges, static=None):
    given = {"StaticHyperParameters": static or {}}
    check_ranges(Definition("", given, {}, ranges))


def numbers(low, high, scaling="Auto", kind="Continuous"):
    one = {"Name": "rate", "MinValue": low, "MaxValue": high, "ScalingType": scaling}
    return {f"{kind}ParameterRanges": [one]}


@pytest.mark.parametrize(
    ("ranges", "words"),
    [
        ({}, "at least one hyperparameter range is required"),
        (numbers("1", "0"), r"MinValue \(1\) above its MaxValue \(0\)"),
        (numbers("low", "1"), "MinValue 'low' of the hyperparameter 'rate' is not a number"),
        (numbers("0", "inf"), "MaxValue 'inf' of the hyperparameter 'rate' is not a number"),
        (numbers("1.5", "3", kind="Integer"), "MinValue '1.5' .* is not an integer"),
        (numbers("0", "1", "Logarithmic"), "must be greater than 0"),
        (numbers("0", "1", "ReverseLogarithmic"), "from 0 to below 1"),
        (numbers("0", "0", "ReverseLogarithmic", "Integer"), "continuous ranges"),
        (
            {"CategoricalParameterRanges": [{"Name": "kind", "Values": ["a", "a"]}]},
            "at least one value, each once",
        ),
        (
            {**numbers("0", "1"), **numbers("1", "2", kind="Integer")},
            "'rate' has more than one range",
        ),
    ],
)
def test_a_range_that_makes_no_sense_is_refused(ranges, words):
    with pytest.raises(ValidationException, match=words):
        checked(ranges)


def test_a_hyperparameter_is_static_or_tunable_but_not_both():
    with pytest.raises(ValidationException, match="'rate' is both static and tunable"):
        checked(numbers("0", "1"), {"rate": "0.5"})


def test_at_most_thirty_hyperparameters_are_tuned():
    each = [{"Name": f"h{n}", "MinValue": "0", "MaxValue": "1"} for n in range(31)]
    ranges = {"ContinuousParameterRanges": each[:20], "IntegerParameterRanges": each[20:]}
    with pytest.raises(ValidationException, match=r"31 hyperparameters .* at most 30"):
        checked(ranges)


def test_autotune_searches_around_hints_and_within_the_limits_of_the_algorithm():
    limits = {
        "Name": "eta",
        "Range": {"ContinuousParameterRangeSpecification": {"MinValue": "0.1", "MaxValue": "0.5"}},
    }
    hints = [
        {"Name": "eta", "ValueHint": "0.2"},
        {"Name": "rounds", "ValueHint": "50"},
        {"Name": "shuffle", "ValueHint": "True"},
    ]
    found = chosen_ranges({"AutoParameters": hints}, [limits], {})
    assert found == {
        "ContinuousParameterRanges": [{"Name": "eta", "MinValue": "0.1", "MaxValue": "0.5"}],
        "IntegerParameterRanges": [{"Name": "rounds", "MinValue": "5", "MaxValue": "500"}],
        "CategoricalParameterRanges": [{"Name": "shuffle", "Values": ["true", "false"]}],
    }
    checked(found)


def test_autotune_without_hints_tunes_what_the_algorithm_says_can_be_tuned():
    specifications = [
        {"Name": "eta", "IsTunable": True, "DefaultValue": "0.3"},
        {"Name": "seed", "IsTunable": False, "DefaultValue": "0"},
        {"Name": "depth", "IsTunable": True, "DefaultValue": "6"},
    ]
    found = chosen_ranges({}, specifications, {"depth": "3"})
    assert [one["Name"] for ranges in found.values() for one in ranges] == ["eta"]
    checked(found, {"depth": "3"})
