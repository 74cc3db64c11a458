"""`clary env`: the variables that point AWS clients here, ready to be evaluated by a shell."""

from __future__ import annotations

import argparse
import os
import sys

from clary.cli.client_environment import client_environment, in_shell, shell_of
from clary.cli.installation import Installation, Keys, installed
from clary.cli.output import emit_json, next_step, say
from clary.cli.signed_calls import role_session


def arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--json", action="store_true", help="print a JSON document")
    parser.add_argument(
        "--admin",
        action="store_true",
        help="use the administrator's key instead of a 12-hour session of ClaryExecutionRole",
    )
    parser.add_argument(
        "--shell", choices=("bash", "fish", "powershell"), help="whose syntax to print (from SHELL)"
    )


def run(options: argparse.Namespace) -> int:
    installation = installed()
    installation.require_up()
    keys = client_keys(installation, admin=options.admin)
    variables = client_environment(installation, keys, os.environ)
    if options.json:
        emit_json({name: value for name, value in variables.items() if value})
        return 0
    for line in in_shell(variables, options.shell or shell_of(os.environ)):
        say(line)
    if sys.stdout.isatty():
        next_step('eval "$(clary env)"   (the lines above take effect when a shell evaluates them)')
    return 0


def client_keys(installation: Installation, *, admin: bool) -> Keys:
    return installation.administrator() if admin else role_session(installation)
