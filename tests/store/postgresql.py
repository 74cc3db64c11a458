"""A PostgreSQL server of the test's own, in a folder of its own, reached by a Unix socket."""

from __future__ import annotations

import os
import pwd
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


def binaries() -> Path | None:
    """The folder of initdb and pg_ctl; None where PostgreSQL is not installed."""
    found = shutil.which("initdb")
    if found:
        return Path(found).resolve().parent
    installed = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"))
    return installed[-1].parent if installed else None


def unprivileged() -> list[str]:
    """The words before a command that must not run as root; PostgreSQL refuses to."""
    if os.geteuid() != 0:
        return []
    known = {entry.pw_name for entry in pwd.getpwall()}
    user = "postgres" if "postgres" in known else "nobody"
    return ["setpriv", f"--reuid={user}", f"--regid={pwd.getpwnam(user).pw_gid}", "--clear-groups"]


@contextmanager
def serving(folder: Path, programs: Path) -> Iterator[str]:
    """Yields a database URL; the server is gone afterwards."""
    data, run = folder / "data", folder / "run"
    for place in (folder, run):
        place.mkdir(parents=True, exist_ok=True)
        place.chmod(0o777)
    quiet = {"check": True, "stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL, "cwd": "/"}
    before = unprivileged()
    initialise = [str(programs / "initdb"), "-A", "trust", "-N", "-U", "clary", "-D", str(data)]
    subprocess.run([*before, *initialise], **quiet)
    options = f"-c listen_addresses='' -c unix_socket_directories={run} -c fsync=off"
    control = [*before, str(programs / "pg_ctl"), "-w", "-D", str(data)]
    subprocess.run([*control, "-l", str(run / "log"), "-o", options, "start"], **quiet)
    try:
        yield f"postgresql://clary@/postgres?host={run}"
    finally:
        subprocess.run([*control, "-m", "immediate", "stop"], **quiet)
