"""Each rule on series that it must and must not complain of."""

from __future__ import annotations

import pytest

from clary.runner.debug_rules import DebugRules, Rule, evaluate
from clary.runner.metrics import Datapoint

FALLING = [5.0, 4.0, 3.0, 2.0, 1.0, 0.5]


@pytest.mark.parametrize(
    ("invoked", "parameters", "values", "status"),
    [
        ("LossNotDecreasing", {"num_steps": "3"}, {"loss": FALLING}, "NoIssuesFound"),
        ("LossNotDecreasing", {"num_steps": "3"}, {"loss": [1.0] * 5}, "IssuesFound"),
        ("LossNotDecreasing", {"num_steps": "9"}, {"loss": [1.0] * 5}, "NoIssuesFound"),
        ("LossNotDecreasing", {}, {"accuracy": [1.0] * 50}, "Error"),
        ("LossNotDecreasing", {"num_steps": "many"}, {"loss": [1.0] * 5}, "Error"),
        ("LossNotDecreasing", {"tensor_regex": "("}, {"loss": [1.0] * 5}, "Error"),
        ("Overfit", {}, {"train_loss": FALLING, "val_loss": FALLING}, "NoIssuesFound"),
        ("Overfit", {}, {"train_loss": FALLING, "val_loss": [6.0] * 6}, "IssuesFound"),
        ("Overfit", {}, {"train_loss": FALLING}, "Error"),
        (
            "Overtraining",
            {"patience_validation": "3"},
            {"val_loss": [3.0, 1.0, 2.0, 2.0, 2.0]},
            "IssuesFound",
        ),
        ("Overtraining", {}, {"val_loss": FALLING}, "NoIssuesFound"),
        ("UnchangedTensor", {}, {"weight": [1.0, 2.0, 2.0, 2.0]}, "IssuesFound"),
        ("UnchangedTensor", {}, {"weight": FALLING}, "NoIssuesFound"),
        ("AllZero", {}, {"weight": [0.0, 0.0]}, "IssuesFound"),
        ("AllZero", {}, {"weight": [0.0, 0.1]}, "NoIssuesFound"),
        ("DeadRelu", {}, {"loss": FALLING}, "Error"),
    ],
)
def test_a_rule_judges_a_series(invoked, parameters, values, status):
    finding = evaluate(Rule("r", invoked, parameters), values, {})
    assert finding.status == status, finding.details
    assert bool(finding.details) == (status != "NoIssuesFound")


@pytest.mark.parametrize(
    ("line", "details"),
    [
        (b"epoch 3 loss=nan", "loss became nan"),
        (b"{'train_loss': inf}", "train_loss became inf"),
        (b"validation-error: -Infinity", "validation-error became -Infinity"),
        (b"loss: 0.5 (information)", ""),
        (b"no nan here for the loss of 3", ""),
    ],
)
def test_an_exploding_tensor_is_seen_in_the_words_of_a_line(line, details):
    rules = DebugRules([Rule("r", "ExplodingTensor", {})])
    rules.feed(line, [])
    assert rules.told()["r"]["details"] == details


def test_an_issue_stays_one_and_stops_training_once():
    stops = {"num_steps": "2", "action_json": '[{"name": "StopTraining"}]'}
    rules = DebugRules([Rule("r", "LossNotDecreasing", stops)])
    fired = [
        rules.feed(b"", [Datapoint("loss", value, float(at))])
        for at, value in enumerate([1.0, 1.0, 1.0, 1.0, 0.1])
    ]
    assert [bool(one) for one in fired] == [False, False, True, False, False]
    assert rules.told()["r"]["status"] == "IssuesFound"
