"""Commands between the hosts of a job, over loopback addresses."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from clary.workloads.toolkit import remote_shell
from clary.workloads.toolkit.remote_shell import Listener, RemoteShellError

KEY = b"k" * 32
HOST = "127.0.0.1"
ROOT = Path(__file__).resolve().parents[3]


class Served:
    """A listener that serves in a thread, and how it ended."""

    def __init__(self, directory: Path, key: bytes = KEY) -> None:
        with socket.create_server((HOST, 0)) as found:
            self.port = found.getsockname()[1]
        environment = {"PATH": os.environ["PATH"], "COLOUR": "red"}
        self.listener = Listener(HOST, self.port, key, directory, environment)
        self.problem: Exception | None = None
        self.thread = threading.Thread(target=self._serve)
        self.thread.start()

    def _serve(self) -> None:
        try:
            self.listener.serve()
        except RemoteShellError as problem:
            self.problem = problem

    def end(self) -> Exception | None:
        self.thread.join(20)
        assert not self.thread.is_alive()
        return self.problem


@pytest.fixture
def served(tmp_path: Path) -> Iterator[Served]:
    one = Served(tmp_path)
    yield one
    one.end()


def test_a_command_runs_there_and_its_output_and_exit_code_come_back(
    served: Served, tmp_path: Path, capfdbinary: pytest.CaptureFixture[bytes]
) -> None:
    held = remote_shell.hold(HOST, served.port, KEY)
    command = 'echo "$COLOUR in $(pwd)"; exit 7'
    assert remote_shell.run(HOST, served.port, KEY, command) == 7
    assert capfdbinary.readouterr().out.decode().strip() == f"red in {tmp_path}"
    assert remote_shell.run(HOST, served.port, KEY, "kill -9 $$") == 137
    remote_shell.let_go(held)
    assert served.end() is None


def test_who_does_not_know_the_secret_runs_nothing(served: Served, tmp_path: Path) -> None:
    with pytest.raises((OSError, EOFError)):
        remote_shell.run(HOST, served.port, b"guess", "touch stolen")
    with pytest.raises(RemoteShellError, match="refused the call"):
        remote_shell.hold(HOST, served.port, b"guess")
    remote_shell.let_go(remote_shell.hold(HOST, served.port, KEY))
    served.end()
    assert not (tmp_path / "stolen").exists()


def test_a_first_host_that_goes_away_is_told(served: Served) -> None:
    remote_shell.hold(HOST, served.port, KEY).close()
    assert "The first host of the job went away" in str(served.end())


def test_what_still_runs_at_the_end_is_ended(
    served: Served, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(remote_shell, "END_SECONDS_MAX", 0.1)
    held = remote_shell.hold(HOST, served.port, KEY)
    codes: list[int] = []
    caller = threading.Thread(
        target=lambda: codes.append(
            remote_shell.run(HOST, served.port, KEY, "echo $$ > pid; mv pid here; sleep 60")
        )
    )
    caller.start()
    while not (tmp_path / "here").exists():
        assert caller.is_alive()
    remote_shell.let_go(held)
    caller.join(20)
    assert codes == [137]
    served.end()


def test_it_is_called_as_mpirun_calls_ssh(tmp_path: Path) -> None:
    environ = {
        "PATH": os.environ["PATH"],
        "PYTHONPATH": str(ROOT),
        "TRAINING_JOB_NAME": "job",
        "AWS_CONTAINER_AUTHORIZATION_TOKEN": "token",
    }
    served = Served(tmp_path, remote_shell.secret(environ))
    held = remote_shell.hold(HOST, served.port, remote_shell.secret(environ))
    words = [sys.executable, "-m", remote_shell.__name__, "-x", HOST, "A=1; echo", '"$A $COLOUR"']
    done = subprocess.run(
        words,
        env={**environ, remote_shell.PORT_VARIABLE: str(served.port)},
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    remote_shell.let_go(held)
    assert (done.returncode, done.stdout.strip()) == (0, "1 red"), done.stderr
    assert served.end() is None
