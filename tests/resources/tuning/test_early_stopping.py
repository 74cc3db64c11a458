"""Which running jobs have no hope: by the median of the others, and at the rungs of Hyperband."""

from __future__ import annotations

from clary.resources.tuning.early_stopping import (
    below_median,
    bracket_of,
    brackets,
    misses_rung,
    most_epochs,
)
from clary.resources.tuning.trials import Objective, Trial

LOSS = Objective("loss", maximize=False)
ACCURACY = Objective("accuracy", maximize=True)


def trial(*curve: float, status: str = "InProgress") -> Trial:
    return Trial("t", 0, {}, status=status, curve=list(curve))


DONE = [trial(1.0, 0.8, level, status="Completed") for level in (0.3, 0.5, 0.7, 0.9)]


def test_a_job_worse_than_the_median_of_running_averages_is_stopped():
    # Running averages up to the second epoch are all 0.9.
    assert below_median(trial(1.0, 0.95), DONE, LOSS)
    assert not below_median(trial(1.0, 0.85), DONE, LOSS)
    assert below_median(trial(1.0, 0.85), DONE, ACCURACY)


def test_nothing_is_stopped_before_enough_is_known():
    assert not below_median(trial(9.0), DONE, LOSS)
    assert not below_median(trial(9.0, 9.0), DONE[:3], LOSS)
    assert not below_median(trial(9.0, 9.0, 9.0, 9.0), DONE, LOSS)


def test_brackets_begin_at_growing_resources():
    assert brackets(1, 27) == [[1, 3, 9], [3, 9], [9], []]
    assert brackets(2, 5) == [[2]]
    assert [bracket_of(n, 4) for n in range(9)] == [0, 0, 1, 0, 0, 1, 0, 0, 2]


def test_at_a_rung_the_best_third_goes_on():
    rungs = [[2], []]
    trials = [trial(1.0, value) for value in (0.9, 0.5, 0.0, 0.4, 0.3, 0.0, 0.2)]
    missing = [misses_rung(n, trials, rungs, LOSS) for n in range(len(trials))]
    # Trials 2 and 5 are of the bracket that has no rungs; of the other five, two go on.
    assert missing == [True, True, False, True, False, False, False]


def test_the_first_at_a_rung_goes_on_for_want_of_others():
    assert not misses_rung(0, [trial(5.0)], [[1]], LOSS)
    assert not misses_rung(0, [trial(), trial(1.0)], [[1]], LOSS)


def test_epochs_are_inferred_from_the_static_hyperparameters():
    assert most_epochs({"epochs": '"12"'}) == 12
    assert most_epochs({"num_epochs": "30", "rate": "1"}) == 30
    assert most_epochs({"epochs": "many"}) is None
