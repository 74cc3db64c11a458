"""Several hosts through the unmodified SDKs: torchrun and MPI by v2's `distribution`, v3's drivers."""

from __future__ import annotations

import re

import pytest

pytestmark = pytest.mark.xdist_group("distributed")


def test_torchrun_and_mpi_span_two_hosts_and_a_failing_rank_is_told(journey):
    told = journey("sagemaker_v2", "v2_distributed.py")
    for rank in (0, 1):
        assert f"rank {rank} of 2 on algo-{rank + 1}, local 0: equal weights" in told
    for rank in range(4):
        assert f"rank {rank} of 4 on algo-{rank // 2 + 1}: 6, red" in told
    failure = told[told.index("it failed as it should") :]
    assert "AlgorithmError: ExecuteUserScriptError:\nExitCode 1" in failure
    assert re.search(
        r'ErrorMessage "ValueError: rank 3 was told to fail\n  File "rings\.py"', failure
    )
    assert 'Command "mpirun --host algo-1:2,algo-2:2 -np 4' in failure


def test_the_torchrun_and_mpi_drivers_of_v3_run_unmodified_on_two_hosts_each(journey):
    told = journey("sagemaker_v3", "v3_distributed.py")
    for rank in (0, 1):
        assert f"rank {rank} of 2 on algo-{rank + 1}, local 0: equal weights" in told
        assert f"rank {rank} of 2 on algo-{rank + 1}: 9" in told
    assert "the artifact: {'total': 9, 'hosts': ['algo-1', 'algo-2']}" in told
