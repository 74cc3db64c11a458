"""The SageMaker Python SDK v2, unmodified: estimators, script mode, processors, predictors, analytics."""

from __future__ import annotations

import re

import pytest

pytestmark = pytest.mark.xdist_group("sdk_v2")


def test_the_built_in_algorithm_is_fitted_deployed_asked_updated_and_deleted(journey):
    told = journey("sagemaker_v2", "v2_built_in_xgboost.py")
    # `fit(logs=True)` shows the algorithm's own lines and the job's progress.
    assert re.search(r"^\[49\]#011train-auc:[0-9.]+#011validation-auc:[0-9.]+$", told, re.M), told
    assert "Training - Training image download completed. Training in progress" in told
    assert "Completed - Training job completed" in told
    assert re.search(r"^Billable seconds: [1-9]\d*$", told, re.M)
    assert accuracy(told, "accuracy") >= 0.95


def test_script_mode_trains_serves_and_fails_as_the_script_does(journey):
    told = journey("sagemaker_v2", "v2_script_mode.py")
    assert (
        "hello from a forest, one of many forests" in told
    )  # of the package that requirements.txt brought
    assert "epoch=2 train_accuracy=0.700;" in told
    assert accuracy(told, "estimator accuracy") >= 0.9
    assert accuracy(told, "model accuracy") >= 0.9
    assert "boosted 20 rounds" in told
    assert "looking for a column" in told
    assert "the failing script failed as it should" in told


def test_processors_run_scripts_and_source_folders(journey):
    told = journey("sagemaker_v2", "v2_processing.py")
    for digits in (3, 2, 1):
        assert f"means of 30 columns and 455 rows with {digits} digits" in told


def test_a_tuner_searches_analyses_attaches_and_starts_warm(journey):
    told = journey("sagemaker_v2", "v2_tuning.py")
    assert re.search(r"^best sagemaker-scikit-lea-\d{6}-\d{4}-00\d-[0-9a-f]{8}$", told, re.M), told


def accuracy(told: str, words: str) -> float:
    found = re.search(rf"^{words} ([0-9.]+)$", told, re.M)
    assert found, told
    return float(found[1])
