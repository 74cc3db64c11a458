"""The workload code: the part of Clary that runs inside a job, as a folder to be mounted there.

    <cache>/code/<hash>/clary/__init__.py, clary/workloads/**, clary/runner/**

The folder is on `PYTHONPATH` as `/opt/clary`. It is named by its content, so a job that runs while
Clary is upgraded keeps the code it began with.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import tempfile
from pathlib import Path

import clary
from clary.images.uv import EnvironmentFailed
from clary.settings import Settings

PACKAGES = ("workloads", "runner")
FILES_MAX = 2000
COMPILE_SECONDS_MAX = 120


def staged(settings: Settings, package: Path | None = None) -> Path:
    """The folder of the code as it is now, made if it is not there; `package` may be another machine's."""
    files = _files(package or Path(clary.__file__).parent)
    place = settings.cache / "code" / _hash(files)
    if place.is_dir():
        return place
    place.parent.mkdir(parents=True, exist_ok=True)
    staging = Path(tempfile.mkdtemp(prefix=".staging-", dir=place.parent))
    try:
        for name, path in files.items():
            target = staging / "clary" / name
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(path, target)
        staging.chmod(0o755)
        try:
            staging.rename(place)
        except OSError:
            # Another process was faster; its folder has the same content.
            if not place.is_dir():
                raise
    finally:
        shutil.rmtree(staging, ignore_errors=True)
    return place


def compiled(code: Path, prefix: Path) -> None:
    """Write the byte code of the staged folder for the Python of an environment, once each.

    Jobs see the folder read-only; without this each of them would compile it anew.
    """
    python = prefix / "bin" / "python"
    mark = code / f".compiled-{hashlib.sha256(os.fsencode(python.resolve())).hexdigest()[:12]}"
    if mark.exists():
        return
    outcome = subprocess.run(
        [str(python), "-I", "-m", "compileall", "-q", "--invalidation-mode", "unchecked-hash", "."],
        cwd=code,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=COMPILE_SECONDS_MAX,
        check=False,
    )
    if outcome.returncode:
        raise EnvironmentFailed(
            f"The workload code does not compile with {python}:\n{outcome.stdout[-2000:]}"
        )
    mark.touch()


def _files(package: Path) -> dict[str, Path]:
    """What is staged, by its path inside the package, in a fixed order."""
    found = {"__init__.py": package / "__init__.py"}
    for name in PACKAGES:
        for path in sorted((package / name).rglob("*")):
            if path.is_file() and "__pycache__" not in path.parts:
                found[path.relative_to(package).as_posix()] = path
    if len(found) > FILES_MAX:
        raise RuntimeError(f"{package} has {len(found)} files to stage, more than {FILES_MAX}.")
    return found


def _hash(files: dict[str, Path]) -> str:
    digest = hashlib.sha256()
    for name, path in files.items():
        content = path.read_bytes()
        digest.update(f"{name}\0{len(content)}\0".encode())
        digest.update(content)
    return digest.hexdigest()[:20]
