"""`clary demo`: runs the quickstart example, the shortest way from nothing to a prediction."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import clary
from clary.cli.output import Problem, next_step, note
from clary.cli.run import installation_for_command, run_with

EXAMPLE = Path("examples") / "quickstart.py"


def arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--show", action="store_true", help="print the program instead")


def run(options: argparse.Namespace) -> int:
    program = find_example()
    if options.show:
        sys.stdout.write(program.read_text())
        return 0
    note(f"Running {program}")
    with installation_for_command() as installation:
        code = run_with(installation, [sys.executable, str(program)], admin=False)
    if code == 0:
        next_step("clary demo --show > quickstart.py, and make it yours")
    return code


def find_example() -> Path:
    """Beside the package in a checkout, inside it in an installed wheel."""
    package = Path(clary.__file__).parent
    for place in (package.parent / EXAMPLE, package / EXAMPLE):
        if place.is_file():
            return place
    raise Problem(f"This installation ships no {EXAMPLE}.", "Install Clary again.")
