"""The requirements of a job, laid over an environment that stays as it is."""

from __future__ import annotations

import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from clary.images import build
from clary.images.environment import Environment
from clary.images.requirements import NeedsSandbox, requirements_environment
from clary.images.uv import EnvironmentFailed
from clary.settings import Settings

PYTHON = f"{sys.version_info.major}.{sys.version_info.minor}"


@pytest.fixture(scope="module")
def settings(tmp_path_factory: pytest.TempPathFactory) -> Settings:
    folder = tmp_path_factory.mktemp("requirements")
    return Settings(home=folder / "home", cache=folder / "cache")


@pytest.fixture(scope="module")
def prefix(settings: Settings) -> Path:
    environment = Environment(python=PYTHON, packages=("six==1.16.0",), imports=("six",))
    return build.build(environment, settings)


def test_only_what_the_environment_lacks_is_installed(settings, prefix):
    found = requirements_environment(prefix, "six\nidna==3.10\n", settings)
    assert found.packages == ("idna==3.10",) and found.replaces == ()
    assert (found.path / "idna").is_dir() and not (found.path / "six.py").exists()
    code = "import idna, six; print(idna.__version__, six.__version__)"
    outcome = subprocess.run(
        [str(prefix / "bin" / "python"), "-c", code],
        env={"PYTHONPATH": str(found.path)},
        capture_output=True,
        check=True,
    )
    assert outcome.stdout == b"3.10 1.16.0\n"


def test_another_version_replaces_that_of_the_environment_for_this_job_only(settings, prefix):
    found = requirements_environment(prefix, "six==1.17.0", settings)
    assert found.packages == ("six==1.17.0",) and found.replaces == ("six",)
    assert list(prefix.glob("lib/python*/site-packages/six-1.16.0.dist-info"))


def test_the_same_requirements_are_installed_once(settings, prefix):
    first = requirements_environment(prefix, "idna==3.10", settings)
    lines: list[str] = []
    again = requirements_environment(prefix, "idna==3.10", settings, progress=lines.append)
    assert again == first and lines == []


def test_a_wheel_beside_the_file_is_installed_and_its_content_counts(settings, prefix, tmp_path):
    for version in ("1", "2"):
        with zipfile.ZipFile(tmp_path / "mine-1.0-py3-none-any.whl", "w") as wheel:
            wheel.writestr("mine.py", f"VERSION = {version}\n")
            wheel.writestr(
                "mine-1.0.dist-info/METADATA", "Metadata-Version: 2.1\nName: mine\nVersion: 1.0\n"
            )
            wheel.writestr(
                "mine-1.0.dist-info/WHEEL",
                "Wheel-Version: 1.0\nGenerator: t\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
            )
            wheel.writestr("mine-1.0.dist-info/RECORD", "")
        found = requirements_environment(
            prefix, "./mine-1.0-py3-none-any.whl\n", settings, directory=tmp_path
        )
        assert (found.path / "mine.py").read_text() == f"VERSION = {version}\n"
    assert [path.name for path in tmp_path.iterdir()] == ["mine-1.0-py3-none-any.whl"]


@pytest.mark.parametrize(
    "line",
    [
        "-r /etc/passwd",
        "--requirement=other.txt",
        "-e .",
        "/etc/thing.whl",
        "../out.whl",
        "x @ file:///etc/x.whl",
        "git+https://example.com/x",
        "--find-links /",
    ],
)
def test_what_would_run_or_read_outside_the_sandbox_is_refused(settings, prefix, line):
    with pytest.raises(NeedsSandbox, match="The job itself has to install"):
        requirements_environment(prefix, f"six\n{line}\n", settings)


def test_a_failure_has_uvs_words_and_leaves_nothing(settings, prefix):
    with pytest.raises(EnvironmentFailed, match=r"six==0\.0\.0\.1"):
        requirements_environment(prefix, "six==0.0.0.1", settings)
    assert not list((settings.cache / "requirements").glob(".*"))
