"""The servers that benchmarks compare: an ephemeral Clary, moto_server, and a constant answer."""

from __future__ import annotations

import contextlib
import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import boto3
from botocore.config import Config

from clary.cli.client_environment import client_environment
from clary.cli.ephemeral import ephemeral_installation
from clary.cli.signed_calls import role_session

ROLE = "arn:aws:iam::123456789012:role/ClaryExecutionRole"
START_SECONDS_MAX = 60.0


@dataclass
class Peer:
    name: str
    url: str
    home: str = ""
    environment: dict[str, str] = field(default_factory=dict)

    def client(self, service: str) -> Any:
        variables = self.environment
        return boto3.client(
            service,
            endpoint_url=self.url,
            region_name="us-east-1",
            aws_access_key_id=variables.get("AWS_ACCESS_KEY_ID", "testing"),
            aws_secret_access_key=variables.get("AWS_SECRET_ACCESS_KEY", "testing"),
            aws_session_token=variables.get("AWS_SESSION_TOKEN"),
            config=Config(retries={"max_attempts": 0}, max_pool_connections=32),
        )


@contextlib.contextmanager
def clary(**settings: str) -> Iterator[Peer]:
    environment = {**os.environ, **settings}
    with ephemeral_installation(environment) as installation:
        keys = role_session(installation)
        variables = client_environment(installation, keys, environment)
        yield Peer("clary", installation.url, str(installation.settings.home), dict(variables))


@contextlib.contextmanager
def moto() -> Iterator[Peer]:
    port = free_port()
    command = [sys.executable, "-m", "moto.server", "-p", str(port)]
    with running(command, port):
        yield Peer("moto_server", f"http://127.0.0.1:{port}")


@contextlib.contextmanager
def running(command: list[str], port: int) -> Iterator[subprocess.Popen[bytes]]:
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    process = subprocess.Popen(command, **quiet)
    try:
        deadline = time.monotonic() + START_SECONDS_MAX
        while time.monotonic() < deadline:
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", port)) == 0:
                    break
            time.sleep(0.02)
        yield process
    finally:
        process.terminate()
        process.wait(20)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]
