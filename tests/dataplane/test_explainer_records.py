"""Records in the formats that online explainability takes, text among them, and what counts as an output."""

from __future__ import annotations

import pytest

from clary.dataplane.explainer_records import (
    ExplainerError,
    body_of,
    features_of,
    is_wanted,
    labels_of,
    outputs_of,
    scores_of,
)
from clary.dataplane.explainer_units import mixed, units_of


def test_records_go_out_as_they_came_in():
    lines = {"FeaturesAttribute": "f", "ContentTemplate": '{"f":$features}'}
    records = features_of('{"f": [1, "a"]}\n{"f": [2, "b"]}\n', "application/jsonlines", lines)
    assert records == [[1, "a"], [2, "b"]]
    assert body_of(records[:1], "application/jsonlines", lines) == '{"f":[1, "a"]}\n'
    rows = features_of('1,"a,b"\n2,c\n', "text/csv; charset=utf-8", {})
    assert body_of(rows, "text/csv", {}) == '1,"a,b"\n2,c\n'
    for body, kind in (
        ("x", "image/png"),
        ("{", "application/jsonlines"),
        ("{}", "application/jsonl"),
    ):
        with pytest.raises(ExplainerError):
            features_of(body, kind, {})


@pytest.mark.parametrize(
    ("body", "kind", "config", "scores"),
    [
        ("0.6\n", "text/csv", {}, [0.6]),
        ("1,0.6\n", "text/csv", {"ProbabilityIndex": 1}, [0.6]),
        ("\"['cat','dog']\",\"[0.1,0.9]\"\n", "text/csv", {"ProbabilityIndex": 1}, [0.1, 0.9]),
        ('{"p": [0.2, 0.8]}\n', "application/jsonlines", {"ProbabilityAttribute": "p"}, [0.2, 0.8]),
        ("[[0.3, 0.7]]", "application/json", {}, [0.3, 0.7]),
        ('{"predictions": [0.4]}', "application/json", {}, [0.4]),
    ],
)
def test_scores_are_where_the_configuration_says(body, kind, config, scores):
    (output,) = outputs_of(body, kind)
    assert scores_of(output, config) == scores


def test_an_output_without_a_score_is_told():
    with pytest.raises(ExplainerError, match="ProbabilityIndex"):
        scores_of(["yes"], {})
    with pytest.raises(ExplainerError, match="no ProbabilityIndex 3"):
        scores_of([1], {"ProbabilityIndex": 3})


def test_labels_come_from_the_configuration_or_the_output():
    (output,) = outputs_of("\"['cat','dog']\",\"[0.1,0.9]\"\n", "text/csv")
    assert labels_of(output, {"LabelIndex": 0}) == ["cat", "dog"]
    assert labels_of(output, {"LabelHeaders": ["a", "b"]}) == ["a", "b"]
    assert labels_of(output, {}) is None


@pytest.mark.parametrize(
    ("expression", "output", "wanted"),
    [
        ("`true`", [0.2], True),
        ("`false`", [0.2], False),
        ("[1]>`0.5`", [1, 0.6], True),
        ("probability>`0.5`", {"probability": 0.4}, False),
        ("!contains(p[:-1], max(p))", {"p": [0.4, 0.1, 0.4]}, False),
    ],
)
def test_the_documented_expressions_choose_records(expression, output, wanted):
    assert is_wanted(expression, output) is wanted


def test_an_expression_that_is_not_a_boolean_is_an_error():
    with pytest.raises(ExplainerError, match="must be true or false"):
        is_wanted("[0]", [1])


def test_text_is_taken_apart_and_parts_are_replaced_by_the_baseline():
    record = ["The flavour is great. Really!", 4]
    units = units_of(record, ["text", "numerical"], "token")
    assert [(one.start, one.text) for one in units[:3]] == [
        (0, "The"),
        (4, "flavour"),
        (12, "is"),
    ]
    assert len(units) == 6
    assert mixed(record, ["<UNK>", 0], units, 0b100001) == [
        "The <UNK> <UNK> <UNK> <UNK>",
        4,
    ]
    sentences = units_of(record, ["text", "numerical"], "sentence")
    assert [one.text for one in sentences] == ["The flavour is great.", "Really!", None]
