"""`clary run -- command`: one command with the client environment, on a server of its own if none is up."""

from __future__ import annotations

import argparse
import contextlib
import os
import signal
import subprocess
from collections.abc import Iterator, Sequence

from clary.cli.client_environment import applied, client_environment
from clary.cli.env import client_keys
from clary.cli.ephemeral import ephemeral_installation
from clary.cli.installation import Installation, installed
from clary.cli.output import Problem, note


def arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--admin", action="store_true", help="use the administrator's key")
    parser.add_argument(
        "--fresh", action="store_true", help="use a server of its own even if one is up"
    )
    parser.add_argument("command", nargs="+", help="the command and its arguments, after --")


def run(options: argparse.Namespace) -> int:
    with installation_for_command(fresh=options.fresh) as installation:
        return run_with(installation, options.command, admin=options.admin)


@contextlib.contextmanager
def installation_for_command(*, fresh: bool = False) -> Iterator[Installation]:
    """The running server, else one that lives as long as the context."""
    installation = installed()
    if not fresh and installation.health()[0] == 200:
        yield installation
        return
    note("Starting a server for this command; it is removed afterwards.")
    with ephemeral_installation(os.environ) as temporary:
        yield temporary


def run_with(installation: Installation, command: Sequence[str], *, admin: bool) -> int:
    """Run a command against an installation; its exit code, 128 + N if signal N ended it."""
    keys = client_keys(installation, admin=admin)
    environment = applied(client_environment(installation, keys, os.environ), os.environ)
    # Ctrl-C reaches the command as well, since it is in our process group: it decides, we wait.
    # A handler, unlike SIG_IGN, is not inherited by the command.
    child: subprocess.Popen[bytes] | None = None

    def pass_on(number: int, _: object) -> None:
        if child is not None and number != signal.SIGINT:
            child.send_signal(number)

    numbers = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
    handlers = {number: signal.signal(number, pass_on) for number in numbers}
    try:
        child = subprocess.Popen(list(command), env=environment)
        code = child.wait()
    except (FileNotFoundError, PermissionError) as problem:
        raise Problem(
            f"{command[0]} cannot be run: {problem.strerror}.", "Check its name and its mode."
        ) from None
    finally:
        for number, handler in handlers.items():
            signal.signal(number, handler)
    return code if code >= 0 else 128 - code
