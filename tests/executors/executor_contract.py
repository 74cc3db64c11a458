"""What every executor must pass; a test module subclasses `ExecutorContract` and says how to make one."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, ClassVar

import pytest

from clary.executors.contract import Executor
from clary.reconcile.observations import Absent, Exited, Observation, Running, Unknown

DEADLINE_SECONDS = 30.0


def wait_for(condition: Callable[[], Any], what: str = "the condition") -> Any:
    deadline = time.monotonic() + DEADLINE_SECONDS
    while time.monotonic() < deadline:
        value = condition()
        if value:
            return value
        time.sleep(0.005)
    raise AssertionError(f"{what} did not come within {DEADLINE_SECONDS} seconds")


class Bench:
    """One executor and the hosts that a test runs on it."""

    def __init__(self, executor: Executor, home: Path) -> None:
        self.executor = executor
        self.home = home
        self._count = 0
        self._directories: list[Path] = []

    def close(self) -> None:
        """End and forget what the tests left."""
        self.executor.halt(self._directories)
        for directory in self._directories:
            wait_for(lambda place=directory: self.forgotten(place), f"the end of {directory}")

    def forgotten(self, directory: Path) -> bool:
        try:
            self.executor.forget([directory])
        except RuntimeError:
            return False
        return True

    def spec(self, script: str, **changes: Any) -> dict[str, Any]:
        """A host that runs a shell script; `changes` replace members of the spec."""
        self._count += 1
        host = changes.pop("host", "algo-1")
        shared = changes.pop("shared", None) or self.home / "work" / f"w{self._count}" / "g1"
        self._directories.append(shared / host)
        return {
            "version": 1,
            "work": f"arn:aws:sagemaker:us-east-1:123456789012:training-job/job-{self._count}",
            "generation": 1,
            "host": host,
            "hosts": [host],
            "directory": str(shared / host),
            "shared": str(shared),
            "endpoint_url": "http://127.0.0.1:9",
            "region": "us-east-1",
            "account": "123456789012",
            "credentials_url": "http://127.0.0.1:9/_clary/credentials",
            "tokens": {"role": "token-of-the-role", "service": "token-of-the-service"},
            "credentials": {},
            "program": {
                "argv": ["sh", "-c", script],
                "environment": {"GREETING": "hello"},
                "working_directory": "/opt/ml",
                "prefix": "",
                "read_only": [],
                "code": "",
                "fork": None,
            },
            "files": {},
            "inputs": [],
            "outputs": [],
            "checkpoints": None,
            "log": None,
            "metrics": [],
            "limits": {"seconds": 60, "memory_bytes": None, "cpus": None, "processes": 500},
            "grace_seconds": 20,
            "network_isolation": False,
            "failure_file": "output/failure",
            "message_file": None,
            "serve": None,
            "wake_socket": "",
            **changes,
        }

    def launch(self, script: str, **changes: Any) -> Path:
        spec = self.spec(script, **changes)
        self.executor.launch([spec])
        return Path(spec["directory"])

    def observe(self, directory: Path) -> Observation:
        return self.executor.observe([directory])[0]

    def end(self, directory: Path) -> dict[str, Any]:
        """The outcome, once there is one."""

        def outcome() -> dict[str, Any] | None:
            seen = self.observe(directory)
            return seen.outcome if isinstance(seen, Exited) else None

        return wait_for(outcome, f"the end of {directory}")

    def run(self, script: str, **changes: Any) -> tuple[dict[str, Any], str]:
        directory = self.launch(script, **changes)
        return self.end(directory), self.log(directory)

    def log(self, directory: Path) -> str:
        path = directory / "log"
        return path.read_text() if path.exists() else ""

    def wait_for_log(self, directory: Path, text: str) -> None:
        wait_for(lambda: text in self.log(directory), f"{text!r} in the log of {directory}")


def is_alive(process: int) -> bool:
    try:
        stat = Path(f"/proc/{process}/stat").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return False
    return stat.rpartition(")")[2].split()[0] != "Z"


class ExecutorContract:
    isolated: ClassVar[bool] = True  # programs have a root, processes and a network of their own
    limits_memory: ClassVar[bool] = True

    @classmethod
    def make_executor(cls, home: Path) -> Executor:
        raise NotImplementedError

    @classmethod
    def close_executor(cls, executor: Executor) -> None:
        raise NotImplementedError

    @pytest.fixture(scope="class")
    @classmethod
    def bench(cls, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bench]:
        home = tmp_path_factory.mktemp("home")
        executor = cls.make_executor(home)
        bench = Bench(executor, home)
        yield bench
        bench.close()
        cls.close_executor(executor)

    # Endings --------------------------------------------------------------------------------------

    def test_a_program_that_ends_well_is_a_success_with_its_phases_and_its_last_lines(
        self, bench: Bench
    ) -> None:
        outcome, log = bench.run("echo $GREETING; echo two >&2")
        assert (outcome["result"], outcome["exit_code"], outcome["signal"]) == ("success", 0, None)
        names = [name for name, _ in outcome["phases"]]
        assert names == ["Starting", "Downloading", "Training", "Uploading"]
        assert outcome["log_tail"] == ["hello", "two"]
        assert log == "hello\ntwo\n"
        assert outcome["started"] <= outcome["ended"] <= time.time()

    def test_an_exit_code_is_passed_on_as_a_failure_of_the_algorithm(self, bench: Bench) -> None:
        outcome, _ = bench.run("exit 3")
        assert (outcome["result"], outcome["exit_code"]) == ("failure", 3)
        assert outcome["failure_source"] == "algorithm"
        assert outcome["failure"] == ", exit code: 3"
        assert outcome["out_of_memory"] is False

    def test_a_signal_that_kills_a_program_is_named(self, bench: Bench) -> None:
        outcome, _ = bench.run("kill -SEGV $$")
        assert (outcome["result"], outcome["exit_code"]) == ("failure", None)
        assert outcome["signal"] == "SIGSEGV"

    def test_a_program_that_does_not_exist_fails_with_127_and_says_so(self, bench: Bench) -> None:
        spec = bench.spec("")
        spec["program"]["argv"] = ["no-such-program", "train"]
        bench.executor.launch([spec])
        outcome = bench.end(Path(spec["directory"]))
        assert outcome["result"] == "failure"
        if outcome["exit_code"] == 127:
            assert 'exec: "no-such-program": executable file not found' in outcome["log_tail"][0]
        else:
            assert "no-such-program" in " ".join(outcome["log_tail"])

    def test_the_failure_file_is_the_reason_and_is_cut_at_1024_characters(
        self, bench: Bench
    ) -> None:
        script = (
            "cd ${CLARY_ML:-/opt/ml}; mkdir -p output; printf '%02000d' 7 >output/failure; exit 1"
        )
        outcome, _ = bench.run(script)
        assert outcome["failure"] == "0" * 1024

    def test_a_failure_file_that_is_a_link_is_not_followed(self, bench: Bench) -> None:
        script = (
            "cd ${CLARY_ML:-/opt/ml}; mkdir -p output; ln -s /etc/passwd output/failure; exit 4"
        )
        outcome, _ = bench.run(script)
        assert outcome["failure"] == ", exit code: 4"

    def test_files_of_the_spec_are_laid_out_before_the_program_starts(self, bench: Bench) -> None:
        files = {"input/config/hyperparameters.json": '{"epochs": "3"}'}
        _, log = bench.run("cat ${CLARY_ML:-/opt/ml}/input/config/*.json", files=files)
        assert log == '{"epochs": "3"}'

    # Logs -----------------------------------------------------------------------------------------

    def test_much_output_and_a_last_line_without_an_end_arrive_whole(self, bench: Bench) -> None:
        outcome, log = bench.run("seq 1 50000; printf 'the end'")
        assert log.splitlines()[:-1] == [str(number) for number in range(1, 50001)]
        assert outcome["log_tail"][-1] == "the end"
        assert len(outcome["log_tail"]) == 20

    # Halting --------------------------------------------------------------------------------------

    def test_a_halted_program_may_use_its_grace(self, bench: Bench) -> None:
        script = "trap 'echo saved; exit 0' TERM; echo up; while :; do sleep 0.05; done"
        directory = bench.launch(script)
        bench.wait_for_log(directory, "up")
        assert isinstance(bench.observe(directory), Running)
        bench.executor.halt([directory])
        outcome = bench.end(directory)
        assert (outcome["result"], outcome["exit_code"]) == ("stopped", 0)
        assert outcome["log_tail"][-1] == "saved"
        assert outcome["failure_source"] is None

    def test_a_program_that_ignores_a_halt_is_killed_when_its_grace_is_over(
        self, bench: Bench
    ) -> None:
        script = "trap '' TERM; echo up; while :; do sleep 0.05; done"
        directory = bench.launch(script, grace_seconds=0.3)
        bench.wait_for_log(directory, "up")
        bench.executor.halt([directory])
        bench.executor.halt([directory])
        outcome = bench.end(directory)
        assert (outcome["result"], outcome["signal"]) == ("stopped", "SIGKILL")

    def test_a_host_halted_before_it_was_launched_never_runs_its_program(
        self, bench: Bench
    ) -> None:
        spec = bench.spec("echo ran")
        directory = Path(spec["directory"])
        bench.executor.halt([directory])
        assert bench.observe(directory) == Absent()
        bench.executor.launch([spec])
        outcome = bench.end(directory)
        assert outcome["result"] == "stopped"
        assert bench.log(directory) == ""

    def test_halting_what_has_ended_changes_nothing(self, bench: Bench) -> None:
        directory = bench.launch("exit 5")
        before = bench.end(directory)
        bench.executor.halt([directory])
        assert bench.end(directory) == before

    def test_a_time_limit_ends_the_program_as_a_timeout(self, bench: Bench) -> None:
        limits = {"seconds": 0.5, "memory_bytes": None, "cpus": None, "processes": None}
        outcome, _ = bench.run("sleep 600", limits=limits)
        assert (outcome["result"], outcome["signal"]) == ("timeout", "SIGTERM")

    # Once only, and never lost ----------------------------------------------------------------------

    def test_a_host_that_was_never_launched_is_absent(self, bench: Bench) -> None:
        assert bench.observe(bench.home / "work" / "nothing" / "g1" / "algo-1") == Absent()

    def test_what_cannot_be_read_is_unknown_and_not_gone(self, bench: Bench) -> None:
        directory = bench.home / "work" / "broken" / "g1" / "algo-1"
        directory.mkdir(parents=True)
        (directory / "outcome.json").write_text("{")
        assert isinstance(bench.observe(directory), Unknown)

    def test_launching_twice_runs_once(self, bench: Bench) -> None:
        spec = bench.spec("echo ran; sleep 0.2")
        bench.executor.launch([spec])
        bench.executor.launch([spec])
        bench.end(Path(spec["directory"]))
        bench.executor.launch([spec])
        assert bench.log(Path(spec["directory"])) == "ran\n"

    def test_launching_from_many_threads_at_once_runs_once(self, bench: Bench) -> None:
        spec = bench.spec("echo ran; sleep 0.2")
        threads = [threading.Thread(target=bench.executor.launch, args=([spec],)) for _ in range(6)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        bench.end(Path(spec["directory"]))
        assert bench.log(Path(spec["directory"])) == "ran\n"

    def test_a_killed_runner_is_told_as_lost_once_its_program_is_gone(self, bench: Bench) -> None:
        directory = bench.launch("echo up; exec sleep 600")
        bench.wait_for_log(directory, "up")
        state = directory / "state.json"
        program = wait_for(lambda: json.loads(state.read_text())["program_pid"], "its process")
        runner = int((directory / "runner.lock").read_text())
        os.kill(runner, signal.SIGKILL)
        outcome = bench.end(directory)
        assert (outcome["result"], outcome["failure_source"]) == ("lost", "internal")
        assert not is_alive(program)
        spec = bench.spec("echo again", shared=directory.parent)
        bench.executor.launch([spec])
        assert bench.end(directory)["result"] == "lost"
        assert "again" not in bench.log(directory)

    def test_work_outlives_the_process_that_launched_it(self, bench: Bench) -> None:
        spec = bench.spec("echo up; while [ ! -e ${CLARY_ML:-/opt/ml}/go ]; do sleep 0.05; done")
        directory = Path(spec["directory"])
        child = self.launch_elsewhere(bench, spec)
        bench.wait_for_log(directory, "up")
        child.kill()
        child.wait()
        assert isinstance(bench.observe(directory), Running)
        (directory / "ml" / "go").touch()
        assert bench.end(directory)["result"] == "success"

    def launch_elsewhere(self, bench: Bench, spec: dict[str, Any]) -> subprocess.Popen[bytes]:
        """Launch from another process, which then waits to be killed."""
        raise NotImplementedError

    def test_what_a_program_leaves_running_is_ended_with_it(self, bench: Bench) -> None:
        name = f"731.{os.getpid()}"
        outcome, _ = bench.run(f"(setsid sleep {name} >/dev/null 2>&1 &) ; sleep 0.1")
        assert outcome["result"] == "success"
        wanted = f"sleep\0{name}\0".encode()

        def gone() -> bool:
            for path in Path("/proc").glob("[0-9]*/cmdline"):
                try:
                    if path.read_bytes() == wanted:
                        return False
                except OSError:
                    continue
            return True

        wait_for(gone, "the end of what the program left")

    def test_forgetting_removes_everything_and_is_refused_while_it_runs(self, bench: Bench) -> None:
        directory = bench.launch("echo up; sleep 600", grace_seconds=0.1)
        bench.wait_for_log(directory, "up")
        with pytest.raises(RuntimeError, match="still runs"):
            bench.executor.forget([directory])
        bench.executor.halt([directory])
        bench.end(directory)
        wait_for(lambda: bench.forgotten(directory), "the end of the runner")
        assert not directory.exists()
        assert bench.observe(directory) == Absent()

    # Surroundings -----------------------------------------------------------------------------------

    def test_a_program_finds_the_platform_in_its_environment(self, bench: Bench) -> None:
        _, log = bench.run("env")
        seen = dict(line.split("=", 1) for line in log.splitlines())
        assert seen["AWS_REGION"] == seen["AWS_DEFAULT_REGION"] == "us-east-1"
        assert seen["AWS_ENDPOINT_URL"] == "http://127.0.0.1:9"
        assert seen["AWS_CONTAINER_AUTHORIZATION_TOKEN"] == "token-of-the-role"
        assert "token-of-the-service" not in log
        assert seen["GREETING"] == "hello"

    def test_running_out_of_memory_is_told(self, bench: Bench) -> None:
        if not self.limits_memory:
            pytest.skip("no control group can be made here")
        limits = {"seconds": 60, "memory_bytes": 64 << 20, "cpus": None, "processes": None}
        # tail keeps the last line, which never ends.
        outcome, _ = bench.run("tail /dev/zero", limits=limits)
        assert outcome["result"] == "failure"
        assert outcome["out_of_memory"] is True
        assert "64" in outcome["failure"] or "memory" in outcome["failure"]

    def test_a_program_sees_a_root_of_its_own_and_may_write_little_of_it(
        self, bench: Bench
    ) -> None:
        self._needs_isolation()
        script = """
            for place in / /usr /etc /opt /bin /proc/sys/kernel; do
                touch $place/x 2>/dev/null && echo "wrote $place"
            done
            ls /root/.ssh /home/* /etc/shadow 2>/dev/null
            touch /opt/ml/x /tmp/x && echo kept
            id -u
        """
        outcome, log = bench.run(script)
        assert outcome["result"] == "success", log
        assert log == "kept\n0\n"

    def test_two_hosts_share_neither_opt_ml_nor_tmp_nor_processes(self, bench: Bench) -> None:
        self._needs_isolation()
        script = """
            touch /opt/ml/of-$GREETING /tmp/of-$GREETING; echo up
            until [ -e /opt/ml/go ]; do sleep 0.05; done
            ls /opt/ml/of-*; ls /tmp; ls -d /proc/[0-9]* | wc -l
        """
        both = [bench.spec(script), bench.spec(script)]
        both[0]["program"]["environment"]["GREETING"] = "one"
        both[1]["program"]["environment"]["GREETING"] = "two"
        bench.executor.launch(both)
        for spec in both:
            bench.wait_for_log(Path(spec["directory"]), "up")
        for spec, name in zip(both, ("one", "two"), strict=True):
            directory = Path(spec["directory"])
            (directory / "ml" / "go").touch()
            bench.end(directory)
            lines = bench.log(directory).split()
            assert lines[:-1] == ["up", f"/opt/ml/of-{name}", f"of-{name}"]
            assert int(lines[-1]) <= 6  # process 1, the shell, ls and wc

    def test_hosts_know_each_other_by_name(self, bench: Bench) -> None:
        self._needs_isolation()
        spec = bench.spec("hostname; getent hosts algo-1 algo-2 | awk '{print $2}'", host="algo-2")
        spec["hosts"] = ["algo-1", "algo-2"]
        bench.executor.launch([spec])
        bench.end(Path(spec["directory"]))
        assert bench.log(Path(spec["directory"])).split() == ["algo-2", "algo-1", "algo-2"]

    def test_network_isolation_leaves_a_loopback_that_works_and_nothing_else(
        self, bench: Bench
    ) -> None:
        self._needs_isolation()
        script = """
            tail -n +3 /proc/net/dev | cut -d: -f1
            env | grep -c '^AWS_'
            python3 - <<'END'
            import socket
            server = socket.create_server(("127.0.0.1", 0))
            socket.create_connection(server.getsockname()).close()
            print("loopback")
            try:
                socket.create_connection(("127.0.0.1", PORT), 2)
                print("reached")
            except OSError:
                print("refused")
END
        """
        with socket.create_server(("127.0.0.1", 0)) as server:
            script = script.replace("            ", "").replace(
                "PORT", str(server.getsockname()[1])
            )
            _, log = bench.run(script, network_isolation=True)
        assert log.split() == ["lo", "0", "loopback", "refused"]

    def _needs_isolation(self) -> None:
        if not self.isolated:
            pytest.skip("this mode does not isolate")


ELSEWHERE = """
import json, sys, time
from pathlib import Path
from clary.executors.sandbox import SandboxExecutor
from clary.settings import Settings
SandboxExecutor(Settings(home=Path(sys.argv[1])), mode=sys.argv[2]).launch([json.loads(sys.argv[3])])
print("launched", flush=True)
time.sleep(600)
"""


def launch_in_child(home: Path, mode: str, spec: dict[str, Any]) -> subprocess.Popen[bytes]:
    argv = [sys.executable, "-c", ELSEWHERE, str(home), mode, json.dumps(spec)]
    child = subprocess.Popen(argv, stdout=subprocess.PIPE)
    assert child.stdout is not None
    with child.stdout as words:
        assert words.readline() == b"launched\n"
    return child
