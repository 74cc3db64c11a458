"""Building environments: once, whole or not at all, and with the reason where it fails."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from dataclasses import replace
from pathlib import Path

import pytest

from clary.images import build
from clary.images.environment import Environment
from clary.images.uv import EnvironmentFailed, without_passwords
from clary.settings import Settings

PYTHON = f"{sys.version_info.major}.{sys.version_info.minor}"
EMPTY = Environment(python=PYTHON, imports=("json",))
SIX = Environment(python=PYTHON, packages=("six==1.16.0",), imports=("six",))


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings(home=tmp_path / "home", cache=tmp_path / "cache")


def left_in(settings: Settings) -> list[str]:
    return sorted(p.name for p in build.folder(settings).iterdir() if not p.name.endswith(".lock"))


def test_an_environment_has_its_packages_and_is_found_again(settings):
    lines: list[str] = []
    place = build.build(SIX, settings, lines.append)
    version = subprocess.run(
        [str(place / "bin" / "python"), "-c", "import six; print(six.__version__)"],
        capture_output=True,
        check=True,
    )
    assert version.stdout == b"1.16.0\n" and any("six==1.16.0" in line for line in lines)
    marker = (place / build.MARKER).stat().st_mtime_ns
    assert build.build(SIX, settings) == place
    assert (place / build.MARKER).stat().st_mtime_ns == marker
    assert left_in(settings) == [SIX.key]


def test_byte_code_of_the_imports_is_written_since_jobs_cannot(settings):
    place = build.build(SIX, settings)
    assert list(place.glob("lib/python*/site-packages/__pycache__/six.*.pyc"))


def test_two_who_ask_at_once_get_one_environment(settings):
    places: list[Path] = []
    threads = [
        threading.Thread(target=lambda: places.append(build.build(EMPTY, settings)))
        for _ in range(3)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=120)
    assert len(places) == 3 and len(set(places)) == 1
    assert left_in(settings) == [EMPTY.key]


def test_a_half_built_environment_is_built_anew(settings):
    place = build.prefix(EMPTY, settings)
    (place / "bin").mkdir(parents=True)
    (place.parent / f".{place.name}-left").mkdir()
    assert not build.is_built(EMPTY, settings)
    build.build(EMPTY, settings)
    assert build.is_built(EMPTY, settings) and left_in(settings) == [EMPTY.key]


def test_a_package_that_does_not_exist_fails_with_uvs_words(settings):
    wrong = replace(SIX, packages=("six==0.0.0.1",))
    with pytest.raises(EnvironmentFailed) as caught:
        build.build(wrong, settings)
    assert "six==0.0.0.1" in str(caught.value) and "try again" in str(caught.value)
    assert left_in(settings) == []


def test_an_environment_that_cannot_import_is_not_kept(settings):
    with pytest.raises(EnvironmentFailed, match="No module named 'nothing_like_it'"):
        build.build(replace(EMPTY, imports=("nothing_like_it",)), settings)
    assert left_in(settings) == []


def test_a_build_that_takes_too_long_is_ended(settings):
    with pytest.raises(EnvironmentFailed, match="took"):
        build.build(EMPTY, settings, timeout_seconds=0.01)
    assert left_in(settings) == []


def test_environments_are_listed_and_removed(settings):
    place = build.build(EMPTY, settings)
    (found,) = build.list_environments(settings)
    assert (found.key, found.prefix, found.environment) == (EMPTY.key, place, EMPTY)
    assert found.size_bytes > 0 and found.build_seconds > 0
    assert not build.remove("../home", settings)
    assert build.remove(EMPTY.key, settings) and build.list_environments(settings) == []
    assert not build.remove(EMPTY.key, settings)


def test_the_interpreter_of_an_environment_is_mounted_with_it(settings):
    place = build.build(EMPTY, settings)
    mounts = build.mounts(place)
    real = Path(os.path.realpath(place / "bin" / "python"))
    assert mounts[0] == place and any(real.is_relative_to(mount) for mount in mounts[1:])


def test_an_existing_environment_is_taken_as_it_is(settings):
    place = build.build(EMPTY, settings)
    mine = Environment(python=PYTHON, existing=place)
    assert build.build(mine, settings) == place and build.is_built(mine, settings)
    gone = Environment(python=PYTHON, existing=settings.home / "gone")
    with pytest.raises(EnvironmentFailed, match="no bin/python"):
        build.build(gone, settings)


def test_the_key_depends_on_what_is_installed_and_not_on_its_order():
    two = replace(SIX, packages=("a", "b"))
    assert two.key == replace(SIX, packages=("b", "a")).key != SIX.key
    assert json.dumps(two.key)  # a plain text


def test_passwords_are_left_out_of_messages():
    assert without_passwords("from https://me:secret@host/x") == "from https://host/x"
