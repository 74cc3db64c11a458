"""What a program uses of its host is told each minute, all its processes taken together."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time

import pytest

from clary.runner import utilization
from clary.runner.spec import SpecError
from clary.runner.utilization import Processes, Used, Utilization

MIB = 1 << 20
PLACE = {"namespace": "/aws/sagemaker/Endpoints", "dimensions": {"EndpointName": "iris"}}
linux = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /proc")


class Time:
    """A clock that is put forward, and what a program has used by then."""

    def __init__(self):
        self.moment = 100.0
        self.used: Used | None = None

    def source(self, memory_bytes=1000):
        return Utilization(
            memory_bytes, lambda: self.used, clock=lambda: self.moment, now=lambda: 7.0
        )


def values(points):
    return {point.name: point.value for point in points}


def test_cpus_are_added_up_and_memory_is_a_share_of_what_the_host_may_use():
    time_ = Time()
    source = time_.source()
    time_.moment, time_.used = 160.0, Used(90.0, 250)
    points = source.take(1000)
    assert values(points) == {"CPUUtilization": 150.0, "MemoryUtilization": 25.0}
    assert {(point.at, point.unit) for point in points} == {(7.0, "Percent")}
    assert source.take(1000) == []  # until time has passed again
    time_.moment, time_.used = 220.0, Used(96.0, 500)
    assert values(source.take(1000)) == {"CPUUtilization": 10.0, "MemoryUtilization": 50.0}


def test_a_program_that_ended_uses_nothing_that_could_be_told():
    time_ = Time()
    source = time_.source()
    time_.moment = 160.0
    assert source.take(1000) == []


def test_the_time_of_a_process_that_took_it_along_never_counts_as_negative():
    time_ = Time()
    source = time_.source()
    time_.moment, time_.used = 160.0, Used(90.0, 250)
    source.take(1000)
    time_.moment, time_.used = 220.0, Used(30.0, 250)
    assert values(source.take(1000))["CPUUtilization"] == 0.0


@linux
def test_the_use_of_a_child_counts_while_it_runs_and_after():
    program = f"""
import os, sys, time
held = bytearray(os.urandom(1)) * {40 * MIB}
if os.fork() == 0:
    while time.process_time() < 0.2: pass
    print("up", flush=True)
    sys.stdin.readline()
    os._exit(0)
os.wait()
print("alone", flush=True)
sys.stdin.readline()
"""
    with subprocess.Popen(
        [sys.executable, "-c", program], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as running:
        assert running.stdin is not None and running.stdout is not None
        seen, processes = [], Processes(lambda: [running.pid, 0])
        for words in ("up\n", "alone\n"):
            assert running.stdout.readline() == words
            seen.append(processes.look())
            running.stdin.write("\n")
            running.stdin.flush()
    both, alone = seen
    assert both is not None and alone is not None
    assert 0.18 <= both.cpu_seconds <= alone.cpu_seconds < 10
    assert 40 * MIB < both.memory_bytes < 75 * MIB  # which both of them hold counts once
    assert processes.look() is None


@linux
def test_both_metrics_arrive_where_the_spec_says(make_spec, scripted, reply, monkeypatch):
    monkeypatch.setattr(utilization, "INTERVAL_SECONDS", 0.01)
    monkeypatch.setattr(utilization, "_SHORTEST_SECONDS", 0.02)
    came = threading.Event()

    def answer(request):
        came.set()
        return reply(200, b"{}")

    server = scripted(answer)
    keys = {
        "AccessKeyId": "AKID", "SecretAccessKey": "secret", "Token": "",
        "Expiration": "2099-01-01T00:00:00Z",
    }  # fmt: skip
    spec = make_spec(
        utilization=PLACE, endpoint_url=server.url, credentials={"service": keys},
        limits={"seconds": 60, "memory_bytes": 8 << 40},
    )  # fmt: skip
    stop = utilization.start(spec, os.getpid(), "no.lock")
    assert came.wait(10)
    stop()
    deadline = time.monotonic() + 10
    while any(thread.name == "metrics" for thread in threading.enumerate()):
        assert time.monotonic() < deadline
        time.sleep(0.01)
    document = server.requests[0].document
    assert document["Namespace"] == "/aws/sagemaker/Endpoints"
    cpu, memory = document["MetricData"]
    assert cpu["Dimensions"] == [{"Name": "EndpointName", "Value": "iris"}]
    assert (cpu["MetricName"], cpu["Unit"], cpu["StorageResolution"]) == (
        "CPUUtilization", "Percent", 60,
    )  # fmt: skip
    assert 0 < memory["Value"] < 1


def test_a_host_without_a_place_for_it_measures_nothing(make_spec):
    before = threading.active_count()
    utilization.start(make_spec(), os.getpid(), "no.lock")()
    assert threading.active_count() == before


def test_a_place_without_dimensions_is_refused(make_spec):
    with pytest.raises(SpecError, match="utilization: dimensions is missing"):
        make_spec(utilization={"namespace": "x"})
