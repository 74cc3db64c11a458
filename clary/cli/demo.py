"""`clary demo`: runs the quickstart example, the shortest way from nothing to a prediction."""

from __future__ import annotations

import argparse
import importlib.util
import sys
from pathlib import Path

import clary
from clary.cli.installation import Installation
from clary.cli.output import Problem, next_step, note
from clary.cli.run import installation_for_command, run_with
from clary.images import build, catalogue

IMAGE = "sagemaker-scikit-learn:1.2-1-cpu-py3"
EXAMPLE = Path("examples") / "quickstart.py"


def arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--show", action="store_true", help="print the program instead")


def run(options: argparse.Namespace) -> int:
    program = find_example()
    if options.show:
        sys.stdout.write(program.read_text())
        return 0
    with installation_for_command() as installation:
        python = python_with_data(installation)
        note(f"Running {program}")
        code = run_with(installation, [python, str(program)], admin=False)
    if code == 0:
        next_step("clary demo --show > quickstart.py, and make it yours")
    return code


def python_with_data(installation: Installation) -> str:
    """A Python that has boto3 and scikit-learn, whose data the example uses: the image's own serves."""
    if importlib.util.find_spec("sklearn") is not None:
        return sys.executable
    environment = catalogue.resolve(IMAGE, installation.settings).environment
    if not build.is_built(environment, installation.settings):
        note(f"Preparing the environment of {IMAGE}, once (a minute or so)")
        build.build(environment, installation.settings)
    return str(build.prefix(environment, installation.settings) / "bin" / "python")


def find_example() -> Path:
    """Beside the package in a checkout, inside it in an installed wheel."""
    package = Path(clary.__file__).parent
    for place in (package.parent / EXAMPLE, package / EXAMPLE):
        if place.is_file():
            return place
    raise Problem(f"This installation ships no {EXAMPLE}.", "Install Clary again.")
