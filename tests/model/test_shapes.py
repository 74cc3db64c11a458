"""Validation speaks with the service's own words, and counts every broken constraint."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from botocore.model import Shape, ShapeResolver

from clary.model.errors import ValidationException
from clary.model.service import Services
from clary.model.shapes import Validators

SHAPES: dict[str, Any] = {
    "Request": {
        "type": "structure",
        "required": ["JobName"],
        "members": {
            "JobName": {"shape": "Name"},
            "Kind": {"shape": "Kind"},
            "Count": {"shape": "Count"},
            "Zero": {"shape": "Zero"},
            "Rate": {"shape": "Rate"},
            "Names": {"shape": "Names"},
            "Tree": {"shape": "Tree"},
            "Trees": {"shape": "Trees"},
            "Settings": {"shape": "Settings"},
            "Forest": {"shape": "Forest"},
            "Choice": {"shape": "Choice"},
            "Blob": {"shape": "Blob"},
            "Free": {"shape": "Free"},
            "When": {"shape": "When"},
        },
    },
    "Name": {"type": "string", "min": 2, "max": 5, "pattern": "[a-z]*"},
    "Kind": {"type": "string", "enum": ["Large", "Small"]},
    "Count": {"type": "integer", "min": 1, "max": 9},
    "Zero": {"type": "integer", "min": 0},
    "Rate": {"type": "double", "max": 1},
    "Names": {"type": "list", "member": {"shape": "Name"}, "min": 1, "max": 2},
    "Tree": {
        "type": "structure",
        "required": ["Leaf"],
        "members": {"Leaf": {"shape": "Name"}, "Tree": {"shape": "Tree"}},
    },
    "Trees": {"type": "list", "member": {"shape": "Tree"}},
    "Settings": {"type": "map", "key": {"shape": "Name"}, "value": {"shape": "Name"}, "max": 1},
    "Forest": {"type": "map", "key": {"shape": "Free"}, "value": {"shape": "Tree"}},
    "Choice": {
        "type": "structure",
        "union": True,
        "members": {"One": {"shape": "Free"}, "Two": {"shape": "Free"}},
    },
    "Blob": {"type": "blob", "max": 3},
    "Free": {"type": "string"},
    "When": {"type": "timestamp"},
}
REQUEST: Shape = ShapeResolver(SHAPES).get_shape_by_name("Request", {"shape": "Request"})
PATTERN = "Member must satisfy regular expression pattern: [a-z]*"
LONG = "Member must have length less than or equal to 5"
SHORT = "Member must have length greater than or equal to 2"


def refusal(**members: Any) -> str:
    with pytest.raises(ValidationException) as caught:
        Validators().validate(REQUEST, {"JobName": "name", **members})
    assert (caught.value.code, caught.value.status) == ("ValidationException", 400)
    return caught.value.message


def one(value: str, at: str, constraint: str) -> str:
    where = f"Value '{value}' at '{at}' failed to satisfy constraint: {constraint}"
    return f"1 validation error detected: {where}"


def test_a_valid_request_passes() -> None:
    Validators().validate(
        REQUEST,
        {
            "JobName": "name",
            "Kind": "Small",
            "Count": 9,
            "Zero": 0,
            "Rate": 0.5,
            "Names": ["ab", "cd"],
            "Tree": {"Leaf": "ab", "Tree": {"Leaf": "cd"}},
            "Settings": {"ab": "cd"},
            "Forest": {"any": {"Leaf": "ab"}},
            "Choice": {"Two": "x"},
            "Blob": b"abc",
        },
    )
    Validators().validate(None, {"Whatever": 1})


@pytest.mark.parametrize(
    ("members", "value", "at", "constraint"),
    [
        ({"JobName": "Upper"}, "Upper", "jobName", PATTERN),
        ({"JobName": "toolong"}, "toolong", "jobName", LONG),
        ({"JobName": "a"}, "a", "jobName", SHORT),
        (
            {"Kind": "Huge"},
            "Huge",
            "kind",
            "Member must satisfy enum value set: [Large, Small]",
        ),
        ({"Count": 10}, "10", "count", "Member must have value less than or equal to 9"),
        ({"Count": 0}, "0", "count", "Member must have value greater than or equal to 1"),
        ({"Zero": -1}, "-1", "zero", "Member must have value greater than or equal to 0"),
        ({"Rate": 1.5}, "1.5", "rate", "Member must have value less than or equal to 1"),
        (
            {"Names": []},
            "[]",
            "names",
            "Member must have length greater than or equal to 1",
        ),
        (
            {"Names": ["ab", "cd", "ef"]},
            "[ab, cd, ef]",
            "names",
            "Member must have length less than or equal to 2",
        ),
        (
            {"Names": ["ab", "A1"]},
            "[ab, A1]",
            "names",
            f"Member must satisfy constraint: [{LONG}, {SHORT}, {PATTERN}]",
        ),
        (
            {"Settings": {"A1": "ab"}},
            "{A1=ab}",
            "settings",
            f"Map keys must satisfy constraint: [{LONG}, {SHORT}, {PATTERN}]",
        ),
        (
            {"Settings": {"ab": "A1"}},
            "{ab=A1}",
            "settings",
            f"Map value must satisfy constraint: [{LONG}, {SHORT}, {PATTERN}]",
        ),
        (
            {"Settings": {"ab": "cd", "ef": "gh"}},
            "{ab=cd, ef=gh}",
            "settings",
            "Member must have length less than or equal to 1",
        ),
        ({"Tree": {"Leaf": "A1"}}, "A1", "tree.leaf", PATTERN),
        (
            {"Tree": {"Leaf": "ab", "Tree": {"Leaf": "A1"}}},
            "A1",
            "tree.tree.leaf",
            PATTERN,
        ),
        (
            {"Trees": [{"Leaf": "ab"}, {"Leaf": "A1"}]},
            "A1",
            "trees.2.member.leaf",
            PATTERN,
        ),
        ({"Forest": {"oak": {"Leaf": "A1"}}}, "A1", "forest.oak.member.leaf", PATTERN),
        (
            {"Choice": {"One": "x", "Two": "y"}},
            "{One=x, Two=y}",
            "choice",
            "Union member must be set exactly once",
        ),
        (
            {"Blob": b"abcd"},
            "b'abcd'",
            "blob",
            "Member must have length less than or equal to 3",
        ),
    ],
)
def test_each_constraint_has_its_words(
    members: dict[str, Any], value: str, at: str, constraint: str
) -> None:
    assert refusal(**members) == one(value, at, constraint)


def test_an_absent_member_and_a_null_one_are_the_same() -> None:
    words = (
        "1 validation error detected: Value null at 'jobName' failed to satisfy constraint: "
        "Member must not be null"
    )
    assert refusal(JobName=None) == words
    with pytest.raises(ValidationException) as caught:
        Validators().validate(REQUEST, {})
    assert caught.value.message == words


def test_every_broken_constraint_is_counted() -> None:
    text = refusal(JobName="UPPERCASE", Count=99, Trees=[{}])
    assert text.startswith("4 validation errors detected: Value 'UPPERCASE' at 'jobName'")
    assert text.count("; Value") == 3
    assert "Value null at 'trees.1.member.leaf' failed" in text


def test_a_long_value_is_not_repeated_whole() -> None:
    text = refusal(JobName="x" * 5_000)
    assert f"'{'x' * 1_024}...'" in text and "x" * 1_025 not in text


def test_a_nested_value_is_shown_as_java_prints_it() -> None:
    text = refusal(Names=["A1", "ab", "cd"])
    assert "Value '[A1, ab, cd]'" in text
    assert "Value '{On={a=[true, false]}}'" not in text


def test_the_same_validators_serve_every_request() -> None:
    validators = Validators()
    for _ in range(2):
        with pytest.raises(ValidationException):
            validators.validate(REQUEST, {"JobName": "A"})
        validators.validate(REQUEST, {"JobName": "ab"})


def test_the_services_words_for_a_name_that_is_too_long() -> None:
    model = Services().get("sagemaker")
    assert model is not None
    shape = model.operation_model("DescribeTrainingJob").input_shape
    name = "a" * 64
    with pytest.raises(ValidationException) as caught:
        Validators().validate(shape, {"TrainingJobName": name})
    pattern = "[a-zA-Z0-9](-*[a-zA-Z0-9]){0,62}"
    where = f"Value '{name}' at 'trainingJobName' failed to satisfy constraint: "
    assert caught.value.message == (
        f"2 validation errors detected: {where}Member must have length less than or equal to 63; "
        f"{where}Member must satisfy regular expression pattern: {pattern}"
    )


def test_many_threads_may_ask_first_of_a_shape_that_refers_to_itself():
    deep: dict[str, Any] = {"Leaf": "leaf"}
    for _ in range(20):
        deep = {"Leaf": "leaf", "Tree": deep}
    shape = ShapeResolver(SHAPES).get_shape_by_name("Tree")
    for _ in range(20):
        validators = Validators()
        with ThreadPoolExecutor(4) as pool:
            asked = [pool.submit(validators.validate, shape, deep) for _ in range(8)]
        assert [one.result() for one in asked] == [None] * 8
