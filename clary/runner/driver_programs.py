"""What SDK v3's drivers expect of the machine that a job is on: sshd, ssh, and an /etc/environment to write to.

Programs cannot be added to a folder that is mounted read-only. So a folder of the host's own takes its
place, with links to what it hides:

    /usr/sbin/sshd, /usr/sbin/ssh   Clary's (see `clary.workloads.toolkit.secure_shell`)
    /usr/sbin/*       ─────────────▶ /run/sbin/*, where this machine's /usr/sbin is mounted
"""

# Paths are plain strings here: they come from and go to system calls.
# ruff: noqa: PTH208, PTH211

from __future__ import annotations

import os
import shlex
from pathlib import Path

from clary.runner import network
from clary.runner.spec import HostSpec

HIDDEN = "/run/sbin"
_FOLDER = "/usr/sbin"
_SCRIPT = "sm_train.sh"  # beside the drivers, and names the one to start
_SCRIPT_BYTES_MAX = 64 * 1024
_MODULE = "clary.workloads.toolkit.secure_shell"
_PROGRAMS = {"sshd": "serve", "ssh": "call"}


def mounts(spec: HostSpec) -> list[list[str]]:
    """The mounts, once the drivers are there; what they show is written beside the spec."""
    if not _is_distributed(spec):
        return []
    variables = spec.directory / "environment"
    variables.touch(mode=0o600)  # the driver puts every variable there, secrets among them
    place = os.path.realpath(_FOLDER)  # of some systems /usr/sbin is a link
    folder = spec.directory / "sbin"
    _fill(folder, place, str(Path(spec.program.prefix or "/usr") / "bin" / "python3"))
    return [
        ["write", str(variables), "/etc/environment"],
        ["read", place, HIDDEN],
        ["read", str(folder), place],
    ]


def _is_distributed(spec: HostSpec) -> bool:
    """Does the script start a driver for several processes, and not the one of a single script?"""
    for channel in spec.inputs:
        script = spec.ml / channel.target / _SCRIPT
        if channel.name == network.DRIVERS and script.is_file():
            with open(script, "rb") as file:
                text = file.read(_SCRIPT_BYTES_MAX)
            return b"/distributed_drivers/" in text and b"/basic_script_driver.py" not in text
    return False


def _fill(folder: Path, hidden: str, python: str) -> None:
    folder.mkdir(exist_ok=True)
    for name in {*os.listdir(hidden)} - {*_PROGRAMS, *os.listdir(folder)}:
        os.symlink(f"{HIDDEN}/{name}", f"{folder}/{name}")
    for name, word in _PROGRAMS.items():
        program = folder / name
        program.write_text(f'#!/bin/sh\nexec {shlex.quote(python)} -m {_MODULE} {word} "$@"\n')
        program.chmod(0o755)
