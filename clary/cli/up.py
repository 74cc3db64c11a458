"""`clary up`: start the server of this home and wait until it answers."""

from __future__ import annotations

import argparse
import os
from dataclasses import replace
from pathlib import Path

from clary.cli.installation import Installation, installed
from clary.cli.output import emit_json, next_step, say
from clary.cli.processes import (
    check_before_start,
    command_of,
    environment_of,
    start,
    stop,
    wait_until_ready,
)


def arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--port", type=int, help="the port to listen on (CLARY_PORT, else 4510)")
    parser.add_argument("--host", help="the address to listen on (CLARY_HOST, else 127.0.0.1)")
    parser.add_argument("--home", type=Path, help="the folder of all state (CLARY_HOME)")
    parser.add_argument("--foreground", action="store_true", help="stay, and log to the terminal")
    parser.add_argument("--json", action="store_true", help="print a JSON document")


def run(options: argparse.Namespace) -> int:
    settings = installed().settings
    changes = {"port": options.port, "host": options.host}
    changes["home"] = options.home.expanduser().absolute() if options.home else None
    settings = replace(settings, **{key: value for key, value in changes.items() if value})
    installation = Installation(settings)
    if installation.supervisor_pid:
        _tell(installation, options, "is running already")
        return 0
    check_before_start(settings)
    if options.foreground:
        settings.home.mkdir(parents=True, exist_ok=True, mode=0o700)
        command = command_of(settings, "--foreground")
        os.execve(command[0], command, environment_of(settings, os.environ))
    supervisor = start(installation)
    try:
        wait_until_ready(installation, supervisor)
    except BaseException:
        stop(installation)
        raise
    _tell(installation, options, "is up")
    return 0


def _tell(installation: Installation, options: argparse.Namespace, words: str) -> None:
    pid = installation.supervisor_pid
    if options.json:
        emit_json({"url": installation.url, "home": str(installation.home), "pid": pid})
        return
    say(f"Clary {words} at {installation.url} (home {installation.home}, process {pid}).")
    next_step('eval "$(clary env)"')
