"""S3 alone on a port, with real signatures and policies: what the tests, and their crashes, run against."""

from __future__ import annotations

import asyncio
import json
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import uvicorn
import uvloop

from clary.dataplane.connections import Connections
from clary.dataplane.objects.app import ObjectsApp
from clary.dataplane.shortcuts import Shortcuts
from clary.identity.access_keys import create_access_key
from clary.identity.authenticate import Authenticator
from clary.identity.authorise import Authoriser
from clary.identity.sealing import install_key
from clary.settings import Settings
from clary.store.objects import Objects
from clary.store.rows import Row

ACCOUNT = "123456789012"
ADMINISTRATOR = "arn:aws:iam::aws:policy/AdministratorAccess"
READER = json.dumps(
    {
        "Version": "2012-10-17",
        "Statement": [{"Effect": "Allow", "Action": "s3:GetObject", "Resource": "*"}],
    }
)


class MemoryRows:
    """What identity asks of rows, from a dictionary: these tests are about objects."""

    def __init__(self) -> None:
        self._rows: dict[str, Row] = {}

    def insert(self, row: Row) -> Row:
        self._rows[row.arn] = row
        return row

    def by_arn(self, arn: str) -> Row | None:
        return self._rows.get(arn)

    def get(self, kind: str, name: str, account: str = "", **_: str) -> Row | None:
        found = (row for row in self._rows.values() if (row.kind, row.name) == (kind, name))
        return next(found, None)

    def generation(self, service: str) -> int:
        return 1


@dataclass
class MemoryStore:
    rows: MemoryRows = field(default_factory=MemoryRows)


def add_user(store: Any, home: Path, name: str, **document: object) -> dict[str, str]:
    arn = f"arn:aws:iam::{ACCOUNT}:user/{name}"
    user_id = f"AIDA{name.upper():0<17}"
    store.rows.insert(
        Row(
            kind="iam:User",
            name=name,
            arn=arn,
            account=ACCOUNT,
            document={"UserId": user_id, **document},
        )
    )
    row, secret = create_access_key(store, ACCOUNT, install_key(home), name)
    return {"aws_access_key_id": row.name, "aws_secret_access_key": secret}


def build(home: Path, *, objects: Any = None) -> tuple[ObjectsApp, dict[str, dict[str, str]]]:
    """The application over a home, and the keys of an administrator and of one who may only read."""
    home.mkdir(parents=True, exist_ok=True)
    settings = Settings(home=home)
    store: Any = MemoryStore()
    keys = {
        "admin": add_user(store, home, "admin", AttachedPolicies=[ADMINISTRATOR]),
        "reader": add_user(store, home, "reader", Policies={"read": READER}),
    }
    app = ObjectsApp(
        objects or Objects(home / "objects"),
        account=ACCOUNT,
        region="us-east-1",
        authenticator=Authenticator(store, settings, install_key(home), time.time),
        authoriser=Authoriser(store, settings, time.time),
    )
    return app, keys


def server_of(app: object) -> uvicorn.Server:
    config = uvicorn.Config(
        app,  # type: ignore[arg-type]
        http="httptools",
        loop="uvloop",
        lifespan="off",
        log_level="error",
        access_log=False,
        server_header=False,
        timeout_graceful_shutdown=2,
    )
    return uvicorn.Server(config)


async def serve(home: Path) -> None:
    """The connections of the real door, with nothing but objects behind them: small requests take their shortcut."""
    application, keys = build(home)
    shortcuts = Shortcuts(
        invocations=lambda *_: False, control=lambda *_: False, objects=application.answer_now
    )
    connections = Connections(application, shortcuts)
    loop = asyncio.get_running_loop()
    server = await loop.create_server(connections.make, "127.0.0.1", 0, backlog=256)
    port = server.sockets[0].getsockname()[1]
    print(json.dumps({"port": port, "keys": keys}), flush=True)
    await server.serve_forever()


if __name__ == "__main__":
    uvloop.run(serve(Path(sys.argv[1])))
