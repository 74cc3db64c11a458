"""The door's process: `python -m clary.dataplane`, started and restarted by the supervisor."""

from __future__ import annotations

import os
import socket
import sys
import time
from typing import TYPE_CHECKING, Any

from clary.dataplane.async_runs import ObjectStore
from clary.dataplane.endpoint_roles import EndpointRoles
from clary.dataplane.gate import Gate
from clary.dataplane.objects.app import ObjectsApp
from clary.dataplane.process import run
from clary.identity.authenticate import Authenticator
from clary.identity.authorise import Authoriser
from clary.identity.sealing import install_key
from clary.settings import Settings
from clary.store.database import Store
from clary.store.objects import Objects

if TYPE_CHECKING:
    from clary.dataplane.objects.external import ExternalApp

FIRST_START_SECONDS = 120.0
CONTROL_SECONDS = 10.0
POLL_SECONDS = 0.01


def main() -> int:
    settings = Settings.load()
    if not wait_for_control(settings):
        print("control has not prepared this installation; see its log", file=sys.stderr)
        return 1
    url = settings.database_url or f"sqlite:///{settings.home / 'clary.db'}"
    store = Store.open(url, settings.sqlite_synchronous)
    key = install_key(settings.home)
    authenticator = Authenticator(store, settings, key, time.time)
    authoriser = Authoriser(store, settings, time.time)
    gate = Gate(authenticator, authoriser)
    roles = EndpointRoles(store, settings.account, key, authoriser, time.time)
    objects = objects_app(settings, authenticator, authoriser)
    try:
        return run(settings, gate, objects, store=object_store(settings), roles=roles)
    finally:
        objects.close()
        store.close()


def objects_app(
    settings: Settings, authenticator: Authenticator, authoriser: Authoriser
) -> ObjectsApp | ExternalApp:
    """S3 from plain files in the home, or passed on to the external store of the settings."""
    common: dict[str, Any] = {
        "account": settings.account,
        "region": settings.region,
        "authenticator": authenticator,
        "authoriser": authoriser,
    }
    if settings.object_store_url:
        # boto3 comes with these, which an installation with files of its own does not need.
        from clary.dataplane.objects.external import ExternalApp
        from clary.store.external_objects import ExternalEndpoint

        endpoint = ExternalEndpoint.load(settings.object_store_url, os.environ)
        return ExternalApp(endpoint, **common)
    folder = settings.home / "objects"
    objects = Objects(folder, region=settings.region, durable=settings.objects_durable)
    return ObjectsApp(objects, **common)


def object_store(settings: Settings) -> ObjectStore:
    """Where captured data and the results of asynchronous invocations go."""
    if settings.object_store_url:
        from clary.store.external_objects import ExternalEndpoint, ExternalObjects

        return ExternalObjects(ExternalEndpoint.load(settings.object_store_url, os.environ))
    folder = settings.home / "objects"
    return Objects(folder, region=settings.region, durable=settings.objects_durable)


def wait_for_control(settings: Settings) -> bool:
    """Let control make or migrate the database first; False if there is none to work with.

    Where the installation exists already, a control that does not come up holds nothing back: the
    endpoints that run are worth serving without it.
    """
    prepared = settings.home / "credentials.json"
    seconds = CONTROL_SECONDS if prepared.is_file() else FIRST_START_SECONDS
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
            if probe.connect_ex(str(settings.run / "control.sock")) == 0:
                return True
        time.sleep(POLL_SECONDS)
    return prepared.is_file()


if __name__ == "__main__":
    sys.exit(main())
