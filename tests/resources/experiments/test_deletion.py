"""What still holds something together is not deleted."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from clary.resources.experiments.experiment import experiment
from clary.resources.experiments.trial import trial
from clary.resources.experiments.trial_component import trial_component
from tests.engine.small_parts import SmallParts, small_parts


@pytest.fixture
def parts(tmp_path: Path) -> Iterator[SmallParts]:
    with small_parts(tmp_path, experiment, trial, trial_component) as made:
        made.ask("CreateExperiment", ExperimentName="churn")
        made.ask("CreateTrial", TrialName="first", ExperimentName="churn")
        made.ask("CreateTrialComponent", TrialComponentName="step")
        made.ask("AssociateTrialComponent", TrialComponentName="step", TrialName="first")
        yield made


def test_an_experiment_with_trials_is_kept(parts):
    code, message = parts.refused("DeleteExperiment", ExperimentName="churn")
    assert code == "ValidationException"
    assert message == (
        "Experiment 'churn' cannot be deleted: it has trials, 'first' among them. "
        "Delete its trials first."
    )


def test_a_trial_with_components_is_kept(parts):
    code, message = parts.refused("DeleteTrial", TrialName="first")
    assert code == "ValidationException"
    assert "the trial component 'step' is associated with it" in message


def test_from_the_inside_out_everything_goes(parts):
    parts.ask("DisassociateTrialComponent", TrialComponentName="step", TrialName="first")
    parts.ask("DeleteTrialComponent", TrialComponentName="step")
    parts.ask("DeleteTrial", TrialName="first")
    parts.ask("DeleteExperiment", ExperimentName="churn")
    assert parts.refused("DescribeExperiment", ExperimentName="churn")[0] == "ResourceNotFound"
