"""The requirements.txt of a job: a folder of packages that is laid over the environment's own.

Only what the environment lacks, or has in another version, is installed, as `pip install` in a
container would do. The folder goes first on `PYTHONPATH`; the environment itself never changes.

This runs outside the job's sandbox, so it must run no code of the job's: only wheels are taken,
since building a source distribution executes it, and no file outside the job's own folder is read.
Where a job needs more, NeedsSandbox says so, and the job itself has to run pip.
"""

from __future__ import annotations

import hashlib
import json
import re
import secrets
import shutil
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

from clary.images.build import locked
from clary.images.uv import EnvironmentFailed, Progress, run
from clary.settings import Settings

MARKER = ".clary.json"
TEXT_BYTES_MAX = 256 * 1024
LOCAL_BYTES_MAX = 512 * 1024 * 1024
INSTALL_SECONDS_MAX = 1800.0
# uv's plan: " + name==version", or " + name @ address" for what comes from a file.
_CHANGE = re.compile(r"^ ?([-+~]) ([A-Za-z0-9._-]+)(==\S+| @ .+)")
# A requirement that is a file in the folder of the requirements file.
_LOCAL = re.compile(r"^\s*(\./|\S+\.whl\b)", re.MULTILINE)
# Other requirement files, editable installs, version control, and paths out of the folder.
_UNSAFE = re.compile(
    r"^\s*(-[rce]\b|-[rce]\S|--(requirement|constraint|editable|find-links)\b|-f\b|/|~)"
    r"|\.\./|\bfile:|\b(git|hg|svn|bzr)\+",
    re.IGNORECASE,
)
WHEELS = ("--only-binary", ":all:")


class NeedsSandbox(EnvironmentFailed):
    """The requirements would run or read something that only the job's sandbox may."""


@dataclass(frozen=True, slots=True)
class SitePackages:
    """The packages that a job adds."""

    path: Path
    packages: tuple[str, ...]  # "name==version", or "name @ address" for a file
    # What the environment has in another version: a process that has imported it cannot be used.
    replaces: tuple[str, ...]


def requirements_environment(
    prefix: Path,
    text: str,
    settings: Settings,
    *,
    directory: Path | None = None,
    progress: Progress | None = None,
    timeout_seconds: float = INSTALL_SECONDS_MAX,
) -> SitePackages:
    """Install the requirements for the environment at `prefix`, once; raise EnvironmentFailed.

    `directory` is the folder of the requirements file: lines such as `./package.whl` mean it.
    """
    if len(text.encode()) > TEXT_BYTES_MAX:
        raise EnvironmentFailed(f"A requirements.txt has at most {TEXT_BYTES_MAX} bytes.")
    _refuse_what_needs_a_sandbox(text)
    place = settings.cache / "requirements" / _key(prefix, text, directory)
    deadline = time.monotonic() + timeout_seconds
    with locked(place, deadline):
        if not (place / MARKER).exists():
            for left in place.parent.glob(f".{place.name}-*"):
                shutil.rmtree(left, ignore_errors=True)
            shutil.rmtree(place, ignore_errors=True)
            _install(place, prefix, text, directory, deadline, progress)
    document = json.loads((place / MARKER).read_text())
    return SitePackages(place, tuple(document["packages"]), tuple(document["replaces"]))


def _refuse_what_needs_a_sandbox(text: str) -> None:
    for line in text.splitlines():
        if _UNSAFE.search(line):
            raise NeedsSandbox(
                f"The job itself has to install the line {line.strip()[:200]!r} of its requirements."
            )


def _key(prefix: Path, text: str, directory: Path | None) -> str:
    digest = hashlib.sha256(f"{prefix}\0{text}\0".encode())
    if directory is not None and _LOCAL.search(text):
        _add_folder(digest, directory)
    return digest.hexdigest()[:20]


def _add_folder(digest: hashlib._Hash, directory: Path) -> None:
    """The content of the folder is part of the key, since the text refers to files in it."""
    total = 0
    for path in sorted(directory.rglob("*")):
        if not path.is_file() or path.is_symlink():
            continue
        total += path.stat().st_size
        if total > LOCAL_BYTES_MAX:
            raise EnvironmentFailed(
                "The requirements refer to local files, and the folder beside them is larger than "
                f"{LOCAL_BYTES_MAX} bytes."
            )
        digest.update(f"{path.relative_to(directory)}\0{path.stat().st_size}\0".encode())
        digest.update(path.read_bytes())


def _install(
    place: Path,
    prefix: Path,
    text: str,
    directory: Path | None,
    deadline: float,
    progress: Progress | None,
) -> None:
    staging = Path(tempfile.mkdtemp(prefix=f".{place.name}-", dir=place.parent))
    # Relative lines are read from the folder of the file that holds them.
    beside = directory or staging
    file = beside / f".requirements-{secrets.token_hex(8)}.txt"
    python = ["--python", str(prefix / "bin" / "python")]
    try:
        file.write_text(text)
        lines = run(
            ["pip", "install", "--dry-run", *WHEELS, *python, "-r", str(file)],
            directory=beside,
            timeout_seconds=_left(deadline),
        )
        added, replaces = _changes(lines)
        if added:
            run(
                [
                    "pip",
                    "install",
                    "--no-deps",
                    *WHEELS,
                    *python,
                    "--target",
                    str(staging),
                    "--",
                    *added,
                ],
                directory=beside,
                timeout_seconds=_left(deadline),
                progress=progress,
            )
        document = {"packages": sorted(added), "replaces": sorted(replaces)}
        (staging / MARKER).write_text(json.dumps(document))
        staging.chmod(0o755)
        staging.rename(place)
    finally:
        file.unlink(missing_ok=True)
        shutil.rmtree(staging, ignore_errors=True)


def _changes(lines: list[str]) -> tuple[list[str], set[str]]:
    """What uv would install, as exact requirements, and what of the environment it replaces."""
    added: list[str] = []
    removed: set[str] = set()
    for line in lines:
        match = _CHANGE.match(line)
        if match is None:
            continue
        if match[1] in "-~":
            removed.add(match[2])
        if match[1] in "+~":
            added.append(match[2] + match[3].partition(" (from ")[0])
    return added, removed


def _left(deadline: float) -> float:
    left = deadline - time.monotonic()
    if left <= 0:
        raise EnvironmentFailed("Installing the requirements took too long.")
    return left
