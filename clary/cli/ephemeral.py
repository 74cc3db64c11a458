"""A server for as long as one command or test session needs it, in a home that is removed after."""

from __future__ import annotations

import contextlib
import os
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path

from clary.cli.installation import Installation
from clary.cli.processes import free_port, start, stop, wait_until_ready
from clary.cli.running_work import end_work
from clary.settings import Settings

STOP_SECONDS = 20.0


@contextlib.contextmanager
def ephemeral_installation(environment: Mapping[str, str]) -> Iterator[Installation]:
    """A fresh installation on a free port; its processes and files are gone when the context ends.

    The cache of built environments is shared with every other installation of the user.
    """
    settings = Settings.load(environment)
    # Unix sockets have short addresses, so the home is not put under a long TMPDIR.
    parent = "/tmp" if Path("/tmp").is_dir() else None
    home = Path(tempfile.mkdtemp(prefix="clary-", dir=parent))
    settings = replace(settings, home=home, host="127.0.0.1", port=free_port(), database_url="")
    installation = Installation(settings)
    inherited = {key: value for key, value in environment.items() if key != "CLARY_DATABASE_URL"}
    supervisor = start(installation, "--owner", str(os.getpid()), environment=inherited)
    try:
        wait_until_ready(installation, supervisor)
        yield installation
    finally:
        try:
            stop(installation, seconds=STOP_SECONDS)
            supervisor.wait(STOP_SECONDS)
        finally:
            if supervisor.poll() is None:
                supervisor.kill()
                supervisor.wait()
            end_work(home)
            shutil.rmtree(home, ignore_errors=True)
