"""Building environments with uv: once each, in a temporary folder that is renamed when it is whole.

<cache>/environments/<hash>/             a virtual environment; never changed afterwards
<cache>/environments/<hash>/clary.json   its description; a folder without it is half-built
<cache>/environments/<hash>.lock         held while one builds; others wait
<cache>/environments/.<hash>-<random>/   being built
"""

from __future__ import annotations

import fcntl
import json
import os
import shutil
import subprocess
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from clary.images import interpreters
from clary.images.environment import Environment, as_document, from_document
from clary.images.uv import EnvironmentFailed, Progress, run
from clary.settings import Settings

MARKER = "clary.json"
BUILD_SECONDS_MAX = 1800.0
_LOCK_POLL_SECONDS = 0.1


@dataclass(frozen=True, slots=True)
class BuiltEnvironment:
    """An environment in the cache."""

    key: str
    prefix: Path
    environment: Environment
    created: float
    build_seconds: float
    size_bytes: int


def prefix(environment: Environment, settings: Settings) -> Path:
    """Where the environment is, or will be once it is built."""
    return environment.existing or folder(settings) / environment.key


def folder(settings: Settings) -> Path:
    return settings.cache / "environments"


def is_built(environment: Environment, settings: Settings) -> bool:
    place = prefix(environment, settings)
    if environment.existing:
        return (place / "bin" / "python").exists()
    return (place / MARKER).exists()


def build(
    environment: Environment,
    settings: Settings,
    progress: Progress | None = None,
    timeout_seconds: float = BUILD_SECONDS_MAX,
    stop: threading.Event | None = None,
) -> Path:
    """The prefix of the environment, made first if it is not there; raise EnvironmentFailed.

    Any number of threads and processes may ask at once: one builds, the others wait for it.
    """
    place = prefix(environment, settings)
    if is_built(environment, settings):
        return place
    if environment.existing:
        raise EnvironmentFailed(
            f"{place} is not a virtual environment any more: it has no bin/python. "
            "Make it again, or register the image anew with `clary images add`."
        )
    deadline = time.monotonic() + timeout_seconds
    with locked(place, deadline):
        if not is_built(environment, settings):
            _remove_half_built(place)
            _build_into(place, environment, deadline, progress, stop)
    return place


@contextmanager
def locked(place: Path, deadline: float) -> Iterator[None]:
    """Hold the lock beside `place`; raise EnvironmentFailed if another holds it too long."""
    place.parent.mkdir(parents=True, exist_ok=True)
    with (place.parent / f"{place.name}.lock").open("w") as lock:
        while True:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if time.monotonic() > deadline:
                    raise EnvironmentFailed(
                        f"Another process has been building {place} for too long. "
                        "End it, or wait, and try again."
                    ) from None
                time.sleep(_LOCK_POLL_SECONDS)
        yield


def _remove_half_built(place: Path) -> None:
    """What a builder that was killed has left; only called with the lock held."""
    for left in place.parent.glob(f".{place.name}-*"):
        shutil.rmtree(left, ignore_errors=True)
    if place.exists():
        shutil.rmtree(place)


def _build_into(
    place: Path,
    environment: Environment,
    deadline: float,
    progress: Progress | None,
    stop: threading.Event | None,
) -> None:
    started = time.monotonic()
    staging = Path(tempfile.mkdtemp(prefix=f".{place.name}-", dir=place.parent))
    try:
        _install(staging, environment, deadline, progress, stop)
        _check_imports(staging, environment, deadline)
        document = {
            **as_document(environment),
            "created": time.time(),
            "build_seconds": round(time.monotonic() - started, 2),
        }
        (staging / MARKER).write_text(json.dumps(document, indent=1))
        staging.chmod(0o755)
        staging.rename(place)
    finally:
        shutil.rmtree(staging, ignore_errors=True)


def _install(
    staging: Path,
    environment: Environment,
    deadline: float,
    progress: Progress | None,
    stop: threading.Event | None,
) -> None:
    """A relocatable virtual environment, since the folder is renamed when it is whole."""
    executable = interpreters.find().executables.get(environment.python)
    python = str(executable) if executable else environment.python
    run(
        ["venv", "--no-project", "--allow-existing", "--relocatable", "--python", python, "."],
        directory=staging,
        timeout_seconds=_left(deadline),
        progress=progress,
        stop=stop,
    )
    if not environment.packages:
        return
    wheels = [] if environment.from_source else ["--only-binary", ":all:"]
    run(
        ["pip", "install", "--python", "bin/python", *wheels, "--", *environment.packages],
        directory=staging,
        timeout_seconds=_left(deadline),
        progress=progress,
        stop=stop,
    )


def _check_imports(staging: Path, environment: Environment, deadline: float) -> None:
    """Import what jobs will import: it proves the environment and leaves its byte code behind.

    Jobs see the environment read-only, so byte code that is not written now never is.
    """
    code = "import importlib, sys\nfor name in sys.argv[1:]: importlib.import_module(name)"
    try:
        outcome = subprocess.run(
            [str(staging / "bin" / "python"), "-c", code, *environment.imports],
            cwd=staging,
            env={"PATH": os.defpath, "HOME": str(staging), "LC_ALL": "C.UTF-8"},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=_left(deadline),
            check=False,
        )
    except subprocess.TimeoutExpired as problem:
        raise EnvironmentFailed("The new environment did not answer in time.") from problem
    if outcome.returncode:
        last = "\n".join(outcome.stderr.strip().splitlines()[-6:])
        raise EnvironmentFailed(
            f"The new environment cannot import its packages:\n{last}\n"
            "A package of it does not fit this machine; ask for another version of it."
        )


def _left(deadline: float) -> float:
    left = deadline - time.monotonic()
    if left <= 0:
        raise EnvironmentFailed("The environment took too long to build. Try again.")
    return left


def list_environments(settings: Settings) -> list[BuiltEnvironment]:
    """The environments in the cache, the newest first."""
    found = []
    for marker in folder(settings).glob(f"[!.]*/{MARKER}"):
        try:
            document = json.loads(marker.read_text())
            environment = from_document(document)
        except (OSError, ValueError):
            continue  # being removed at this moment, or not ours
        found.append(
            BuiltEnvironment(
                key=marker.parent.name,
                prefix=marker.parent,
                environment=environment,
                created=float(document.get("created", 0)),
                build_seconds=float(document.get("build_seconds", 0)),
                size_bytes=_size(marker.parent),
            )
        )
    return sorted(found, key=lambda one: one.created, reverse=True)


def _size(place: Path) -> int:
    total = 0
    for directory, _, names in os.walk(place):
        for name in names:
            try:
                total += os.lstat(os.path.join(directory, name)).st_size  # noqa: PTH118
            except OSError:
                continue
    return total


def remove(key: str, settings: Settings) -> bool:
    """Remove an environment from the cache; False if there is none of that key."""
    place = folder(settings) / key
    if not key.isalnum() or not place.is_dir():
        return False
    with locked(place, time.monotonic() + 60):
        # Without its marker it does not count as built, should this be cut short.
        (place / MARKER).unlink(missing_ok=True)
        shutil.rmtree(place, ignore_errors=True)
    return not place.exists()


def mounts(place: Path) -> tuple[Path, ...]:
    """The folders a sandbox must show (read-only) for the environment's Python to run."""
    home = ""
    configuration = place / "pyvenv.cfg"
    if configuration.exists():
        for line in configuration.read_text().splitlines():
            name, _, value = line.partition("=")
            if name.strip() == "home":
                home = value.strip()
    if not home:
        return (place,)
    interpreter = Path(home).resolve()
    return (place, interpreter.parent if interpreter.name == "bin" else interpreter)
