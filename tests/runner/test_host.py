"""The life of a host: phases, halts, what is told on the way, and servers that are kept up."""

from __future__ import annotations

import json
import os
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from clary.executors.capabilities import probe
from clary.executors.sandbox import SandboxExecutor
from clary.reconcile.observations import Running
from clary.runner import health, locks, nursery, sockets
from clary.runner.faults import ClientFault
from clary.runner.parts import MakeParts
from clary.runner.progress import Progress
from clary.runner.spec import HostSpec
from clary.settings import Settings

from ..executors.executor_contract import Bench, wait_for

FOUND = probe()
pytestmark = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="needs /proc")


class Parts:
    """Simple real parts: everything stays on this machine."""

    def __init__(self, spec: HostSpec, progress: Progress) -> None:
        self.spec = spec
        self.progress = progress
        self.lines: list[bytes] = []

    def stage(self) -> None:
        (self.spec.ml / "output").mkdir(parents=True)

    def begin(self) -> None:
        return None

    def write(self, line: bytes) -> None:
        self.lines.append(line)
        if line.startswith(b"loss="):
            self.progress.set_metrics({"loss": (float(line[5:]), 7.0)})

    def fault(self) -> Exception | None:
        return None

    def end_logs(self) -> None:
        (self.spec.directory / "shipped").write_bytes(b"|".join(self.lines))

    def metrics(self) -> dict[str, tuple[float, float]]:
        return {}

    def upload(self, result: str) -> dict[str, Any]:
        return {"model": {"uri": f"s3://b/{result}", "bytes": 1, "files": 1}}


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    executor = SandboxExecutor(Settings(home=tmp_path), mode="plain", capabilities=FOUND)
    bench = Bench(executor, tmp_path)
    yield bench
    bench.close()
    executor.close()


def start(bench: Bench, spec: dict[str, Any], parts: MakeParts = Parts) -> Path:
    """Start a runner with these parts; returns its directory once it holds its lock."""
    directory = Path(spec["directory"])
    directory.mkdir(parents=True, exist_ok=True)
    (directory / "spec.json").write_text(json.dumps({**spec, "sandbox": {"mode": "plain"}}))
    reader, writer = os.pipe()
    if os.fork() == 0:
        os.close(reader)
        nursery.become_runner(
            str(directory / "spec.json"), parts, lambda: (os.write(writer, b"."), None)[1]
        )
    os.close(writer)
    with open(reader, "rb", buffering=0) as pipe:
        assert pipe.read(1) == b"."
    return directory


def finish(bench: Bench, directory: Path) -> dict[str, Any]:
    outcome = bench.end(directory)
    os.wait()
    return outcome


def test_lines_metrics_and_outputs_go_through_the_parts(bench: Bench) -> None:
    script = "echo one; echo loss=0.5; printf 'no end'; echo data >output/failure"
    directory = start(bench, bench.spec(script))
    outcome = finish(bench, directory)
    assert outcome["result"] == "success"
    assert outcome["outputs"] == {"model": {"uri": "s3://b/success", "bytes": 1, "files": 1}}
    assert outcome["metrics"] == {"loss": [0.5, 7.0]}
    assert (directory / "shipped").read_bytes() == b"one|loss=0.5|no end"


def test_a_line_longer_than_256_kib_is_handed_on_in_pieces(bench: Bench) -> None:
    class Lengths(Parts):
        def write(self, line: bytes) -> None:
            self.lines.append(b"%d" % len(line))

    directory = start(bench, bench.spec("head -c 600000 /dev/zero; echo; echo x"), Lengths)
    finish(bench, directory)
    assert (directory / "shipped").read_bytes() == b"262144|262144|75712|1"


def test_a_slow_log_holds_the_program_back_and_loses_nothing(bench: Bench) -> None:
    class Slow(Parts):
        def write(self, line: bytes) -> None:
            gate = self.spec.directory / "gate"
            while not self.lines and not gate.exists():
                time.sleep(0.005)
            self.lines.append(line)

    directory = start(bench, bench.spec("seq 1 60000; touch ../finished"), Slow)
    wait_for(lambda: (directory / "log").exists() and (directory / "log").stat().st_size > 0)
    state = wait_for(lambda: json.loads((directory / "state.json").read_text()))
    assert state["phase"] == "Training"
    assert not (directory / "finished").exists()
    (directory / "gate").touch()
    finish(bench, directory)
    expected = b"|".join(b"%d" % number for number in range(1, 60001))
    assert (directory / "shipped").read_bytes() == expected


def test_a_sink_that_fails_does_not_end_the_program(bench: Bench) -> None:
    class Broken(Parts):
        def write(self, line: bytes) -> None:
            raise OSError("no space left on device")

    directory = start(bench, bench.spec("echo one; echo two"), Broken)
    outcome = finish(bench, directory)
    assert (outcome["result"], outcome["log_tail"]) == ("success", ["one", "two"])


def test_data_that_cannot_be_staged_is_a_fault_of_the_client_and_nothing_runs(
    bench: Bench,
) -> None:
    class Missing(Parts):
        def stage(self) -> None:
            raise ClientFault("Data download failed:no such bucket")

    outcome = finish(bench, start(bench, bench.spec("echo ran"), Missing))
    assert (outcome["result"], outcome["failure_source"]) == ("failure", "client")
    assert outcome["failure"] == "Data download failed:no such bucket"
    assert outcome["log_tail"] == []
    assert [name for name, _ in outcome["phases"]] == ["Starting", "Downloading"]


@pytest.mark.parametrize("script", ["exit 0", "exit 2", "sleep 100"])
def test_a_channel_that_breaks_ends_the_program_and_is_why_the_host_failed(
    bench: Bench, script: str
) -> None:
    class Broken(Parts):
        def fault(self) -> Exception | None:
            return ClientFault("Data download failed:no such object")

    began = time.monotonic()
    outcome = finish(bench, start(bench, bench.spec(script), Broken))
    assert (outcome["result"], outcome["failure_source"]) == ("failure", "client")
    assert outcome["failure"] == "Data download failed:no such object"
    assert time.monotonic() - began < 50


@pytest.mark.parametrize(("script", "told"), [("exit 0", "client"), ("exit 2", "algorithm")])
def test_an_upload_that_fails_is_told_unless_the_program_failed_first(
    bench: Bench, script: str, told: str
) -> None:
    class Refused(Parts):
        def upload(self, result: str) -> dict[str, Any]:
            raise ClientFault("Artifact upload failed:access denied")

    outcome = finish(bench, start(bench, bench.spec(script), Refused))
    assert (outcome["result"], outcome["failure_source"]) == ("failure", told)


def test_an_error_of_our_own_still_leaves_an_outcome(bench: Bench) -> None:
    class Faulty(Parts):
        def upload(self, result: str) -> dict[str, Any]:
            raise ZeroDivisionError("a bug")

    outcome = finish(bench, start(bench, bench.spec("true"), Faulty))
    assert (outcome["result"], outcome["failure_source"]) == ("failure", "internal")
    assert outcome["failure"] == "ZeroDivisionError: a bug"


def test_a_halt_during_the_download_is_heard_at_once(bench: Bench) -> None:
    class Endless(Parts):
        def stage(self) -> None:
            (self.spec.directory / "staging").touch()
            threading.Event().wait(600)

    directory = start(bench, bench.spec("echo ran"), Endless)
    wait_for(lambda: (directory / "staging").exists())
    bench.executor.halt([directory])
    outcome = finish(bench, directory)
    assert (outcome["result"], outcome["log_tail"]) == ("stopped", [])


def test_the_time_limit_counts_the_download(bench: Bench) -> None:
    class Endless(Parts):
        def stage(self) -> None:
            threading.Event().wait(600)

    limits = {"seconds": 0.3, "memory_bytes": None, "cpus": None, "processes": None}
    outcome = finish(bench, start(bench, bench.spec("echo ran", limits=limits), Endless))
    assert (outcome["result"], outcome["log_tail"]) == ("timeout", [])


def test_a_spec_that_cannot_be_read_is_an_internal_failure(bench: Bench) -> None:
    spec = bench.spec("true")
    del spec["hosts"]
    outcome = finish(bench, start(bench, spec))
    assert (outcome["result"], outcome["failure_source"]) == ("failure", "internal")
    assert "hosts" in outcome["failure"]


def test_a_second_runner_of_a_host_leaves_without_a_trace(bench: Bench) -> None:
    spec = bench.spec("echo ran; sleep 0.3")
    directory = start(bench, spec)
    start(bench, spec)
    os.wait()
    finish(bench, directory)
    assert bench.log(directory) == "ran\n"


def test_every_phase_wakes_the_one_who_waits(bench: Bench) -> None:
    path = bench.home / "wake.sock"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as waker:
        waker.bind(str(path))
        waker.settimeout(10)
        directory = start(bench, bench.spec("true", wake_socket=str(path)))
        for _ in ("Starting", "Downloading", "Training", "Uploading", "outcome"):
            assert waker.recv(16) == b""
        # Whoever is told of the end may remove everything, though the runner is still on its way out.
        assert (directory / "outcome.json").exists()
        assert not locks.is_held(str(directory / "runner.lock"))
        finish(bench, directory)


# Servers -----------------------------------------------------------------------------------------

SERVER = """
import http.server, os, socketserver, sys
class Handler(http.server.BaseHTTPRequestHandler):
    def address_string(self): return ""
    def do_GET(self):
        status = STATUS
        if self.path == "/crash": os._exit(3)
        self.send_response(status); self.end_headers(); self.wfile.write(str(os.getpid()).encode())
print("serving", flush=True)
socketserver.UnixStreamServer(os.environ["CLARY_SERVE_SOCKET"], Handler).serve_forever()
"""


def serving(bench: Bench, status: int = 200, **changes: Any) -> Path:
    serve = {"socket": "serve.sock", "health_seconds": 20, "ping_path": "/ping"} | changes
    spec = bench.spec("", serve=serve, grace_seconds=2, limits={"seconds": 600})
    code = SERVER.replace("STATUS", str(status))
    spec["program"]["argv"] = [sys.executable, "-c", code]
    bench.executor.launch([spec])
    return Path(spec["directory"])


def is_ready(bench: Bench, directory: Path) -> Callable[[], bool]:
    def ready() -> bool:
        seen = bench.observe(directory)
        return isinstance(seen, Running) and seen.ready

    return ready


def test_a_server_is_ready_once_it_answers_its_ping_and_halts_as_stopped(bench: Bench) -> None:
    directory = serving(bench)
    wait_for(is_ready(bench, directory), "readiness")
    assert health.ping(str(directory / "serve.sock"), "/ping")
    bench.executor.halt([directory])
    assert bench.end(directory)["result"] == "stopped"
    assert not (directory / "serve.sock").exists()


def test_a_server_that_crashes_is_started_again(bench: Bench) -> None:
    directory = serving(bench)
    wait_for(is_ready(bench, directory), "readiness")
    assert not health.ping(str(directory / "serve.sock"), "/crash")
    wait_for(lambda: bench.log(directory).count("serving") == 2, "the second start")
    wait_for(is_ready(bench, directory), "readiness after the crash")
    assert health.ping(str(directory / "serve.sock"), "/ping")
    bench.executor.halt([directory])
    bench.end(directory)


def test_a_server_that_never_answers_well_fails_its_health_check(bench: Bench) -> None:
    directory = serving(bench, status=503, health_seconds=0.5)
    outcome = bench.end(directory)
    assert outcome["result"] == "failure"
    assert outcome["failure"] == (
        "The primary container did not pass the ping health check. "
        "GET /ping was not answered with status 200 within 0.5 s."
    )
    assert "within 0.5 s." in bench.log(directory)


def test_a_server_that_cannot_even_start_is_given_up_after_a_few_attempts(bench: Bench) -> None:
    serve = {"socket": "serve.sock", "health_seconds": 60, "ping_path": "/ping"}
    directory = bench.launch("echo no; exit 1", serve=serve)
    outcome = bench.end(directory)
    assert (outcome["result"], outcome["exit_code"]) == ("failure", 1)
    assert outcome["failure"].endswith(
        "health check. The server ended with exit code 1. It was started 3 times."
    )
    again = "The server ended with exit code 1 and is started again."
    last = "The server ended with exit code 1. It was started 3 times."
    assert bench.log(directory).splitlines() == ["no", again, "no", again, "no", last]
    assert outcome["log_tail"] == ["no"] * 3


def test_a_server_that_wants_too_much_memory_while_it_loads_is_not_started_again(
    bench: Bench,
) -> None:
    serve = {"socket": "serve.sock", "health_seconds": 60, "ping_path": "/ping"}
    limits = {"seconds": 600, "memory_bytes": 96 << 20}
    directory = bench.launch("echo loading; exec tail /dev/zero", serve=serve, limits=limits)
    outcome = bench.end(directory)
    assert (outcome["result"], outcome["out_of_memory"]) == ("failure", True)
    verdict = (
        "The program was killed (SIGKILL) because it wanted more memory than the 96 MiB that it "
        "may use."
    )
    assert f"did not pass the ping health check. {verdict}" in outcome["failure"]
    assert bench.log(directory).splitlines() == ["loading", verdict]


def test_a_link_to_another_socket_is_never_published(bench: Bench) -> None:
    other = str(bench.home / "other.sock")
    with sockets.listen(other, 1):
        serve = {"socket": "serve.sock", "health_seconds": 0.5, "ping_path": "/ping"}
        directory = bench.launch(f"ln -s {other} $CLARY_SERVE_SOCKET; sleep 600", serve=serve)
        outcome = bench.end(directory)
    assert outcome["result"] == "failure"
    assert not (directory / "serve.sock").exists()
