"""Which command lines may run in a warm fork, and which need a fresh interpreter."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

from clary.runner.python_program import Invocation, invocation

PYTHON = os.path.join(sys.prefix, "bin", "python")  # noqa: PTH118


@pytest.mark.parametrize(
    ("argv", "kind", "what", "arguments"),
    [
        (["python", "train.py", "-x", "1"], "script", "train.py", ["-x", "1"]),
        (["python", "-m", "package.train", "--a"], "module", "package.train", ["--a"]),
        (["python", "-u", "-c", "pass"], "code", "pass", []),
        ([PYTHON, "train.py"], "script", "train.py", []),
    ],
)
def test_a_python_command_line_is_understood(
    argv: list[str], kind: str, what: str, arguments: list[str]
) -> None:
    assert invocation(argv, {}) == Invocation(kind, what, arguments, "-u" in argv, PYTHON)


@pytest.mark.parametrize(
    "argv",
    [
        ["python"],
        ["python", "-O", "train.py"],
        ["python", "-X", "dev", "train.py"],
        ["python", "-"],
        ["/usr/local/bin/python", "train.py"],
        ["python2", "train.py"],
        ["sh", "-c", "python train.py"],
        ["../../bin/python", "train.py"],
    ],
)
def test_other_command_lines_need_a_fresh_interpreter(argv: list[str]) -> None:
    assert invocation(argv, {}) is None


@pytest.mark.parametrize(
    "environment",
    [
        {"PYTHONHASHSEED": "0"},
        {"PYTHONOPTIMIZE": "1"},
        {"PYTHONIOENCODING": "latin-1"},
        {"LD_PRELOAD": "libjemalloc.so"},
    ],
)
def test_a_setting_that_is_read_at_start_needs_a_fresh_interpreter(
    environment: dict[str, str],
) -> None:
    assert invocation(["python", "train.py"], environment) is None


def test_an_entry_point_of_the_environment_is_a_script_of_its_python(tmp_path: Path) -> None:
    own = tmp_path / "bin"
    own.mkdir()
    (own / "python").touch()
    (own / "train").write_text(f"#!{own}/python\nprint(1)\n")
    (own / "other").write_text("#!/bin/sh\n")
    found = invocation(["train", "--x"], {"PYTHONUNBUFFERED": "1"}, str(tmp_path))
    assert found == Invocation("script", str(own / "train"), ["--x"], True, str(own / "python"))
    assert invocation(["other"], {}, str(tmp_path)) is None
    assert invocation(["missing"], {}, str(tmp_path)) is None
