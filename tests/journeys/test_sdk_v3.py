"""The SageMaker Python SDK v3, unmodified: ModelTrainer, processors, ModelBuilder and the strict core resources."""

from __future__ import annotations

import re

import pytest

pytestmark = pytest.mark.xdist_group("sdk_v3")


def test_a_script_is_trained_served_with_handlers_and_a_failing_one_told(journey):
    told = journey("sagemaker_v3", "v3_training.py")
    assert "a forest of 20 trees; {'trees': 20, 'label': 'a forest'}" in " ".join(told.split())
    assert "train_accuracy=1.000;" in told
    assert accuracy(told) >= 0.9
    assert "Failure Reason: AlgorithmError: " in told and "exit code: 1" in told


def test_processing_training_and_serving_with_the_core_resources(journey):
    told = journey("sagemaker_v3", "v3_serving.py")
    assert "means of 30 columns and 455 rows with 3 digits" in told
    assert accuracy(told) >= 0.95


def accuracy(told: str) -> float:
    found = re.search(r"^accuracy ([0-9.]+)$", told, re.M)
    assert found, told
    return float(found[1])
