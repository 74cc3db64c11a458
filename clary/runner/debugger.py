"""A debugger for a job: the program starts under debugpy, which listens on a port of this machine.

The job's Environment asks for it:

    CLARY_DEBUG_PORT=5678    debugpy listens at 127.0.0.1:5678, on host algo-2 at 5679, and so on
    CLARY_DEBUG_WAIT=true    the program starts once a debugger has attached

Any client of debugpy attaches there, such as Visual Studio Code's "attach to a remote Python".
"""

# Paths are plain strings here: they come from and go to system calls.
# ruff: noqa: PTH207

from __future__ import annotations

import glob
import re
from typing import NamedTuple

from clary.runner.spec import HostSpec

PORT, WAIT = "CLARY_DEBUG_PORT", "CLARY_DEBUG_WAIT"
_PYTHON = re.compile(r"(.*/)?python(3(\.\d+)?)?\Z")


class Debugged(NamedTuple):
    argv: list[str]
    note: str  # for the log of the job; empty where no debugger was asked for
    is_on: bool


def debugged(spec: HostSpec) -> Debugged:
    """The command line of a host's program, under debugpy where that is asked for and possible."""
    argv = list(spec.program.argv)
    text = str(spec.program.environment.get(PORT, ""))
    if not text:
        return Debugged(argv, "", is_on=False)
    port = int(text) + spec.host_index if text.isascii() and text.isdigit() else 0
    obstacle = _obstacle(spec, argv, port)
    if obstacle:
        return Debugged(argv, f"{PORT}={text} starts no debugger: {obstacle}.", is_on=False)
    waits = str(spec.program.environment.get(WAIT, "")).lower() in ("1", "true", "yes")
    under = ["-m", "debugpy", "--listen", f"127.0.0.1:{port}"]
    under += ["--wait-for-client"] if waits else []
    note = f"A debugger may attach to host {spec.host} at 127.0.0.1:{port}"
    note += "; the program waits for it." if waits else "."
    return Debugged([argv[0], *under, *argv[1:]], note, is_on=True)


def _obstacle(spec: HostSpec, argv: list[str], port: int) -> str:
    if not 0 < port < 65536:
        return "it is not a port"
    if spec.network_isolation:
        return "nothing reaches a job with EnableNetworkIsolation from outside"
    if spec.serve is not None and spec.serve.port:
        return "a server that is not Clary's own has a network of its own"
    if not _PYTHON.match(argv[0]) or len(argv) < 2 or argv[1] == "-c":
        return f"the entry point is {argv[0]}, not a Python script or module"
    if argv[1].startswith("-") and argv[1] != "-m":
        return f"the entry point has the option {argv[1]} of Python"
    if not glob.glob(glob.escape(spec.program.prefix) + "/lib/python3*/site-packages/debugpy"):
        return "debugpy is not in the environment of its image (clary images add ... debugpy)"
    return ""
