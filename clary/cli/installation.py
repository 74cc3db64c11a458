"""One installation as the command line sees it: its home, its server, its administrator's key."""

from __future__ import annotations

import fcntl
import http.client
import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from clary.cli.output import Problem
from clary.settings import Settings

HEALTH_SECONDS = 5.0


@dataclass(frozen=True, slots=True)
class Keys:
    """Credentials of an administrator or of a session; never printed but by `clary env`."""

    access_key: str
    secret: str
    token: str = ""


@dataclass(frozen=True, slots=True)
class Installation:
    settings: Settings

    @property
    def home(self) -> Path:
        return self.settings.home

    @property
    def supervisor_pid(self) -> int:
        """The supervisor's process id; 0 if none holds the lock of this home."""
        path = self.settings.run / "supervisor.lock"
        try:
            descriptor = os.open(path, os.O_RDWR)
        except FileNotFoundError:
            return 0
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return int(os.read(descriptor, 32) or b"0")
        finally:
            os.close(descriptor)
        return 0

    def server(self) -> dict[str, Any]:
        """What the supervisor last wrote of itself and its children; empty if it wrote nothing."""
        try:
            return json.loads((self.settings.run / "server.json").read_bytes())
        except (FileNotFoundError, ValueError):
            return {}

    @property
    def url(self) -> str:
        """Where the server answers: as it was started, else as the settings say."""
        return self.server().get("url") or self.settings.endpoint_url

    def health(self) -> tuple[int, dict[str, Any]]:
        """The status and body of the health route; status 0 if nothing answers."""
        address = urlsplit(self.url)
        # No proxy is asked, whatever the environment says: the server is on this machine.
        connection = http.client.HTTPConnection(
            address.hostname or "127.0.0.1", address.port, timeout=HEALTH_SECONDS
        )
        try:
            connection.request("GET", "/_clary/health")
            answer = connection.getresponse()
            return answer.status, json.loads(answer.read())
        except (OSError, ValueError, http.client.HTTPException) as problem:
            return 0, {"status": "away", "message": str(problem)}
        finally:
            connection.close()

    def administrator(self) -> Keys:
        path = self.home / "credentials.json"
        try:
            found = json.loads(path.read_bytes())
            return Keys(found["AccessKeyId"], found["SecretAccessKey"])
        except FileNotFoundError:
            raise Problem(
                f"There is no administrator key in {self.home}.", "Start Clary: clary up"
            ) from None
        except (ValueError, KeyError) as problem:
            raise Problem(
                f"{path} is damaged.", "Restore it from a backup, or start with another CLARY_HOME."
            ) from problem

    def require_up(self) -> None:
        status, _ = self.health()
        if status == 0:
            raise Problem(f"Clary does not answer at {self.url}.", "Start it: clary up")


def installed() -> Installation:
    """The installation that the environment names."""
    try:
        return Installation(Settings.load())
    except ValueError as problem:
        raise Problem(str(problem), "Correct or unset that variable.") from problem
