"""A job starts under debugpy where its environment asks for it, and says so, or why not, in its log."""

from __future__ import annotations

import socket
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from clary.executors.capabilities import probe
from clary.executors.sandbox import SandboxExecutor
from clary.reconcile.observations import Running
from clary.runner.debugger import debugged
from clary.runner.spec import HostSpec
from clary.settings import Settings
from tests.executors.executor_contract import Bench, wait_for

pytestmark = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="needs /proc")


@pytest.fixture
def prefix(tmp_path: Path) -> Path:
    (tmp_path / "env" / "lib" / "python3.11" / "site-packages" / "debugpy").mkdir(parents=True)
    return tmp_path / "env"


def program(prefix: Path, *argv: str, **environment: str) -> dict[str, Any]:
    return {"argv": list(argv), "prefix": str(prefix), "environment": environment}


def test_the_program_runs_under_debugpy_at_a_port_of_its_host(
    make_spec: Callable[..., HostSpec], prefix: Path
) -> None:
    spec = make_spec(
        host="algo-2",
        hosts=["algo-1", "algo-2"],
        program=program(prefix, "python", "-m", "toolkit", CLARY_DEBUG_PORT="5678"),
    )
    found = debugged(spec)
    assert found.argv == [
        *("python", "-m", "debugpy", "--listen", "127.0.0.1:5679"),
        *("-m", "toolkit"),
    ]
    assert found.note == "A debugger may attach to host algo-2 at 127.0.0.1:5679."


def test_a_program_that_is_to_wait_waits(make_spec: Callable[..., HostSpec], prefix: Path) -> None:
    words = {"CLARY_DEBUG_PORT": "5678", "CLARY_DEBUG_WAIT": "true"}
    found = debugged(make_spec(program=program(prefix, "python3.11", "train.py", **words)))
    assert found.argv[-2:] == ["--wait-for-client", "train.py"]
    assert "waits for it" in found.note


@pytest.mark.parametrize(
    ("argv", "port", "isolated", "reason"),
    [
        (("python", "train.py"), "many", False, "it is not a port"),
        (("python", "train.py"), "70000", False, "it is not a port"),
        (("python", "train.py"), "5678", True, "EnableNetworkIsolation"),
        (("train",), "5678", False, "the entry point is train"),
        (("python", "-c", "1"), "5678", False, "the entry point is python"),
        (("python", "-u", "train.py"), "5678", False, "the option -u"),
    ],
)
def test_what_cannot_be_debugged_runs_as_it_is_and_says_why(
    make_spec: Callable[..., HostSpec],
    prefix: Path,
    argv: tuple[str, ...],
    port: str,
    isolated: bool,
    reason: str,
) -> None:
    found = debugged(
        make_spec(program=program(prefix, *argv, CLARY_DEBUG_PORT=port), network_isolation=isolated)
    )
    assert (found.argv, found.is_on) == (list(argv), False)
    assert reason in found.note


def test_an_environment_without_debugpy_is_named_as_the_reason(
    make_spec: Callable[..., HostSpec], tmp_path: Path
) -> None:
    found = debugged(make_spec(program=program(tmp_path, "python", "x.py", CLARY_DEBUG_PORT="5")))
    assert "debugpy is not in the environment" in found.note


def test_a_job_that_asks_for_no_debugger_is_left_alone(
    make_spec: Callable[..., HostSpec],
) -> None:
    assert debugged(make_spec()) == (["train"], "", False)


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    executor = SandboxExecutor(Settings(home=tmp_path), capabilities=probe())
    found = Bench(executor, tmp_path)
    yield found
    found.close()
    executor.close()
    wait_for(lambda: not list((tmp_path / "run").glob("*.sock")), "the end of the warm parents")


def with_debugpy() -> Path | None:
    places = (Settings.load().cache / "environments").glob("*/lib/python3*/site-packages/debugpy")
    return next((place.parents[3] for place in sorted(places)), None)


def attach(port: int) -> socket.socket | None:
    try:
        return socket.create_connection(("127.0.0.1", port), 10)
    except ConnectionRefusedError:
        return None


def test_a_debugger_attaches_to_a_job_that_waits_for_it(bench: Bench) -> None:
    environment = with_debugpy()
    if environment is None:
        pytest.skip("no environment with debugpy is built on this machine")
    with socket.create_server(("127.0.0.1", 0)) as found:
        port = found.getsockname()[1]
    spec = bench.spec("", grace_seconds=1)
    words = {"CLARY_DEBUG_PORT": str(port), "CLARY_DEBUG_WAIT": "1"}
    spec["program"].update(program(environment, "python", "/opt/ml/train.py", **words))
    spec["files"] = {"train.py": "print('trained')\n"}
    bench.executor.launch([spec])
    place = Path(spec["directory"])
    bench.wait_for_log(place, f"may attach to host algo-1 at 127.0.0.1:{port}")
    with wait_for(lambda: attach(port), "the debugger's port") as client:
        assert b'"type": "event"' in client.recv(65536)
        assert isinstance(bench.observe(place), Running)
        assert "trained" not in bench.log(place)
    bench.executor.halt([place])
    assert bench.end(place)["result"] == "stopped"
