"""`clary down`: stop the server of this home."""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path

from clary.cli.installation import Installation, installed
from clary.cli.output import emit_json, next_step, say
from clary.cli.processes import stop
from clary.cli.running_work import running_hosts


def arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--home", type=Path, help="the folder of all state (CLARY_HOME)")
    parser.add_argument("--json", action="store_true", help="print a JSON document")


def run(options: argparse.Namespace) -> int:
    installation = installed()
    if options.home:
        home = options.home.expanduser().absolute()
        installation = Installation(replace(installation.settings, home=home))
    stopped = stop(installation)
    left = sorted({one.work for one in running_hosts(installation.home)})
    if options.json:
        emit_json({"stopped": stopped, "home": str(installation.home), "running": left})
        return 0
    if not stopped:
        say(f"Clary was not running for {installation.home}.")
    else:
        say(f"Clary is down. Its state stays in {installation.home}.")
    if left:
        say("Jobs and endpoints run on without it, and are there again when it is up:")
        for work in left:
            say(f"  {work}")
    if stopped or left:
        next_step("clary up")
    return 0
