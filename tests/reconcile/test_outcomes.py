"""What a job's FailureReason says of the outcomes of its hosts."""

from __future__ import annotations

from typing import Any

import pytest

from clary.reconcile.observations import Exited
from clary.reconcile.outcomes import failure_reason, verdict_of

PLACE = "/aws/sagemaker/TrainingJobs, streams job/"


def failed(text: str, **members: Any) -> dict[str, Any]:
    known = {"result": "failure", "failure_source": "algorithm", "exit_code": 1}
    return {**known, "failure": text, **members}


@pytest.mark.parametrize(
    ("told", "begins"),
    [
        ("ClientError: Missing required channel: train", "ClientError: Missing required channel"),
        ("AlgorithmError: ValueError: no", "AlgorithmError: ValueError: no, exit code: 1"),
        ("ExecuteUserScriptError:\nExitCode 1", "AlgorithmError: ExecuteUserScriptError:\n"),
        ("bad row 7", "AlgorithmError: bad row 7, exit code: 1"),
    ],
)
def test_an_algorithm_that_says_whose_fault_it_is_is_believed(told, begins):
    reason = failure_reason(failed(told), PLACE)
    assert reason.startswith(begins)
    assert reason.endswith(f". Log: {PLACE}")


def test_the_host_of_several_that_failed_first_is_named():
    exits = {
        "algo-1": Exited({**failed("peer lost"), "ended": 9.0}),
        "algo-2": Exited({**failed("x" * 2_000), "ended": 8.0}),
    }
    reason = verdict_of(exits, PLACE).reason
    assert reason.endswith(" (host algo-2)") and len(reason) == 1_024
    assert "host" not in verdict_of({"algo-1": exits["algo-1"]}, PLACE).reason


def test_a_kill_is_a_matter_of_memory_only_where_the_control_group_says_so():
    killed = 'ExecuteUserScriptError:\nExtraInfo "Process killed by SIGKILL (signal 9)"'
    by_hand = failure_reason(failed(killed, exit_code=137), PLACE)
    assert by_hand.startswith("AlgorithmError: ") and "emory" not in by_hand
    by_kernel = failure_reason(failed(killed, exit_code=137, out_of_memory=True), PLACE)
    assert by_kernel.startswith("ClientError: Please use an instance type with more memory")
