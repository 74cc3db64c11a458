"""Requirements: only what is missing, beside the environment, and once for the same text."""

from __future__ import annotations

import os
import shutil
import zipfile
from pathlib import Path

import pytest

from clary.workloads.toolkit import requirements
from clary.workloads.toolkit.failures import CommandFailed, error_message

UV = Path(requirements.sys.executable).with_name("uv")
pytestmark = pytest.mark.skipif(not UV.exists(), reason="uv is not in this environment")


@pytest.fixture
def environ(tmp_path: Path) -> dict[str, str]:
    """Two wheels in a folder, and no index."""
    shelf = tmp_path / "shelf"
    shelf.mkdir()
    wheel(shelf, "clary_tiny", "1.0", "VALUE = 'tiny'")
    wheel(shelf, "clary_needy", "2.0", "import clary_tiny", "Requires-Dist: clary_tiny\n")
    return {
        "PATH": os.environ["PATH"],
        "HOME": str(tmp_path),
        "CLARY_UV": str(UV),
        "PIP_FIND_LINKS": str(shelf),
        "PIP_NO_INDEX": "1",
        "UV_CACHE_DIR": str(tmp_path / "uv"),
        "CLARY_REQUIREMENTS_DIR": str(tmp_path / "packages"),
    }


def wheel(shelf: Path, name: str, version: str, text: str, more: str = "") -> None:
    info = f"{name}-{version}.dist-info"
    with zipfile.ZipFile(shelf / f"{name}-{version}-py3-none-any.whl", "w") as out:
        out.writestr(f"{name}.py", text)
        out.writestr(
            f"{info}/METADATA", f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n{more}"
        )
        out.writestr(
            f"{info}/WHEEL",
            "Wheel-Version: 1.0\nGenerator: x\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
        )
        out.writestr(f"{info}/RECORD", "")


def write(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "requirements.txt"
    path.write_text(text)
    return path


def test_what_is_missing_is_installed_with_what_it_requires(
    tmp_path: Path, environ: dict[str, str]
) -> None:
    found = requirements.install_file(write(tmp_path, "clary_needy\n"), environ)
    assert found == [tmp_path / "packages"]
    assert (found[0] / "clary_needy.py").is_file()
    assert (found[0] / "clary_tiny.py").is_file()


def test_what_the_environment_has_is_not_installed_again(
    tmp_path: Path, environ: dict[str, str]
) -> None:
    assert requirements.install_file(write(tmp_path, "pytest\n"), environ) == []
    assert requirements.install_file(write(tmp_path, "# nothing\n\n"), environ) == []


def test_the_same_text_is_installed_once(tmp_path: Path, environ: dict[str, str]) -> None:
    environ["CLARY_PACKAGES_CACHE"] = str(tmp_path / "cache")
    file = write(tmp_path, "clary_tiny==1.0\n")
    first = requirements.install_file(file, environ)
    shutil.rmtree(tmp_path / "shelf")
    assert requirements.install_file(file, environ) == first
    assert (first[0] / "clary_tiny.py").is_file()
    assert [path.name for path in (tmp_path / "cache").iterdir()] == [first[0].parent.name]


def test_files_that_name_further_files_are_not_remembered(
    tmp_path: Path, environ: dict[str, str]
) -> None:
    environ["CLARY_PACKAGES_CACHE"] = str(tmp_path / "cache")
    (tmp_path / "more.txt").write_text("clary_tiny\n")
    found = requirements.install_file(write(tmp_path, "-r more.txt\n"), environ)
    assert found == [tmp_path / "packages"]
    assert not (tmp_path / "cache").exists()


def test_a_package_that_nobody_has_fails_with_the_installers_words(
    tmp_path: Path, environ: dict[str, str]
) -> None:
    environ["CLARY_PACKAGES_CACHE"] = str(tmp_path / "cache")
    with pytest.raises(CommandFailed) as caught:
        requirements.install_file(write(tmp_path, "clary_absent\n"), environ)
    assert str(caught.value).startswith("InstallRequirementsError:\nExitCode ")
    assert "clary" in str(caught.value)
    assert list((tmp_path / "cache").iterdir()) == []


def test_a_script_imports_what_it_required(job, environ: dict[str, str], tmp_path: Path) -> None:
    code = job.source(
        train__py="import clary_tiny\nprint(clary_tiny.VALUE)", requirements__txt="clary_tiny\n"
    )
    job.configure({"sagemaker_program": "train.py", "sagemaker_submit_directory": code})
    status, out, err = job.train(**environ)
    assert status == 0, err
    assert "tiny" in out


def test_the_error_comes_first_and_the_text_stays_short() -> None:
    frames = "".join(f'  File "deep.py", line {n}, in f{n}\n    f{n + 1}()\n' for n in range(200))
    text = error_message(f"noise\nTraceback (most recent call last):\n{frames}KeyError: 'x'\n")
    assert text.startswith("KeyError: 'x'\n  File \"deep.py\", line 199")
    assert len(text) <= 700
    assert error_message("only\nwords\n") == "only\nwords"
    assert error_message("") == ""
