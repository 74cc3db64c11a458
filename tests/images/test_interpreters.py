"""Interpreters: found without being started."""

from __future__ import annotations

import sys
from pathlib import Path

from clary.images.interpreters import find

RUNNING = f"{sys.version_info.major}.{sys.version_info.minor}"


def python(folder: Path, version: str) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"python{version}"
    path.write_text("#!/bin/sh\n")
    path.chmod(0o755)
    return path


def test_the_running_interpreter_is_found_outside_its_virtual_environment():
    found = find({})
    assert found.running == RUNNING and found.versions()[0] == RUNNING
    assert found.executables[RUNNING].is_relative_to(sys.base_prefix)


def test_pyenv_uv_and_the_search_path_are_looked_at(tmp_path):
    first = python(tmp_path / "bin", "3.90")
    pyenv = python(tmp_path / ".pyenv" / "versions" / "3.91.0" / "bin", "3.91")
    uv = python(tmp_path / "uv" / "cpython-3.92" / "bin", "3.92")
    found = find(
        {
            "HOME": str(tmp_path),
            "PATH": str(tmp_path / "bin"),
            "UV_PYTHON_INSTALL_DIR": str(tmp_path / "uv"),
        }
    )
    assert [found.executables[one] for one in ("3.90", "3.91", "3.92")] == [first, pyenv, uv]


def test_shims_virtual_environments_and_old_pythons_are_passed_over(tmp_path):
    python(tmp_path / "shims", "3.90")
    python(tmp_path / "venv" / "bin", "3.91")
    (tmp_path / "venv" / "pyvenv.cfg").touch()
    python(tmp_path / "bin", "3.6")
    python(tmp_path / "bin", "3.93").chmod(0o644)
    path = ":".join(str(tmp_path / name) for name in ("shims", "venv/bin", "bin", "none"))
    found = find({"HOME": str(tmp_path), "PATH": path})
    assert not {"3.90", "3.91", "3.6", "3.93"} & set(found.executables)
