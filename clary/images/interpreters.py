"""The Python interpreters at hand on this machine, found without starting any of them."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

_EXECUTABLE = re.compile(r"python3\.(\d{1,2})")
_MINOR_MIN = 8  # the oldest Python on which the code inside a workload runs


@dataclass(frozen=True, slots=True)
class Interpreters:
    """Executables by version ("3.11"); `running` is the version of this process."""

    running: str
    executables: Mapping[str, Path]

    def has(self, version: str) -> bool:
        return version in self.executables

    def versions(self) -> list[str]:
        """All versions: the running one first, then the newest first."""
        rest = sorted(self.executables, key=version_key, reverse=True)
        return [self.running, *(version for version in rest if version != self.running)]


def version_key(version: str) -> tuple[int, ...]:
    """The numbers in a version, for comparing: "1.10" comes after "1.9"."""
    return tuple(int(number) for number in re.findall(r"\d+", version))


def find(environment: Mapping[str, str] | None = None) -> Interpreters:
    """Look in the search path and in the folders of pyenv, uv and the system."""
    environment = os.environ if environment is None else environment
    return _look_in(tuple((folder, _changed(folder)) for folder in _folders(environment)))


@lru_cache(maxsize=8)
def _look_in(folders: tuple[tuple[Path, int], ...]) -> Interpreters:
    """Every request that names an image asks; the folders' times say whether the answer is old."""
    running = f"{sys.version_info.major}.{sys.version_info.minor}"
    found: dict[str, Path] = {running: running_executable()}
    for folder, _ in folders:
        for path in _pythons(folder):
            found.setdefault(path.name.removeprefix("python"), path)
    return Interpreters(running, found)


def _changed(folder: Path) -> int:
    try:
        return folder.stat().st_mtime_ns
    except OSError:
        return 0


def running_executable() -> Path:
    """The interpreter of this process itself, not the virtual environment around it."""
    name = f"python{sys.version_info.major}.{sys.version_info.minor}"
    candidate = Path(sys.base_prefix) / "bin" / name
    return candidate if candidate.exists() else Path(sys.executable).resolve()


def _folders(environment: Mapping[str, str]) -> Iterable[Path]:
    home = Path(environment.get("HOME") or Path.home())
    pyenv = Path(environment.get("PYENV_ROOT") or home / ".pyenv")
    data = Path(environment.get("XDG_DATA_HOME") or home / ".local" / "share")
    uv = Path(environment.get("UV_PYTHON_INSTALL_DIR") or data / "uv" / "python")
    yield from (Path(entry) for entry in environment.get("PATH", "").split(os.pathsep) if entry)
    for root in (pyenv / "versions", uv, Path("/opt/python")):
        yield from sorted(root.glob("*/bin"), key=lambda path: version_key(str(path)), reverse=True)
    yield from (Path("/usr/local/bin"), Path("/usr/bin"))


def _pythons(folder: Path) -> Iterable[Path]:
    # pyenv's shims are scripts that fail for every version but the selected one; a virtual
    # environment's interpreter is only a link to one that is found elsewhere.
    if folder.name == "shims" or (folder.parent / "pyvenv.cfg").exists():
        return
    try:
        entries = sorted(folder.glob("python3.*"))
    except OSError:  # an unreadable entry of the search path
        return
    for path in entries:
        match = _EXECUTABLE.fullmatch(path.name)
        if match and int(match[1]) >= _MINOR_MIN and os.access(path, os.X_OK):
            yield path
