"""A program forked from a warm environment behaves as one that a fresh interpreter runs, only sooner."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from clary.executors.capabilities import probe
from clary.executors.sandbox import RUNNER, SandboxExecutor
from clary.settings import Settings

from ..executors.executor_contract import (
    PAIR,
    SERVER,
    Bench,
    OverSocket,
    is_alive,
    is_ready,
    wait_for,
)

FOUND = probe()
pytestmark = pytest.mark.skipif(not FOUND.namespaces, reason=FOUND.explanations["namespaces"])

# Both print what they see; a module that only the fork server imported tells them apart.
MARK = "colorsys"


class Warm:
    def __init__(self, bench: Bench, socket: Path) -> None:
        self.bench = bench
        self.socket = socket

    def spec(self, argv: list[str], *, warm: bool = True, **changes: Any) -> dict[str, Any]:
        environment = changes.pop("environment", {})
        spec = self.bench.spec("", **changes)
        spec["program"] |= {
            "argv": argv,
            "prefix": sys.prefix,
            "environment": environment,
            "fork": {"socket": str(self.socket)} if warm else None,
        }
        return spec

    def run(self, argv: list[str], **changes: Any) -> tuple[dict[str, Any], list[str]]:
        spec = self.spec(argv, **changes)
        self.bench.executor.launch([spec])
        directory = Path(spec["directory"])
        outcome = self.bench.end(directory)
        assert "not started warm" not in (directory / "runner.log").read_text()
        return outcome, self.bench.log(directory).splitlines()


@pytest.fixture(scope="module")
def warm(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Warm]:
    home = tmp_path_factory.mktemp("warm")
    executor = SandboxExecutor(Settings(home=home), mode="namespaces", capabilities=FOUND)
    socket = executor.warm(Path(sys.prefix), [MARK, "no_such_package", "random"])
    wait_for(socket.exists, "the fork server")
    bench = Bench(executor, home)
    yield Warm(bench, socket)
    bench.close()
    executor.close()
    wait_for(lambda: not list((home / "run").glob("*.sock")), "the end of the warm parents")


def test_what_an_unbuffered_program_printed_is_not_lost_when_it_crashes(warm: Warm) -> None:
    script = "import os, sys; print('said', 1); sys.stdout.buffer.write(b'raw'); os._exit(3)"
    outcome, lines = warm.run(["python", "-c", script], environment={"PYTHONUNBUFFERED": "1"})
    assert (outcome["exit_code"], lines) == (3, ["said 1", "raw"])
    assert warm.run(["python", "-u", "-c", script])[1] == ["said 1", "raw"]


def test_a_warm_program_is_a_fork_and_has_what_was_imported_before_it(warm: Warm) -> None:
    script = (
        f"import sys, os; print({MARK!r} in sys.modules, os.getpid() > 1, 'clary' in sys.modules)"
    )
    assert warm.run(["python", "-c", script])[1] == ["True True False"]
    assert warm.run(["python", "-c", script], warm=False)[1] == ["False True False"]


FACTS = """
import os, signal, sys
print(sys.argv, __name__, sys.path[0], os.getcwd(), sys.executable, sys.prefix)
print(sorted(os.environ.items()))
print(sys.stdin.read() == "", sys.stdout.encoding, sys.stderr.errors, sys.stdout.line_buffering)
print(signal.getsignal(signal.SIGINT) is signal.default_int_handler, signal.getsignal(signal.SIGTERM))
print(signal.getsignal(signal.SIGPIPE), signal.pthread_sigmask(signal.SIG_BLOCK, []))
print(sorted(int(name) for name in os.listdir("/proc/self/fd"))[:3], os.umask(0), os.getsid(0) == os.getpid())
print([line for line in open("/proc/self/status") if line.startswith(("Cap", "NoNewPrivs", "Uid"))])
print(__file__ if "__file__" in globals() else None, type(__loader__).__name__, __package__)
"""


@pytest.mark.parametrize("form", ["script", "module", "code"])
def test_a_warm_program_sees_what_a_fresh_one_sees(warm: Warm, form: str) -> None:
    argv = {
        "script": ["python", "input/facts.py", "--epochs", "3"],
        "module": ["python3", "-m", "facts", "--epochs", "3"],
        "code": ["python", "-c", FACTS, "--epochs", "3"],
    }[form]
    given = {
        "files": {"input/facts.py": FACTS, "facts.py": FACTS},
        "environment": {"PYTHONPATH": "/opt/ml/input", "TZ": "UTC"},
    }
    outcome, lines = warm.run(argv, **given)
    assert outcome["result"] == "success", lines
    assert lines == warm.run(argv, warm=False, **given)[1]


@pytest.mark.parametrize(
    ("script", "code", "last"),
    [
        ("raise SystemExit", 0, None),
        ("import sys; sys.exit(7)", 7, None),
        ("import sys; sys.exit('no data')", 1, "no data"),
        ("def f():\n    raise ValueError('boom')\nf()", 1, "ValueError: boom"),
        ("import os; os._exit(9)", 9, None),
        ("syntax error", 1, "SyntaxError: invalid syntax"),
        ("import os, sys\nif os.fork() == 0: sys.exit(5)\nprint(os.wait()[1] >> 8)", 0, "5"),
    ],
)
def test_every_way_to_end_has_the_exit_code_and_words_of_a_fresh_interpreter(
    warm: Warm, script: str, code: int, last: str | None
) -> None:
    outcome, lines = warm.run(["python", "-c", script])
    assert outcome["exit_code"] == code, outcome
    assert (lines[-1] if lines else None) == last
    assert lines == warm.run(["python", "-c", script], warm=False)[1]


def test_a_warm_program_killed_by_a_signal_is_told_by_its_name(warm: Warm) -> None:
    outcome, _ = warm.run(["python", "-c", "import os; os.kill(os.getpid(), 11)"])
    assert (outcome["exit_code"], outcome["signal"]) == (None, "SIGSEGV")


def test_a_halted_warm_program_handles_the_signal(warm: Warm) -> None:
    # The signal may come while the first line is still being printed, and print may not be entered twice.
    script = (
        "import os, signal, sys, time\n"
        "signal.signal(signal.SIGTERM, lambda *_: sys.exit(os.write(1, b'saved\\n') - 6))\n"
        "print('up', flush=True)\nwhile True: time.sleep(0.01)"
    )
    spec = warm.spec(["python", "-c", script])
    warm.bench.executor.launch([spec])
    directory = Path(spec["directory"])
    warm.bench.wait_for_log(directory, "up")
    warm.bench.executor.halt([directory])
    outcome = warm.bench.end(directory)
    assert (outcome["result"], outcome["exit_code"]) == ("stopped", 0)
    assert outcome["log_tail"] == ["up", "saved"]


def test_what_a_program_left_unflushed_is_written_and_its_exit_handlers_run(warm: Warm) -> None:
    script = (
        "import atexit, threading, time\n"
        "atexit.register(print, 'at exit')\n"
        "threading.Thread(target=lambda: (time.sleep(0.1), print('thread'))).start()\n"
        "left = open('/opt/ml/left', 'w'); left.write('kept')"
    )
    spec = warm.spec(["python", "-c", script])
    warm.bench.executor.launch([spec])
    warm.bench.end(Path(spec["directory"]))
    assert warm.bench.log(Path(spec["directory"])).splitlines() == ["thread", "at exit"]
    assert (Path(spec["directory"]) / "ml" / "left").read_text() == "kept"


def test_two_forks_draw_different_random_numbers(warm: Warm) -> None:
    script = "import random, uuid; print(random.random(), uuid.uuid4())"
    assert warm.run(["python", "-c", script])[1] != warm.run(["python", "-c", script])[1]


def test_multiprocessing_works_in_a_fork_with_both_start_methods(warm: Warm) -> None:
    script = (
        "import multiprocessing, sys\n"
        "def square(x): return x * x\n"
        "if __name__ == '__main__':\n"
        "    for method in ('fork', 'spawn'):\n"
        "        with multiprocessing.get_context(method).Pool(2) as pool:\n"
        "            print(pool.map(square, [1, 2, 3]))\n"
    )
    outcome, lines = warm.run(["python", "main.py"], files={"main.py": script})
    assert (outcome["exit_code"], lines) == (0, ["[1, 4, 9]", "[1, 4, 9]"])


def test_a_setting_that_only_a_fresh_interpreter_reads_gets_one(warm: Warm) -> None:
    script = f"import sys; print({MARK!r} in sys.modules, hash('a') == {hash_of_a()})"
    environment = {"PYTHONHASHSEED": "0"}
    assert warm.run(["python", "-c", script], environment=environment)[1] == ["False True"]
    assert warm.run(["python", "-O", "-c", "print(__debug__)"])[1] == ["False"]


def hash_of_a() -> int:
    reader, writer = os.pipe()
    os.posix_spawn(
        sys.executable,
        [sys.executable, "-c", "print(hash('a'))"],
        {"PYTHONHASHSEED": "0"},
        file_actions=[(os.POSIX_SPAWN_DUP2, writer, 1)],
    )
    os.close(writer)
    with open(reader) as pipe:
        text = pipe.read()
    os.wait()
    return int(text)


def test_a_warm_program_is_isolated_like_any_other(warm: Warm) -> None:
    script = (
        "import os, socket\n"
        "print(socket.gethostname(), sorted(os.listdir('/opt')), len(os.listdir('/proc')) > 0)\n"
        "print([name for name in os.listdir('/proc') if name.isdigit()] == ['1', str(os.getpid())])\n"
        "print([name for _, name in socket.if_nameindex()])\n"
        "try: open('/etc/x', 'w')\n"
        "except OSError as problem: print(problem.strerror)"
    )
    _, lines = warm.run(["python", "-c", script], network_isolation=True)
    assert lines == ["algo-1 ['ml'] True", "True", "['lo']", "Read-only file system"]


def test_warm_hosts_of_one_isolated_work_meet_by_name(warm: Warm) -> None:
    members: dict[str, Any] = {
        "work": "arn:aws:sagemaker:us-east-1:123456789012:training-job/warm-pair",
        "hosts": ["algo-1", "algo-2"],
        "shared": warm.bench.home / "work" / "pair" / "g1",
        "network_isolation": True,
    }
    code = PAIR.replace("DOOR", "9")
    specs = [warm.spec(["python", "-c", code], host=host, **members) for host in members["hosts"]]
    warm.bench.executor.launch(specs)
    for spec, heard in zip(specs, ("ping", "pong"), strict=True):
        place = Path(spec["directory"])
        assert warm.bench.end(place)["result"] == "success", warm.bench.log(place)
        assert warm.bench.log(place).splitlines()[0] == f"heard {heard}"
        assert "not started warm" not in (place / "runner.log").read_text()


def test_a_warm_server_of_somebody_else_listens_on_port_8080_of_its_own(warm: Warm) -> None:
    serve = {"socket": "serve.sock", "port": 8080}
    words = {"GREETING": "warm"}
    spec = warm.spec(["python", "-c", SERVER], serve=serve, environment=words, grace_seconds=1)
    place = Path(spec["directory"])
    warm.bench.executor.launch([spec])
    wait_for(lambda: is_ready(warm.bench, place), "the server")
    client = OverSocket(place / "serve.sock")
    assert client.post(b"port") == b"warm: 8080"
    client.close()
    warm.bench.executor.halt([place])
    assert warm.bench.end(place)["result"] == "stopped"
    assert "not started warm" not in (place / "runner.log").read_text()


def test_memory_limits_hold_for_forks(warm: Warm) -> None:
    limits = {"seconds": 60, "memory_bytes": 100 << 20, "cpus": None, "processes": None}
    code = "x = b'1' * (500 << 20); import time; time.sleep(600)"
    outcome, _ = warm.run(["python", "-c", code], limits=limits)
    assert (outcome["out_of_memory"], outcome["signal"]) == (True, "SIGKILL")


def test_a_killed_runner_takes_its_warm_program_with_it(warm: Warm) -> None:
    spec = warm.spec(["python", "-c", "print('up', flush=True)\nimport time; time.sleep(600)"])
    warm.bench.executor.launch([spec])
    directory = Path(spec["directory"])
    warm.bench.wait_for_log(directory, "up")
    state = directory / "state.json"
    program = wait_for(lambda: json.loads(state.read_text())["program_pid"], "its process")
    os.kill(int((directory / "runner.lock").read_text()), signal.SIGKILL)
    assert warm.bench.end(directory)["result"] == "lost"
    assert not is_alive(program)


def test_a_package_that_leaves_a_thread_behind_is_left_to_the_programs(tmp_path: Path) -> None:
    for name, text in (
        ("quiet", ""),
        ("threaded", "import threading\nthreading.Thread(target=threading.Event().wait).start()"),
        ("importer", "import threaded"),
        ("late", ""),
    ):
        (tmp_path / f"{name}.py").write_text(text)
    path = tmp_path / "fork.sock"
    argv = [sys.executable, str(RUNNER / "fork_server.py"), "--socket", str(path)]
    argv += ["--preload", "quiet,threaded,importer,late", "--idle-seconds", "60"]
    with subprocess.Popen(
        argv, env={"PYTHONPATH": str(tmp_path)}, stderr=subprocess.PIPE, text=True
    ) as server:
        wait_for(path.exists, "the fork server")
        server.kill()
        assert server.stderr is not None
        words = server.stderr.read()
    refused = [line.split()[0] for line in words.splitlines() if "not preloaded" in line]
    assert refused == ["threaded", "importer"]
    assert words.splitlines()[-1].startswith("quiet imported")


def test_programs_outlive_their_fork_server_and_still_report(
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    home = tmp_path_factory.mktemp("warm")
    executor = SandboxExecutor(Settings(home=home), mode="namespaces", capabilities=FOUND)
    socket = executor.warm(Path(sys.prefix), [MARK])
    wait_for(socket.exists, "the fork server")
    bench = Bench(executor, home)
    warm = Warm(bench, socket)
    script = (
        "import os, time\nprint('up', flush=True)\n"
        "while not os.path.exists('/opt/ml/go'): time.sleep(0.01)\nraise SystemExit(6)"
    )
    spec = warm.spec(["python", "-c", script])
    executor.launch([spec])
    directory = Path(spec["directory"])
    bench.wait_for_log(directory, "up")
    os.kill(_server_of(socket), signal.SIGKILL)
    (directory / "ml" / "go").touch()
    outcome = bench.end(directory)
    assert (outcome["exit_code"], outcome["failure"]) == (6, ", exit code: 6")
    # Without a server the next program starts afresh, and a new server can be had.
    assert warm.run(["python", "-c", f"import sys; print({MARK!r} in sys.modules)"])[1] == ["False"]
    assert executor.warm(Path(sys.prefix), [MARK]) == socket

    def is_warm() -> bool:
        return warm.run(["python", "-c", f"import sys; print({MARK!r} in sys.modules)"])[1] == [
            "True"
        ]

    wait_for(is_warm, "a new fork server")
    bench.close()
    executor.close()


def _server_of(socket: Path) -> int:
    """The process that was started with this socket."""
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            words = path.read_bytes().split(b"\0")
        except OSError:
            continue
        if os.fsencode(socket) in words and b"--detach" in words:
            return int(path.parent.name)
    raise AssertionError("the fork server is not running")
