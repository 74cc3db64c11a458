"""When a search ends, and in which words."""

from __future__ import annotations

import pytest

from clary.resources.tuning.completion import finish_of
from clary.resources.tuning.trials import Objective, Trial, best_trial, not_improving
from tests.resources.tuning.tuning_rows import tuning_row

LOSS = Objective("loss", maximize=False)


def done(*values: float | None, status: str = "Completed", failure: str = "") -> list[Trial]:
    return [
        Trial(f"t-{n}", 0, {}, status=status, ended=float(n + 1), objective=value, failure=failure)
        for n, value in enumerate(values)
    ]


def finish(trials, *, config=None, limits=None, exhausted=False, now=1_010.0):
    row = tuning_row(config=config, limits=limits)
    return finish_of(row, trials, [LOSS], exhausted=exhausted, now=now)


def criteria(**members):
    return {"TuningJobCompletionCriteria": members}


def test_a_search_goes_on_until_its_budget_is_spent_and_its_jobs_have_ended():
    running = Trial("t-9", 0, {})
    assert finish(done(1.0)) is None
    assert finish([*done(1.0), running], exhausted=True) is None
    assert finish(done(1.0), exhausted=True).status == "Completed"


def test_a_target_ends_the_search_in_the_direction_of_the_objective():
    asked = criteria(TargetObjectiveMetricValue=0.5)
    assert finish(done(0.6), config=asked) is None
    assert finish(done(0.5), config=asked).status == "Completed"


def test_a_best_value_that_does_not_improve_ends_the_search():
    asked = criteria(BestObjectiveNotImproving={"MaxNumberOfTrainingJobsNotImproving": 3})
    assert finish(done(1.0, 0.5, 0.6, 0.499), config=asked) is None
    assert finish(done(1.0, 0.5, 0.6, 0.499, 0.7), config=asked).status == "Completed"
    assert not_improving(done(1.0, 0.5, 0.6, 0.499, 0.4), LOSS) == 0


def test_convergence_ends_the_search_only_where_it_was_asked_for():
    values = [1.0 / n for n in range(1, 10)] + [0.5] * 15
    asked = criteria(ConvergenceDetected={"CompleteOnConvergence": "Enabled"})
    assert finish(done(*values)) is None
    found = finish(done(*values), config=asked)
    assert found.status == "Completed" and found.converged


def test_the_runtime_limit_ends_the_search():
    limits = {"MaxRuntimeInSeconds": 120}
    assert finish(done(1.0), limits=limits, now=1_119.0) is None
    assert finish(done(1.0), limits=limits, now=1_120.0).status == "Completed"


def test_five_jobs_without_a_metric_fail_the_search():
    assert finish(done(*[None] * 4)) is None
    found = finish(done(*[None] * 5))
    assert found.status == "Failed"
    assert found.reason.startswith("No objective metrics found after running 5 training jobs.")


@pytest.mark.parametrize("exhausted", [True, False])
def test_jobs_that_all_fail_fail_the_search_with_the_last_reason(exhausted):
    failed = done(*[None] * (2 if exhausted else 5), status="Failed", failure="no such column")
    found = finish(failed, exhausted=exhausted)
    assert found.status == "Failed"
    assert found.reason.startswith("All training jobs failed. Please take a look at the training")
    assert found.reason.endswith(f"{failed[-1].name}: no such column")


def test_one_value_among_failures_is_enough_to_go_on():
    trials = [*done(*[None] * 9, status="Failed"), *done(1.0)]
    assert finish(trials) is None
    assert finish(trials, exhausted=True).status == "Completed"


def test_a_stopped_job_counts_with_its_latest_value():
    trials = [*done(0.5), *done(0.2, status="Stopped"), *done(0.1, status="Failed")]
    assert best_trial(trials, [LOSS]).objective == 0.2
