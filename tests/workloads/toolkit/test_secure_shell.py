"""sshd and ssh as a job has them, in an environment with paramiko like that of the PyTorch images."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from clary.images import build
from clary.images.environment import Environment
from clary.settings import Settings

ROOT = Path(__file__).resolve().parents[3]
HOST = "127.0.0.1"
MODULE = "clary.workloads.toolkit.secure_shell"
ENVIRONMENT = Environment(
    f"{sys.version_info.major}.{sys.version_info.minor}", ("paramiko>=3,<5",), ("paramiko",)
)
SERVE = (
    f"import os, sys; from {MODULE} import serve; serve(('{HOST}', int(sys.argv[1])), os.environ)"
)
# As SDK v3's driver asks whether a host is there, and as somebody who was told a password would.
CONNECT = """
import sys, paramiko
client = paramiko.SSHClient()
client.set_missing_host_key_policy(paramiko.AutoAddPolicy())
more = {"password": sys.argv[2], "look_for_keys": False} if len(sys.argv) > 2 else {}
try:
    client.connect("127.0.0.1", port=int(sys.argv[1]), **more)
    print("connected")
except paramiko.SSHException as problem:
    print(type(problem).__name__)
client.close()
"""


class Job:
    """A job's environment, and sshd on one of its hosts."""

    def __init__(self, home: Path) -> None:
        self._python = str(build.build(ENVIRONMENT, Settings.load()) / "bin" / "python")
        with socket.create_server((HOST, 0)) as found:
            self.port = found.getsockname()[1]
        self.home = home
        self._sshd = self.start("-c", SERVE, str(self.port), COLOUR="red")
        deadline = time.monotonic() + 30
        while not self._listens():
            assert self._sshd.poll() is None and time.monotonic() < deadline
            time.sleep(0.02)

    def _listens(self) -> bool:
        try:
            socket.create_connection((HOST, self.port), 5).close()
        except OSError:
            return False
        return True

    def start(self, *words: str, **environment: str) -> subprocess.Popen[str]:
        known = {"PATH": os.environ["PATH"], "PYTHONPATH": str(ROOT), "HOME": str(self.home)}
        names = {"TRAINING_JOB_NAME": "job", "AWS_CONTAINER_AUTHORIZATION_TOKEN": "secret"}
        return subprocess.Popen(
            [self._python, "-W", "ignore", *words],
            env={**known, **names, **environment},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def run(self, *words: str, **environment: str) -> tuple[int, str, str]:
        process = self.start(*words, **environment)
        output, errors = process.communicate(timeout=60)
        return process.returncode, output, errors

    def ssh(self, *words: str, **environment: str) -> tuple[int, str, str]:
        return self.run("-m", MODULE, "call", "-x", "-p", str(self.port), *words, **environment)

    def close(self) -> None:
        self._sshd.kill()
        self._sshd.communicate()


@pytest.fixture(scope="module")
def job(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Job]:
    found = Job(tmp_path_factory.mktemp("home"))
    yield found
    found.close()


def test_a_command_runs_there_and_its_output_and_exit_code_come_back(job: Job) -> None:
    words = ("-o", "BatchMode=yes", f"root@{HOST}", "echo", "$COLOUR;", "pwd; exit 7")
    assert job.ssh(*words) == (7, f"red\n{job.home}\n", "")


def test_a_command_that_a_signal_ended_has_the_code_that_a_shell_gives_it(job: Job) -> None:
    assert job.ssh(HOST, "kill -9 $$")[0] == 137


def test_another_job_is_refused(job: Job) -> None:
    code, output, errors = job.ssh(HOST, "echo in", AWS_CONTAINER_AUTHORIZATION_TOKEN="another")
    assert (code, output) == (255, "")
    assert errors.startswith("ssh: ")


def test_paramiko_finds_the_job_s_key_and_a_stranger_has_neither_key_nor_password(
    job: Job, tmp_path: Path
) -> None:
    key = job.home / ".ssh" / "id_ed25519"
    assert key.stat().st_mode & 0o777 == 0o600
    assert job.run("-c", CONNECT, str(job.port))[1] == "connected\n"
    for words in ((), ("job",)):
        told = job.run("-c", CONNECT, str(job.port), *words, HOME=str(tmp_path))[1]
        assert told.strip() in ("SSHException", "BadAuthenticationType", "AuthenticationException")


def test_options_of_ssh_are_skipped_with_their_values(job: Job) -> None:
    code = f"import json; from {MODULE} import parse; print(json.dumps([%s]))"
    told = job.run(
        "-c",
        code % "parse(['-xq', '-oA=b', '-l', 'me', '-p22', 'algo-2', 'ls', '-l']),"
        " parse(['-Tp', '9', 'you@algo-1', 'x'])",
    )
    assert json.loads(told[1]) == [["algo-2", 22, "ls -l"], ["algo-1", 9, "x"]], told[2]
    assert job.run("-m", MODULE, "call", "algo-2")[::2] == (
        255,
        "ssh: usage: ssh [-option ...] HOST COMMAND ...\n",
    )


def test_a_host_alone_needs_no_sshd(job: Job) -> None:
    assert job.run("-m", MODULE, "serve", "-D", SM_HOSTS='["algo-1"]') == (0, "", "")
