"""ssh between the hosts of a job, for programs that call it so: SDK v3's MPI driver, paramiko, mpirun.

    algo-1                                             algo-2
    driver ── paramiko, port 22 ────────────────────▶ sshd: who has the job's key may run commands
       └ mpirun ─ ssh algo-2 command ───────────────▶   └ /bin/sh -c command
                     ◀── its output, its exit code ──

One key, which only the hosts of the job can make, says on both sides who they are. Nobody has a password.
"""

from __future__ import annotations

import contextlib
import io
import json
import logging
import os
import socket
import sys
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NoReturn

# Of the images that have MPI.
import paramiko  # pyright: ignore[reportMissingModuleSource]
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ed25519
from paramiko.common import (  # pyright: ignore[reportMissingModuleSource]
    AUTH_FAILED,
    AUTH_SUCCESSFUL,
    OPEN_FAILED_ADMINISTRATIVELY_PROHIBITED,
    OPEN_SUCCEEDED,
)

from clary.workloads.toolkit import remote_shell

log = logging.getLogger("clary.toolkit")

PORT = 22
CONNECTIONS_MAX = 64
CALL_SECONDS_MAX = 30.0
ALIVE_SECONDS = 30
COMMAND_BYTES_MAX = 1 << 20
CALLER = "job"
# The options of ssh that have a value, in the next word if not in the same.
_WITH_VALUE = frozenset("BbcDEeFIiJLlmOoPpQRSWw")


def private_key(environ: Mapping[str, str]) -> str:
    """The job's key in OpenSSH's form; every host makes the same out of the job's secret."""
    made = ed25519.Ed25519PrivateKey.from_private_bytes(remote_shell.secret(environ))
    return made.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.OpenSSH,
        serialization.NoEncryption(),
    ).decode()


def _key(text: str) -> Any:
    return paramiko.Ed25519Key.from_private_key(io.StringIO(text))


# -- sshd -----------------------------------------------------------------------------------------


class Session(paramiko.ServerInterface):
    """What one connection may do: show the job's key, then run commands."""

    def __init__(self, key: Any, environment: Mapping[str, str]) -> None:
        self._key, self._environment = key, environment

    def get_allowed_auths(self, username: str) -> str:
        return "publickey"

    def check_auth_publickey(self, username: str, key: Any) -> int:
        known = key == self._key
        return AUTH_SUCCESSFUL if known else AUTH_FAILED

    def check_channel_request(self, kind: str, chanid: int) -> int:
        if kind == "session":
            return OPEN_SUCCEEDED
        return OPEN_FAILED_ADMINISTRATIVELY_PROHIBITED

    def check_channel_exec_request(self, channel: Any, command: bytes) -> bool:
        if len(command) > COMMAND_BYTES_MAX:
            return False
        words = (channel, os.fsdecode(command))
        threading.Thread(target=self._run, args=words, name="command", daemon=True).start()
        return True

    def _run(self, channel: Any, command: str) -> None:
        try:
            with channel:
                home = Path(self._environment.get("HOME", "/"))
                process = remote_shell.start(command, home, self._environment)
                code = remote_shell.follow(process, channel.sendall)
                channel.send_exit_status(remote_shell.shell_code(code))
        except (OSError, EOFError, paramiko.SSHException) as problem:
            log.info("A command of another host lost its caller: %s", problem)


def serve(address: tuple[str, int], environment: Mapping[str, str]) -> NoReturn:
    """Answer the other hosts until this process is ended."""
    text = private_key(environment)
    _show(Path(environment.get("HOME", "/")) / ".ssh" / "id_ed25519", text)
    slots = threading.BoundedSemaphore(CONNECTIONS_MAX)
    with socket.create_server(address, backlog=CONNECTIONS_MAX) as listener:
        while True:
            connection, _ = listener.accept()
            if not slots.acquire(blocking=False):
                connection.close()
                continue
            words = (connection, _key(text), environment, slots)
            threading.Thread(target=_answer, args=words, daemon=True).start()


def _show(path: Path, text: str) -> None:
    """Put the key where ssh clients look for one."""
    path.parent.mkdir(mode=0o700, exist_ok=True)
    fresh = path.with_suffix(f".{os.getpid()}")
    with open(os.open(fresh, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600), "w") as file:
        file.write(text)
    fresh.replace(path)


def _answer(
    connection: socket.socket,
    key: Any,
    environment: Mapping[str, str],
    slots: threading.BoundedSemaphore,
) -> None:
    try:
        with contextlib.closing(paramiko.Transport(connection)) as transport:
            transport.add_server_key(key)
            transport.start_server(server=Session(key, environment))
            transport.join()
    except (OSError, EOFError, paramiko.SSHException) as problem:
        log.info("A call from another host ended early: %s", problem)
    finally:
        connection.close()
        slots.release()


# -- ssh ------------------------------------------------------------------------------------------


def call(host: str, port: int, command: str, key: Any) -> int:
    """Run a command on a host, pass its output on, and return its exit code."""
    connection = socket.create_connection((host, port), timeout=CALL_SECONDS_MAX)
    with contextlib.closing(paramiko.Transport(connection)) as transport:
        transport.connect(hostkey=key, username=CALLER, pkey=key)
        transport.set_keepalive(ALIVE_SECONDS)
        with transport.open_session(timeout=CALL_SECONDS_MAX) as channel:
            channel.exec_command(command)
            while piece := channel.recv(1 << 16):
                sys.stdout.buffer.write(piece)
                sys.stdout.buffer.flush()
            return channel.recv_exit_status()


def parse(words: list[str]) -> tuple[str, int, str]:
    """Host, port and command of `ssh [-option ...] [user@]HOST COMMAND ...`; ValueError if missing."""
    port, left = PORT, list(words)
    while left and left[0].startswith("-"):
        option = left.pop(0)
        place = next((at for at, letter in enumerate(option) if letter in _WITH_VALUE), 0)
        if place:
            value = option[place + 1 :] or (left.pop(0) if left else "")
            port = int(value) if option[place] == "p" else port
    if len(left) < 2:
        raise ValueError("usage: ssh [-option ...] HOST COMMAND ...")
    return left[0].rpartition("@")[2], port, " ".join(left[1:])


def main(words: list[str]) -> int:
    """`serve` in the place of sshd, `call` in that of ssh; the words after it are theirs."""
    logging.basicConfig(format="%(message)s", level=logging.INFO)
    logging.getLogger("paramiko").setLevel(logging.CRITICAL)  # what matters is raised as well
    serves = words[:1] == ["serve"]
    if serves and len(json.loads(os.environ.get("SM_HOSTS", "[]"))) == 1:
        return 0  # nobody else could call
    try:
        if serves:
            serve((socket.gethostbyname(socket.gethostname()), PORT), os.environ)
        host, port, command = parse(words[1:])
        return call(host, port, command, _key(private_key(os.environ)))
    except (OSError, EOFError, ValueError, paramiko.SSHException) as problem:
        print(f"{'sshd' if serves else 'ssh'}: {problem}", file=sys.stderr)
        return 255


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
