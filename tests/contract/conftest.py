"""One real server for the session: supervisor, door and control, asked over HTTP."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from clary.cli.ephemeral import ephemeral_installation
from clary.cli.installation import Installation
from clary.engine.registry import Registry, discover
from clary.model.service import Services
from clary.server import PACKAGES
from tests.contract.asking import Asker


@pytest.fixture(scope="session")
def installation(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Installation]:
    """Its package index never answers, so that jobs wait for their environment until they are stopped."""
    kept = {
        key: value for key, value in os.environ.items() if not key.startswith(("AWS_", "CLARY_"))
    }
    with closing(socket.create_server(("127.0.0.1", 0), backlog=64)) as silent:
        index = f"http://127.0.0.1:{silent.getsockname()[1]}/simple"
        cache: Path = tmp_path_factory.mktemp("cache")
        environment = {
            **kept,
            "CLARY_CACHE": str(cache),
            "PIP_CONFIG_FILE": os.devnull,
            "UV_DEFAULT_INDEX": index,
            "UV_CACHE_DIR": str(cache / "uv"),
            "UV_HTTP_RETRIES": "0",
        }
        with ephemeral_installation(environment) as installation:
            yield installation
            # uv gives up at once, so that control need not wait for it when it is stopped.
            silent.close()


@pytest.fixture(scope="session")
def ask(installation: Installation) -> Iterator[Asker]:
    asker = Asker(installation)
    s3 = asker.client("s3")
    s3.create_bucket(Bucket="contract")
    for key in ("data/rows.csv", "model.tar.gz"):
        s3.put_object(Bucket="contract", Key=key, Body=b"1,2\n")
    s3.close()
    yield asker
    asker.close()


@pytest.fixture(scope="session")
def registry() -> Registry:
    return discover(Services(), PACKAGES)
