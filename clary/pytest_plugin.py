"""A pytest plugin: the fixture `clary` gives a test session a server of its own.

def test_training(clary):
    clary.client("sagemaker").list_training_jobs()
"""

from __future__ import annotations

import contextlib
import importlib
import os
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import pytest


@dataclass
class ClaryServer:
    """A running server and the way to it."""

    endpoint_url: str
    environment: dict[str, str]  # what `clary env` exports
    _clients: list[Any] = field(default_factory=list)

    def client(self, service: str, **options: Any) -> Any:
        """A boto3 client of this server; `options` go to boto3."""
        # boto3 takes half a second to import, which sessions without this fixture must not pay.
        boto3 = importlib.import_module("boto3")
        client = boto3.client(
            service,
            **{
                "endpoint_url": self.endpoint_url,
                "region_name": self.environment["AWS_REGION"],
                "aws_access_key_id": self.environment["AWS_ACCESS_KEY_ID"],
                "aws_secret_access_key": self.environment["AWS_SECRET_ACCESS_KEY"],
                "aws_session_token": self.environment["AWS_SESSION_TOKEN"],
                **options,
            },
        )
        self._clients.append(client)
        return client

    def close(self) -> None:
        for client in self._clients:
            client.close()


@pytest.fixture(scope="session")
def clary() -> Iterator[ClaryServer]:
    """An ephemeral server; `os.environ` points AWS clients at it until the session ends."""
    cli = "clary.cli"
    ephemeral = importlib.import_module(f"{cli}.ephemeral")
    client_environment = importlib.import_module(f"{cli}.client_environment")
    signed_calls = importlib.import_module(f"{cli}.signed_calls")
    with ephemeral.ephemeral_installation(os.environ) as installation:
        keys = signed_calls.role_session(installation)
        variables = client_environment.client_environment(installation, keys, os.environ)
        server = ClaryServer(installation.url, {k: v for k, v in variables.items() if v})
        with _environment(variables):
            try:
                yield server
            finally:
                server.close()


@contextlib.contextmanager
def _environment(variables: dict[str, str]) -> Iterator[None]:
    """Set and unset variables, and restore them all."""
    before = {name: os.environ.get(name) for name in variables}
    _assign(variables)
    try:
        yield
    finally:
        _assign({name: value or "" for name, value in before.items()})


def _assign(variables: dict[str, str]) -> None:
    for name, value in variables.items():
        if value:
            os.environ[name] = value
        else:
            os.environ.pop(name, None)
