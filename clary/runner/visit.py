"""A command in the sandbox of a program that runs: its namespaces, its limits, its folder, its environment."""

# Paths are plain strings here: they come from and go to system calls.
# ruff: noqa: PTH110

from __future__ import annotations

import contextlib
import json
import os
import signal
import sys
from collections.abc import Mapping, Sequence
from typing import Any, NoReturn

from clary.runner import host, init, limits, locks, namespaces, network, recipe
from clary.runner.spec import HostSpec
from clary.runner.starting import be_killed_first, execute

SHELLS = ("/bin/bash", "/usr/bin/bash", "/bin/sh")
_KEPT = ("TERM", "COLORTERM", "LINES", "COLUMNS")  # of the caller's terminal


class NothingToVisit(Exception):
    """The host has no program now."""


def run(spec: HostSpec, sandbox: Mapping[str, Any], argv: Sequence[str]) -> int:
    """Run a command, or a shell, beside the program of a host; its exit code, 128 + N for signal N.

    It has the streams of this process, may do what the program may, and ends with this process.
    """
    plain = sandbox.get("mode") == "plain"
    spaces = _spaces(spec, plain=plain)
    own_network = bool(sandbox.get("own_network", True)) and not plain
    environment = recipe.environment(spec, plain, network.of(spec, own_network=own_network))
    environment.update({name: os.environ[name] for name in _KEPT if name in os.environ})
    directory = recipe.working_directory(spec, plain=plain)
    entrances = limits.find_group(host.group_name(spec.directory)).entrances()
    groups = [os.open(path, os.O_WRONLY | os.O_CLOEXEC) for path in entrances]
    sys.stdout.flush()
    sys.stderr.flush()
    # The terminal's signals are the command's to judge; this process waits for it whatever comes.
    numbers = (signal.SIGINT, signal.SIGQUIT)
    before = {number: signal.signal(number, signal.SIG_IGN) for number in numbers}
    try:
        process = os.fork()
        if process == 0:
            _visit(spaces, groups, directory, environment, list(argv))
        _, status = os.waitpid(process, 0)
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
        init.close_all(*spaces.values(), *groups)
    return os.WEXITSTATUS(status) if os.WIFEXITED(status) else 128 + os.WTERMSIG(status)


def _spaces(spec: HostSpec, *, plain: bool) -> dict[str, int]:
    """The namespaces of the host's program, opened while it is certain that they are its own."""
    try:
        state = json.loads((spec.directory / "state.json").read_bytes())
        process = int(state["program_pid"])
        spaces = {} if plain or not process else init.open_namespaces(process, init.namespaces_of())
    except (FileNotFoundError, ProcessLookupError):
        process, spaces = 0, {}
    # The program's lock goes with its program, so a number that was reused since is found out.
    if not process or not locks.is_held(str(spec.directory / "program.lock")):
        init.close_all(*spaces.values())
        raise NothingToVisit(f"host {spec.host} runs no program at this moment")
    return spaces


def _visit(
    spaces: dict[str, int],
    groups: list[int],
    directory: str,
    environment: dict[str, str],
    argv: list[str],
) -> NoReturn:
    try:
        namespaces.die_with_parent()
        init.join(spaces, init.KINDS)
        process = os.fork()  # process numbers are those of the sandbox from here on
        if process == 0:
            namespaces.die_with_parent()
            for group in groups:
                os.write(group, b"0")
            be_killed_first()
            for number in (signal.SIGINT, signal.SIGQUIT, signal.SIGPIPE):
                signal.signal(number, signal.SIG_DFL)
            os.chdir(directory)
            namespaces.drop_privileges()
            execute(argv or [_shell()], environment)
        _, status = os.waitpid(process, 0)
        if os.WIFSIGNALED(status):
            os._exit(128 + os.WTERMSIG(status))
        os._exit(os.WEXITSTATUS(status))
    except BaseException as problem:  # noqa: BLE001  (a forked child must end here)
        with contextlib.suppress(OSError):
            os.write(2, f"the sandbox cannot be entered: {problem}\n".encode(errors="replace"))
    os._exit(125)


def _shell() -> str:
    return next((path for path in SHELLS if os.path.exists(path)), "sh")
