"""What runs in a home is known by the locks that its runners hold."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

from clary.cli.running_work import RunningHost, end_work, running_hosts

ARN = "arn:aws:sagemaker:us-east-1:123456789012:training-job/long"
RUNNER = """
import fcntl, os, sys, time
lock = open(sys.argv[1], "w")
fcntl.flock(lock, fcntl.LOCK_EX)
lock.write(str(os.getpid()))
lock.flush()
print("held", flush=True)
time.sleep(60)
"""


@pytest.fixture
def runner(tmp_path):
    host = tmp_path / "work" / "w" / "g1" / "algo-1"
    host.mkdir(parents=True)
    (host / "spec.json").write_text(json.dumps({"work": ARN}))
    command = [sys.executable, "-c", RUNNER, str(host / "runner.lock")]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as process:
        assert process.stdout.readline() == b"held\n"
        yield process
        process.kill()


def test_a_host_runs_as_long_as_its_runner_lives(runner, tmp_path):
    assert running_hosts(tmp_path) == [RunningHost(ARN, "algo-1", runner.pid)]
    end_work(tmp_path)
    assert runner.wait(10) == -15
    assert running_hosts(tmp_path) == []


def test_a_lock_that_nobody_holds_is_no_host(tmp_path):
    host = tmp_path / "work" / "w" / "g1" / "algo-1"
    host.mkdir(parents=True)
    (host / "runner.lock").write_text("1")
    assert running_hosts(tmp_path) == []
