"""The parser of `clary` and the way to one command; a command's module is imported only to run it."""

from __future__ import annotations

import argparse
import importlib
import os
import sys
from collections.abc import Sequence

from clary import __version__
from clary.cli.commands import COMMANDS, Command
from clary.cli.output import Problem, report


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; the exit code is 0, 1 for a problem, 2 for wrong usage, or the command's own."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    chosen = next((command for command in COMMANDS if words and command.name == words[0]), None)
    if chosen is None:
        _overview().parse_args(words or ["--help"])
        return 0
    module = importlib.import_module(chosen.module)
    parser = _parser(chosen)
    module.arguments(parser)
    try:
        return module.run(parser.parse_args(words[1:]))
    except Problem as problem:
        report(problem)
        return 1
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:
        # The reader of a pipe left; Python must not complain about it once more at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 141


def _overview() -> argparse.ArgumentParser:
    width = max(len(command.name) for command in COMMANDS)
    lines = [f"  {command.name:<{width}}  {command.summary}" for command in COMMANDS]
    parser = argparse.ArgumentParser(
        prog="clary",
        usage="clary COMMAND [options]",
        description="The Amazon SageMaker API on your own machines.",
        epilog="commands:\n"
        + "\n".join(lines)
        + '\n\nexample:\n  clary up && eval "$(clary env)" && python train.py'
        + "\n\n`clary COMMAND --help` tells more about each.",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"clary {__version__}")
    parser.add_argument(
        "command",
        nargs="?",
        choices=[command.name for command in COMMANDS],
        help=argparse.SUPPRESS,
        metavar="COMMAND",
    )
    return parser


def _parser(command: Command) -> argparse.ArgumentParser:
    return argparse.ArgumentParser(
        prog=f"clary {command.name}",
        description=command.summary,
        epilog=f"example:\n  {command.example}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
