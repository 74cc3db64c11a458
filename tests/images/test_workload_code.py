"""The staged workload code: named by its content, importable by itself."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from clary.images import workload_code
from clary.settings import Settings


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings(home=tmp_path / "home", cache=tmp_path / "cache")


def test_the_folder_is_made_once_and_holds_only_what_runs_in_jobs(settings):
    place = workload_code.staged(settings)
    assert workload_code.staged(settings) == place
    names = {path.name for path in (place / "clary").iterdir()}
    assert names == {"__init__.py", "workloads", "runner"}
    assert not list(place.rglob("__pycache__"))
    assert list(place.parent.iterdir()) == [place]


def test_the_code_runs_from_there_alone(settings):
    place = workload_code.staged(settings)
    code = "import clary.workloads.algorithms.xgboost as x; print(x.__file__)"
    outcome = subprocess.run(
        [sys.executable, "-c", code],
        cwd=place.parent,
        env={"PYTHONPATH": str(place), "PYTHONDONTWRITEBYTECODE": "1"},
        capture_output=True,
        text=True,
        check=True,
    )
    assert outcome.stdout.startswith(str(place))


def test_byte_code_is_written_once_for_each_python(settings):
    place = workload_code.staged(settings)
    workload_code.compiled(place, Path(sys.prefix))
    written = {path: path.stat().st_mtime_ns for path in place.rglob("*.pyc")}
    assert len(written) > 10
    workload_code.compiled(place, Path(sys.prefix))
    assert {path: path.stat().st_mtime_ns for path in place.rglob("*.pyc")} == written


def test_other_code_has_another_folder(settings, tmp_path, monkeypatch):
    package = tmp_path / "package"
    for name in ("workloads", "runner"):
        (package / name).mkdir(parents=True)
    (package / "__init__.py").touch()
    (package / "workloads" / "a.py").write_text("A = 1\n")
    monkeypatch.setattr(workload_code.clary, "__file__", str(package / "__init__.py"))
    first = workload_code.staged(settings)
    (package / "workloads" / "a.py").write_text("A = 2\n")
    second = workload_code.staged(settings)
    assert first != second
    assert (first / "clary" / "workloads" / "a.py").read_text() == "A = 1\n"
