"""`clary exec NAME [-- command]`: a shell, or a command, inside the sandbox of a running job or endpoint."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from clary.cli.installation import installed
from clary.cli.output import Problem, note
from clary.runner import locks, spec, visit

SEE_WHAT_RUNS = "See what runs: clary status"


@dataclass(frozen=True, slots=True)
class RunningHost:
    work: str  # an ARN
    generation: int
    host: str
    document: dict[str, Any]


def arguments(parser: argparse.ArgumentParser) -> None:
    parser.usage = f"{parser.prog} [--host HOST] NAME [-- COMMAND ...]"
    _host(parser)
    parser.add_argument("name", help="the job or endpoint, by its name or its ARN")
    parser.add_argument(
        "command",
        nargs=argparse.REMAINDER,
        help="the command, after --; a shell if there is none",
    )


def _host(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--host", default=argparse.SUPPRESS, help="one of its hosts: algo-2")


def run(options: argparse.Namespace) -> int:
    """The exit code is the command's."""
    if not sys.platform.startswith("linux"):
        raise Problem("A sandbox can be entered on Linux only.", "Run the command outside of it.")
    host, command = _host_and_command(options)
    home = installed().home
    found = chosen(list(running_hosts(home, options.name)), options.name, host)
    if not command and sys.stdin.isatty():
        note(f"A shell on host {found.host} of {found.work}; leave it with exit.")
    try:
        return visit.run(spec.parse(found.document), found.document.get("sandbox") or {}, command)
    except visit.NothingToVisit as problem:
        raise Problem(
            f"{problem}.", f"Try again in a moment, or: clary logs {options.name}"
        ) from None
    except OSError as problem:
        raise Problem(
            f"The sandbox of host {found.host} cannot be entered: {problem}.",
            "Run the command as the user who runs Clary.",
        ) from problem


def _host_and_command(options: argparse.Namespace) -> tuple[str, list[str]]:
    """argparse takes all that follows the name as the command: --host may come there as well."""
    host, command = getattr(options, "host", ""), list(options.command)
    if command[:1] == ["--host"] and len(command) > 1:
        host, command = command[1], command[2:]
    elif command and command[0].startswith("--host="):
        host, command = command[0].removeprefix("--host="), command[1:]
    return host, command[1:] if command[:1] == ["--"] else command


def running_hosts(home: Path, name: str) -> Iterator[RunningHost]:
    """The hosts of this name that have a runner, in whatever order their folders are found."""
    for lock in (home / "work").glob("*/g*/*/runner.lock"):
        if not locks.is_held(str(lock)):
            continue
        try:
            document = json.loads((lock.parent / "spec.json").read_bytes())
        except FileNotFoundError:
            continue  # it has just been removed
        work = str(document["work"])
        if name in (work, work.partition("/")[2]):
            yield RunningHost(work, int(document["generation"]), str(document["host"]), document)


def chosen(found: list[RunningHost], name: str, host: str) -> RunningHost:
    """The host that is asked for, else the first of all; of two launches the later one."""
    if not found:
        raise Problem(f"Nothing of the name {name} runs here.", SEE_WHAT_RUNS)
    works = sorted({one.work for one in found})
    if len(works) > 1:
        raise Problem(
            f"{name} is the name of {' and of '.join(works)}.", "Give the ARN instead of the name."
        )
    named = [one for one in found if host in ("", one.host)]
    if not named:
        hosts = ", ".join(sorted({one.host for one in found}))
        raise Problem(f"{name} has no running host {host}.", f"Name one of its hosts: {hosts}")
    first = min(named, key=lambda one: (len(one.host), one.host)).host
    return max((one for one in named if one.host == first), key=lambda one: one.generation)
