"""A real server on a real port, and boto3 in front of it."""

from __future__ import annotations

import json
import subprocess
import sys
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import boto3
import pytest
from botocore.config import Config


@dataclass
class Door:
    home: Path
    process: subprocess.Popen[str]
    port: int
    keys: dict[str, dict[str, str]]

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def client(self, user: str = "admin", region: str = "us-east-1", **config: Any) -> Any:
        return boto3.client(
            "s3",
            endpoint_url=self.url,
            region_name=region,
            config=Config(retries={"max_attempts": 1, "mode": "standard"}, **config),
            **self.keys[user],
        )

    def kill(self) -> None:
        self.process.kill()
        self.process.wait(10)
        assert self.process.stdout
        self.process.stdout.close()


def start_door(home: Path) -> Door:
    script = Path(__file__).with_name("lone_door.py")
    process = subprocess.Popen(
        [sys.executable, str(script), str(home)], stdout=subprocess.PIPE, text=True
    )
    assert process.stdout
    told = json.loads(process.stdout.readline())
    return Door(home, process, told["port"], told["keys"])


@pytest.fixture(scope="session")
def door(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Door]:
    found = start_door(tmp_path_factory.mktemp("door"))
    yield found
    found.kill()


@pytest.fixture(scope="session")
def s3(door: Door) -> Any:
    return door.client()


@pytest.fixture
def bucket(s3: Any) -> str:
    name = f"b-{uuid.uuid4().hex[:16]}"
    s3.create_bucket(Bucket=name)
    return name
