"""Debugger rules of a job of a real server, from what it logs."""

from __future__ import annotations

import json
from typing import Any

import pytest
from botocore.exceptions import ClientError

from tests.journeys.conftest import python_job

IMAGE = "503895931360.dkr.ecr.us-east-1.amazonaws.com/sagemaker-debugger-rules:latest"
METRICS = [
    {"Name": "train:loss", "Regex": "train_loss=([0-9.]+)"},
    {"Name": "validation:loss", "Regex": "val_loss=([0-9.]+)"},
]


def rule(name: str, **parameters: str) -> dict[str, Any]:
    return {
        "RuleConfigurationName": name,
        "RuleEvaluatorImage": IMAGE,
        "RuleParameters": {"rule_to_invoke": name, **parameters},
    }


def specification() -> dict[str, Any]:
    given = python_job("any", "pass")["AlgorithmSpecification"]
    return {**given, "MetricDefinitions": METRICS}


def test_rules_tell_what_they_found_in_the_logged_metrics(training):
    code = (
        "for step in range(12): print(f'train_loss={10 - step * 0.5} val_loss={9 + step}')\n"
        "print('grad_norm: nan')"
    )
    job = training.run(
        code,
        AlgorithmSpecification=specification(),
        DebugHookConfig={"S3OutputPath": f"s3://{training.bucket}/debug"},
        DebugRuleConfigurations=[
            rule("LossNotDecreasing", tensor_regex="train"),
            rule("Overfit"),
            rule("ExplodingTensor"),
            rule("VanishingGradient"),
        ],
    )
    assert job["TrainingJobStatus"] == "Completed", job.get("FailureReason")
    found = {one["RuleConfigurationName"]: one for one in job["DebugRuleEvaluationStatuses"]}
    statuses = {name: one["RuleEvaluationStatus"] for name, one in found.items()}
    assert statuses == {
        "LossNotDecreasing": "NoIssuesFound",
        "Overfit": "IssuesFound",
        "ExplodingTensor": "IssuesFound",
        "VanishingGradient": "Error",
    }
    assert "validation:loss exceeds train:loss" in found["Overfit"]["StatusDetails"]
    assert found["ExplodingTensor"]["StatusDetails"] == "grad_norm became nan"
    assert "cannot be evaluated from logged metrics" in found["VanishingGradient"]["StatusDetails"]


def test_a_rule_stops_training_where_it_was_told_to(training):
    code = (
        "import time\n"
        "for step in range(600): print(f'train_loss=1.0', flush=True); time.sleep(0.02 if step < 20 else 1)"
    )
    action = json.dumps({"actions": [{"name": "stoptraining"}]})
    job = training.run(
        code,
        AlgorithmSpecification=specification(),
        DebugRuleConfigurations=[rule("LossNotDecreasing", num_steps="5", action_json=action)],
    )
    assert job["TrainingJobStatus"] == "Stopped"
    (found,) = job["DebugRuleEvaluationStatuses"]
    assert found["RuleEvaluationStatus"] == "IssuesFound"
    assert "train:loss went from 1 to 1 in 5 steps" in found["StatusDetails"]


def test_a_rule_without_a_metric_says_what_it_needs(training):
    job = training.run(
        "pass",
        DebugRuleConfigurations=[rule("LossNotDecreasing")],
        ProfilerConfig={"S3OutputPath": f"s3://{training.bucket}/profile"},
        ProfilerRuleConfigurations=[rule("ProfilerReport")],
    )
    (found,) = job["DebugRuleEvaluationStatuses"]
    assert found["RuleEvaluationStatus"] == "Error"
    assert "MetricDefinitions" in found["StatusDetails"]
    assert job["ProfilingStatus"] == "Enabled"
    (profiled,) = job["ProfilerRuleEvaluationStatuses"]
    assert profiled["RuleEvaluationStatus"] == "Stopped"
    assert "was not evaluated" in profiled["StatusDetails"]


def test_rules_are_named_once(training):
    with pytest.raises(ClientError, match="Duplicate RuleConfigurationName 'Overfit'"):
        training.start("pass", DebugRuleConfigurations=[rule("Overfit"), rule("Overfit")])
