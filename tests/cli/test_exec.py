"""`clary exec` runs a command where a job's program runs: files, processes, network, limits and all."""

from __future__ import annotations

import os
import pty
import select
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from clary.executors.capabilities import probe
from clary.executors.sandbox import SandboxExecutor
from clary.settings import Settings
from tests.executors.executor_contract import Bench, wait_for

from .conftest import Run

FOUND = probe()
pytestmark = pytest.mark.skipif(not FOUND.namespaces, reason=FOUND.explanations["namespaces"])
SCRIPT = "touch /opt/ml/of-$(hostname) /tmp/mine; echo up; sleep 600"


@pytest.fixture(params=["namespaces", "bubblewrap"])
def bench(home: Path, request: pytest.FixtureRequest) -> Iterator[Bench]:
    if request.param == "bubblewrap" and not FOUND.bubblewrap:
        pytest.skip(FOUND.explanations["bubblewrap"])
    executor = SandboxExecutor(Settings(home=home), mode=request.param, capabilities=FOUND)
    found = Bench(executor, home)
    yield found
    found.close()
    executor.close()
    wait_for(lambda: not list((home / "run").glob("*.sock")), "the end of the warm parents")


def start_two_hosts(bench: Bench, **members: Any) -> list[Path]:
    shared = bench.home / "work" / "w" / "g1"
    common: dict[str, Any] = {
        "work": "arn:aws:sagemaker:us-east-1:123456789012:training-job/busy",
        "hosts": ["algo-1", "algo-2"],
        "shared": shared,
        "grace_seconds": 0.2,
        **members,
    }
    specs = [bench.spec(SCRIPT, host=host, **common) for host in common["hosts"]]
    bench.executor.launch(specs)
    for spec in specs:
        bench.wait_for_log(Path(spec["directory"]), "up")
    return [Path(spec["directory"]) for spec in specs]


def test_a_command_sees_what_the_program_sees_and_its_exit_code_is_passed_on(
    bench: Bench, clary_command: Run
) -> None:
    start_two_hosts(bench, network_isolation=True)
    script = """
        hostname; pwd; echo $GREETING; ls -d /opt/ml/of-* /tmp/mine; cat /proc/1/cmdline | wc -c
        ls -d /proc/[0-9]* | wc -l; tail -n +3 /proc/net/dev | cut -d: -f1; cat /proc/self/oom_score_adj
        touch /etc/x 2>/dev/null || echo may not; grep CapEff /proc/self/status; exit 7
    """
    done = clary_command("exec", "busy", "--host", "algo-2", "--", "sh", "-c", script)
    assert done.returncode == 7, done.stderr
    lines = done.stdout.split("\n")
    assert lines[:5] == ["algo-2", "/opt/ml", "hello", "/opt/ml/of-algo-2", "/tmp/mine"]
    assert int(lines[6]) <= 8  # process 1, the program and its sleep, and this command's
    assert [line.strip() for line in lines[7:11]] == ["lo", "eth0", "500", "may not"]
    assert lines[11].split() == ["CapEff:", "0000000000000000"]
    first = clary_command("exec", "busy", "--", "hostname")
    assert first.stdout == "algo-1\n", first.stderr
    for words in (["--"], []):
        flags = clary_command("exec", "busy", *words, "sh", "-c", "echo $0 $1", "-x", "--host")
        assert flags.stdout == "-x --host\n", flags.stderr


@pytest.mark.skipif(not FOUND.cgroup_controllers, reason=FOUND.explanations["cgroup"])
def test_a_command_counts_against_the_limits_of_its_host(bench: Bench, clary_command: Run) -> None:
    start_two_hosts(bench)
    state = (bench.home / "work/w/g1/algo-1/state.json").read_text()
    process = int(state.partition('"program_pid": ')[2].partition(",")[0])
    done = clary_command("exec", "busy", "--", "cat", "/proc/self/cgroup")
    own = Path(f"/proc/{process}/cgroup").read_text()
    assert sorted(done.stdout.splitlines()) == sorted(own.splitlines())


def test_a_shell_on_a_terminal_does_what_is_typed(
    bench: Bench, environment: dict[str, str], tmp_path: Path
) -> None:
    start_two_hosts(bench)
    near, far = pty.openpty()
    argv = [sys.executable, "-m", "clary.cli", "exec", "busy", "--host", "algo-2"]
    with subprocess.Popen(
        argv,
        stdin=far,
        stdout=far,
        stderr=far,
        env=environment,
        cwd=tmp_path,
        start_new_session=True,
    ) as shell:
        os.close(far)
        os.write(near, b"echo is-$((40+2)) $(hostname)\nexit 5\n")
        said, deadline = b"", time.monotonic() + 30.0
        while time.monotonic() < deadline:
            if not select.select([near], [], [], 0.2)[0]:
                continue
            try:
                said += os.read(near, 4096)
            except OSError:  # the other end is closed
                break
        assert shell.wait(30) == 5
    os.close(near)
    assert b"is-42 algo-2" in said


def test_what_does_not_run_is_a_problem_with_its_remedy(bench: Bench, clary_command: Run) -> None:
    places = start_two_hosts(bench)
    unknown = clary_command("exec", "busy", "--host", "algo-9", "--", "true")
    assert unknown.returncode == 1
    assert "algo-1, algo-2" in unknown.stderr
    bench.executor.halt(places)
    for place in places:
        bench.end(place)
    wait_for(lambda: all(bench.forgotten(place) for place in places), "the end of the runners")
    ended = clary_command("exec", "busy", "--", "true")
    assert ended.returncode == 1
    assert "clary status" in ended.stderr


def test_two_works_of_one_name_are_told_apart_by_their_arns(
    bench: Bench, clary_command: Run
) -> None:
    for kind in ("training-job", "endpoint"):
        work = f"arn:aws:sagemaker:us-east-1:123456789012:{kind}/twice"
        place = bench.launch("echo up; sleep 600", work=work, grace_seconds=0.2)
        bench.wait_for_log(place, "up")
    both = clary_command("exec", "twice", "--", "true")
    assert both.returncode == 1
    assert "endpoint/twice and of arn:aws" in both.stderr
    one = clary_command(
        "exec", "arn:aws:sagemaker:us-east-1:123456789012:endpoint/twice", "--", "echo", "in"
    )
    assert (one.returncode, one.stdout) == (0, "in\n")
