"""The supervisor with small stand-in children: starts, restarts, stops, locks, bounds."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

# Each stand-in says that it started, and ends as the file beside its name says.
CHILD = """
import os, pathlib, signal, sys, time
here = pathlib.Path(os.environ["STAND_IN_FOLDER"])
name = __spec__.name
def main():
    with (here / f"{name}.starts").open("a") as file:
        file.write(f"{os.getpid()}\\n")
    print(name, "says hello", flush=True)
    plan = here / f"{name}.exit"
    if plan.exists():
        code = int(plan.read_text())
        plan.unlink()
        return code
    if (here / f"{name}.stubborn").exists():
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
    else:
        signal.signal(signal.SIGTERM, stop)
    (here / f"{name}.ready").write_text("")
    while True:
        time.sleep(60)
def stop(*_):
    with (here / "stopped").open("a") as file:
        file.write(f"{name}\\n")
    sys.exit(0)
"""
START = """
import sys
from pathlib import Path
from clary import supervisor
supervisor.CHILDREN = {"control": "stand_in_control", "door": "stand_in_door"}
supervisor.STOP_SECONDS = {"control": 2.0, "door": 2.0}
supervisor.LOG_BYTES_MAX = 1000
supervisor.TICK_SECONDS = 0.1
sys.exit(supervisor.main(sys.argv[1:]))
"""


@pytest.fixture
def folder(tmp_path):
    for name in ("control", "door"):
        (tmp_path / f"stand_in_{name}.py").write_text(CHILD)
    return tmp_path


@pytest.fixture
def start(environment, folder, home):
    """Start a supervisor; all that are still alive are killed at the end."""
    started = []

    def run(*options):
        path = os.pathsep.join([str(folder), environment["PYTHONPATH"]])
        process = subprocess.Popen(
            [sys.executable, "-c", START, str(home), "http://127.0.0.1:1", *options],
            env={**environment, "PYTHONPATH": path, "STAND_IN_FOLDER": str(folder)},
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
        )
        started.append(process)
        return process

    yield run
    for process in started:
        if process.poll() is None:
            process.kill()
        process.wait(20)
        process.stderr.close()


@pytest.fixture
def running(start, folder, wait_until):
    process = start()
    wait_until(lambda: (folder / "stand_in_control.ready").exists())
    wait_until(lambda: (folder / "stand_in_door.ready").exists())
    return process


def pids(folder, name):
    path = folder / f"stand_in_{name}.starts"
    return [int(line) for line in path.read_text().split()] if path.exists() else []


def is_alive(pid):
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def test_both_children_start_and_their_words_go_to_logs(running, home, folder, wait_until):
    for name in ("control", "door"):
        log = home / "logs" / f"{name}.log"
        wait_until(log.exists)
        wait_until(lambda log=log: "says hello" in log.read_text())
        assert log.stat().st_mode & 0o777 == 0o600
    assert (home / "run").stat().st_mode & 0o777 == 0o700
    server = json.loads((home / "run" / "server.json").read_text())
    assert server["url"] == "http://127.0.0.1:1"
    assert server["pid"] == running.pid
    assert server["children"]["door"]["pid"] == pids(folder, "door")[0]


def test_a_killed_child_is_started_again_and_the_other_left_alone(
    running, home, folder, wait_until
):
    (first,) = pids(folder, "control")
    os.kill(first, signal.SIGKILL)
    wait_until(lambda: len(pids(folder, "control")) == 2)
    assert len(pids(folder, "door")) == 1
    server = json.loads((home / "run" / "server.json").read_text())
    assert server["children"]["control"]["last_end"] == "SIGKILL"
    assert server["children"]["control"]["restarts"] == 1


def test_sigterm_stops_the_door_before_control(running, home, folder):
    running.send_signal(signal.SIGTERM)
    assert running.wait(20) == 0
    assert (folder / "stopped").read_text().split() == ["stand_in_door", "stand_in_control"]
    assert not (home / "run" / "server.json").exists()


def test_a_child_that_ignores_sigterm_is_killed(start, home, folder, wait_until):
    (folder / "stand_in_door.stubborn").write_text("")
    process = start()
    wait_until(lambda: (folder / "stand_in_door.ready").exists())
    wait_until(lambda: (folder / "stand_in_control.ready").exists())
    process.send_signal(signal.SIGTERM)
    assert process.wait(20) == 0
    assert not is_alive(pids(folder, "door")[0])


def test_a_second_supervisor_of_a_home_says_that_one_runs_already(running, start):
    second = start()
    _, words = second.communicate(timeout=20)
    assert second.returncode == 75
    assert "running already" in words
    assert running.poll() is None


def test_a_child_that_cannot_start_ends_the_supervisor_with_a_message(start, folder):
    (folder / "stand_in_door.exit").write_text("78")
    process = start()
    _, words = process.communicate(timeout=20)
    assert process.returncode == 78
    assert "door cannot start" in words
    assert all(not is_alive(pid) for pid in pids(folder, "control"))


def test_a_failing_child_is_started_again_with_a_growing_delay(start, folder, wait_until):
    (folder / "stand_in_door.exit").write_text("3")
    process = start()
    wait_until(lambda: (folder / "stand_in_door.ready").exists())
    process.send_signal(signal.SIGTERM)
    _, words = process.communicate(timeout=20)
    assert "door ended (exit code 3); starting it again in 0.2 s" in words


@pytest.mark.skipif(sys.platform != "linux", reason="needs the parent-death signal of Linux")
def test_children_end_when_the_supervisor_is_killed(running, folder, wait_until):
    children = pids(folder, "door") + pids(folder, "control")
    running.kill()
    running.wait(20)
    wait_until(lambda: not any(is_alive(pid) for pid in children))


def test_logs_are_cut_and_one_older_copy_kept(running, home, wait_until):
    log = home / "logs" / "door.log"
    with log.open("a") as file:
        file.write("x" * 2000)
    wait_until(lambda: (home / "logs" / "door.log.1").exists() and log.stat().st_size == 0)
    assert (home / "logs" / "door.log.1").read_text().endswith("x" * 2000)


def test_an_owned_supervisor_ends_with_its_owner(environment, folder, home, wait_until):
    path = os.pathsep.join([str(folder), environment["PYTHONPATH"]])
    owner = (
        "import os, subprocess, sys\n"
        f"subprocess.Popen([sys.executable, '-c', {START!r}, {str(home)!r}, 'http://x', '--owner',"
        " str(os.getpid())], start_new_session=True)\n"
        "sys.stdin.read()\n"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", owner],
        env={**environment, "PYTHONPATH": path, "STAND_IN_FOLDER": str(folder)},
        stdin=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
    )
    wait_until(lambda: (folder / "stand_in_control.ready").exists())
    wait_until(lambda: (folder / "stand_in_door.ready").exists())
    supervisor = json.loads((home / "run" / "server.json").read_text())["pid"]
    process.stdin.close()
    process.wait(20)
    wait_until(lambda: not (home / "run" / "server.json").exists())
    wait_until(lambda: not is_alive(supervisor))


def test_the_supervisor_imports_nothing_of_clary_and_little_else():
    code = "import clary.supervisor, sys; print(*sys.modules)"
    words = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True,
        cwd=Path(__file__).parents[2],
    ).stdout.split()  # fmt: skip
    assert {word for word in words if word.startswith("clary")} == {"clary", "clary.supervisor"}
    assert not {"subprocess", "pathlib", "logging", "threading", "socket"} & set(words)
