"""What every executor must pass; a test module subclasses `ExecutorContract` and says how to make one."""

from __future__ import annotations

import http.client
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
from clary.runner import sockets

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

    def serving(self, name: str, health_seconds: float = 30.0, **changes: Any) -> dict[str, Any]:
        """A host whose server knows nothing of Clary: it listens on the port of a container."""
        serve = {"socket": "serve.sock", "health_seconds": health_seconds, "port": 8080}
        spec = self.spec("", **{"serve": serve, "grace_seconds": 1, **changes})
        spec["program"]["argv"] = ["python3", "-c", SERVER]
        spec["program"]["environment"]["GREETING"] = name
        return spec

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


# One host says ping, the other pong; then each tries what it must not reach.
PAIR = """
import os, socket, time
if os.uname().nodename == "algo-1":
    with socket.create_server(("0.0.0.0", 7411)) as server:
        other, _ = server.accept()
    with other:
        print("heard", other.recv(9).decode())
        other.sendall(b"pong")
else:
    for _ in range(400):
        try:
            other = socket.create_connection(("algo-1", 7411), 5)
            break
        except OSError:
            time.sleep(0.05)
    with other:
        other.sendall(b"ping")
        print("heard", other.recv(9).decode())
for name, address in (("door", ("127.0.0.1", DOOR)), ("elsewhere", ("192.0.2.1", 80))):
    try:
        socket.create_connection(address, 2).close()
        print(name, "reached")
    except OSError:
        print(name, "refused")
"""
# Another isolated job tries the port that the pair talks over; with luck they are there at that time.
STRANGER = """
import socket
for _ in range(20):
    try:
        socket.create_connection(("127.0.0.1", 7411), 1)
        raise SystemExit("reached another job")
    except OSError:
        pass
"""
# As SDK v3's drivers meet: at the same ports in every job, one of them low; and each host asks the door.
DRIVEN = """
import os, shutil, socket, time, urllib.request
if os.uname().nodename == "algo-1":
    servers = [socket.create_server(place) for place in (("", 7777), ("algo-1", 22))]
    for server in servers:
        other, _ = server.accept()
        with other:
            other.sendall(os.environ["JOB"].encode())
else:
    for port in (7777, 22):
        for _ in range(400):
            try:
                other = socket.create_connection(("algo-1", port), 5)
                break
            except OSError:
                time.sleep(0.05)
        with other:
            print("heard", other.recv(9).decode(), "at", port)
with open("/etc/environment", "a") as file:
    file.write("X=1")
print(shutil.which("sshd"), shutil.which("ssh"), os.path.exists("/usr/sbin/ldconfig"))
print("door:", urllib.request.urlopen(os.environ["AWS_ENDPOINT_URL"]).read().decode())
print(*sorted(name for _, name in socket.if_nameindex() if name in ("lo", "eth0")), flush=True)
while not os.path.exists("/opt/ml/go"):
    time.sleep(0.05)
"""
SERVER = """
import http.server, os, urllib.request
class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    def log_message(self, *words): pass
    def answer(self, body):
        self.send_response(200)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)
    def do_GET(self): self.answer(b"")
    def do_POST(self):
        if "content-length" in self.headers:
            body = self.rfile.read(int(self.headers["content-length"]))
        else:
            body = b""
            while size := int(self.rfile.readline(), 16):
                body += self.rfile.read(size)
                self.rfile.readline()
            self.rfile.readline()
        if body == b"ask the door":
            body = urllib.request.urlopen(os.environ["AWS_ENDPOINT_URL"]).read()
        if body == b"port":
            body = str(self.server.server_port).encode()
        self.answer(os.environ["GREETING"].encode() + b": " + body)
port = int(os.environ.get("SAGEMAKER_BIND_TO_PORT", "8080"))
http.server.ThreadingHTTPServer(("0.0.0.0", port), Handler).serve_forever()
"""


def python(code: str) -> str:
    return f"python3 - <<'END'\n{code}END\n"


def launch_pair(bench: Bench, code: str, name: str = "pair", **more: Any) -> dict[str, Path]:
    """Two hosts of one work, launched together; their directories by name."""
    shared = bench.home / "work" / f"{name}-{time.monotonic_ns()}" / "g1"
    members: dict[str, Any] = {
        "work": f"arn:aws:sagemaker:us-east-1:123456789012:training-job/{name}",
        "hosts": ["algo-1", "algo-2"],
        "shared": shared,
        **more,
    }
    specs = [bench.spec(python(code), host=host, **members) for host in members["hosts"]]
    for spec in specs:
        spec["program"]["environment"]["JOB"] = name
    bench.executor.launch(specs)
    return {spec["host"]: Path(spec["directory"]) for spec in specs}


def is_ready(bench: Bench, directory: Path) -> bool:
    seen = bench.observe(directory)
    return isinstance(seen, Running) and seen.ready


class Door:
    """Answers every request with who it is."""

    def __init__(self) -> None:
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        self._thread = threading.Thread(target=self._serve)
        self._thread.start()

    def __enter__(self) -> Door:
        return self

    def __exit__(self, *_: object) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._thread.join()
        self._listener.close()

    def _serve(self) -> None:
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            with connection:
                connection.recv(65536)
                connection.sendall(b"HTTP/1.1 200 OK\r\ncontent-length: 8\r\n\r\nthe door")


class OverSocket(http.client.HTTPConnection):
    """HTTP over a Unix socket, on one connection that is kept."""

    def __init__(self, path: Path) -> None:
        super().__init__("localhost")
        self._path = path

    def connect(self) -> None:
        self.sock = sockets.connect(str(self._path), 20.0)

    def post(self, body: bytes, *, chunked: bool = False) -> bytes:
        self.request("POST", "/invocations", iter([body]) if chunked else body)
        return self.getresponse().read()


def is_alive(process: int) -> bool:
    try:
        stat = Path(f"/proc/{process}/stat").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return False
    return stat.rpartition(")")[2].split()[0] != "Z"


class ExecutorContract:
    isolated: ClassVar[bool] = True  # programs have a root, processes and a network of their own

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
        limits = {"seconds": 60, "memory_bytes": 96 << 20, "cpus": None, "processes": None}
        # tail keeps the last line, which never ends.
        outcome, _ = bench.run("echo begun; exec tail /dev/zero", limits=limits)
        assert (outcome["result"], outcome["signal"]) == ("failure", "SIGKILL")
        assert outcome["out_of_memory"] is True
        assert outcome["failure"] == (
            "The program was killed (SIGKILL) because it wanted more memory than the 96 MiB that it"
            " may use. Last log lines: begun"
        )

    def test_memory_that_a_child_of_the_program_takes_counts_as_well(self, bench: Bench) -> None:
        limits = {"seconds": 60, "memory_bytes": 96 << 20, "cpus": None, "processes": None}
        outcome, _ = bench.run("(sh -c 'tail /dev/zero'); exit 9", limits=limits)
        assert (outcome["result"], outcome["out_of_memory"]) == ("failure", True)
        assert "more memory than the 96 MiB" in outcome["failure"]

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

    def test_isolated_hosts_of_one_work_reach_each_other_by_name_and_nothing_else(
        self, bench: Bench
    ) -> None:
        self._needs_isolation()
        with socket.create_server(("127.0.0.1", 0)) as door:
            port = door.getsockname()[1]
            hosts = launch_pair(bench, PAIR.replace("DOOR", str(port)), network_isolation=True)
            stranger = bench.launch(python(STRANGER), network_isolation=True)
            said = {host: bench.end(place) and bench.log(place) for host, place in hosts.items()}
            assert bench.end(stranger)["result"] == "success", bench.log(stranger)
        refused = "door refused\nelsewhere refused\n"
        assert said["algo-1"] == "heard ping\n" + refused
        assert said["algo-2"] == "heard pong\n" + refused

    def test_hosts_of_two_jobs_that_meet_at_the_same_ports_do_not_meet_each_other(
        self, bench: Bench
    ) -> None:
        self._needs_isolation()
        channel = {"name": "sm_drivers", "type": "S3Prefix", "uri": "s3://b/p"}
        # A pipe that nobody reads: there is no S3 here.
        drivers = {**channel, "target": "input/data/sm_drivers", "mode": "Pipe"}
        with Door() as door:
            members = {"inputs": [drivers], "endpoint_url": f"http://127.0.0.1:{door.port}"}
            start = "python3 /opt/ml/input/data/sm_drivers/distributed_drivers/mpi_driver.py"
            members["files"] = {"input/data/sm_drivers/sm_train.sh": start}
            jobs = {name: launch_pair(bench, DRIVEN, name, **members) for name in ("one", "two")}
            for name, hosts in jobs.items():
                end = "/usr/sbin/sshd /usr/sbin/ssh True\ndoor: the door\neth0 lo\n"
                bench.wait_for_log(hosts["algo-1"], end)
                bench.wait_for_log(hosts["algo-2"], end)
                heard = f"heard {name} at 7777\nheard {name} at 22\n"
                assert bench.log(hosts["algo-2"]) == heard + end
            for hosts in jobs.values():
                for place in hosts.values():
                    (place / "ml" / "go").touch()
                    assert bench.end(place)["result"] == "success", bench.log(place)

    def test_a_network_of_several_hosts_outlives_the_one_that_made_it_and_its_runner(
        self, bench: Bench
    ) -> None:
        self._needs_isolation()
        spaces = "readlink /proc/self/ns/net; until [ -e /opt/ml/go ]; do sleep 0.05; done"
        shared = bench.home / "work" / "outlives" / "g1"
        members = {"hosts": ["algo-1", "algo-2", "algo-3"], "shared": shared}
        found: dict[str, str] = {}
        for host in ("algo-2", "algo-1", "algo-3"):
            place = bench.launch(spaces, host=host, network_isolation=True, **members)
            bench.wait_for_log(place, "net:")
            found[host] = bench.log(place)
            if host == "algo-1":
                os.kill(int((shared / "algo-2" / "runner.lock").read_text()), signal.SIGKILL)
                assert bench.end(shared / "algo-2")["result"] == "lost"
        assert len(set(found.values())) == 1, found
        for host in ("algo-1", "algo-3"):
            (shared / host / "ml" / "go").touch()
            assert bench.end(shared / host)["result"] == "success"

    def test_servers_of_somebody_else_listen_on_port_8080_side_by_side(self, bench: Bench) -> None:
        with Door() as door:
            url = f"http://127.0.0.1:{door.port}"
            specs = [bench.serving(f"server-{name}", endpoint_url=url) for name in "ab"]
            bench.executor.launch(specs)
            for spec in specs:
                place = Path(spec["directory"])
                wait_for(lambda place=place: is_ready(bench, place), f"the server of {place}")
                name = spec["program"]["environment"]["GREETING"]
                client = OverSocket(place / "serve.sock")
                assert client.post(b"7") == f"{name}: 7".encode()
                assert client.post(b"ask the door") == f"{name}: the door".encode()
                whole = os.urandom(3 << 20)
                assert client.post(whole) == f"{name}: ".encode() + whole
                assert client.post(b"again", chunked=True) == f"{name}: again".encode()
                client.close()
            bench.executor.halt([Path(spec["directory"]) for spec in specs])
            for spec in specs:
                assert bench.end(Path(spec["directory"]))["result"] == "stopped"

    def test_a_server_whose_supervisor_is_killed_comes_back_with_its_relays(
        self, bench: Bench
    ) -> None:
        spec = bench.serving("again")
        bench.executor.launch([spec])
        place = Path(spec["directory"])
        wait_for(lambda: is_ready(bench, place), "the server")
        before = int((place / "program.lock").read_text())
        os.kill(before, signal.SIGKILL)

        def is_back() -> bool:
            text = (place / "program.lock").read_text().strip()
            return text not in ("", str(before)) and is_ready(bench, place)

        wait_for(is_back, "the server's return")
        client = OverSocket(place / "serve.sock")
        assert client.post(b"7") == b"again: 7"
        client.close()
        os.kill(int((place / "runner.lock").read_text()), signal.SIGKILL)
        assert bench.end(place)["result"] == "lost"

    def test_a_server_that_listens_on_another_port_is_told_so(self, bench: Bench) -> None:
        spec = bench.serving("elsewhere", health_seconds=1.5)
        spec["program"]["argv"] = ["python3", "-m", "http.server", "5005"]
        bench.executor.launch([spec])
        outcome = bench.end(Path(spec["directory"]))
        assert "did not pass the ping health check" in outcome["failure"]
        assert "Nothing listened on port " in outcome["failure"]
        if self.isolated:
            assert "port 8080. The program listened on 5005" in outcome["failure"]

    def test_the_port_that_the_environment_names_is_the_one_that_is_asked(
        self, bench: Bench
    ) -> None:
        self._needs_isolation()
        spec = bench.serving("named")
        spec["program"]["environment"]["SAGEMAKER_BIND_TO_PORT"] = "9099"
        bench.executor.launch([spec])
        place = Path(spec["directory"])
        wait_for(lambda: is_ready(bench, place), "the server")
        client = OverSocket(place / "serve.sock")
        assert client.post(b"port") == b"named: 9099"
        client.close()
        bench.executor.halt([place])
        assert bench.end(place)["result"] == "stopped"

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
