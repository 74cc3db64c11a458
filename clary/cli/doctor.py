"""`clary doctor`: what this machine offers Clary, and how to mend what is missing."""

from __future__ import annotations

import argparse
import importlib
import os
import shutil
import sys
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal

from clary.cli.installation import Installation, installed
from clary.cli.output import emit_json, next_step, say
from clary.cli.processes import SOCKET_PATH_BYTES_MAX, free_port, port_is_free

DISK_BYTES_MIN = 5 * 1024**3  # a few framework environments and their models
PYTHON_MIN = (3, 11)
State = Literal["ok", "warning", "problem"]
MARKS: dict[State, str] = {"ok": "ok     ", "warning": "warning", "problem": "PROBLEM"}


@dataclass(frozen=True, slots=True)
class Finding:
    name: str
    state: State
    text: str
    remedy: str = ""


def arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--json", action="store_true", help="print a JSON document")


def run(options: argparse.Namespace) -> int:
    """Exit code 1 if something will not work; warnings alone are fine."""
    installation = installed()
    findings = [finding for check in CHECKS for finding in check(installation)]
    broken = any(finding.state == "problem" for finding in findings)
    if options.json:
        emit_json({"healthy": not broken, "checks": [asdict(finding) for finding in findings]})
        return int(broken)
    for finding in findings:
        say(f"{MARKS[finding.state]}  {finding.name}: {finding.text}")
        if finding.remedy:
            say(f"         remedy: {finding.remedy}")
    if not broken:
        next_step("clary status" if installation.supervisor_pid else "clary up")
    return int(broken)


def check_python(_: Installation) -> Iterator[Finding]:
    version = ".".join(map(str, sys.version_info[:3]))
    if sys.version_info[:2] >= PYTHON_MIN:
        yield Finding("Python", "ok", f"{version} at {sys.executable}")
    else:
        wanted = ".".join(map(str, PYTHON_MIN))
        yield Finding("Python", "problem", f"{version} is too old", f"Install Python {wanted}.")


def check_home(installation: Installation) -> Iterator[Finding]:
    home = installation.home
    existing = next(place for place in (home, *home.parents) if place.exists())
    if not os.access(existing, os.W_OK | os.X_OK):
        yield Finding(
            "home", "problem", f"{existing} is not writable", "Set CLARY_HOME to a folder of yours."
        )
        return
    address = os.fsencode(str(installation.settings.run / "control.sock"))
    if len(address) > SOCKET_PATH_BYTES_MAX:
        yield Finding(
            "home", "problem", f"{home} is too long for Unix sockets", "Set a shorter CLARY_HOME."
        )
        return
    yield Finding("home", "ok", str(home))
    free = shutil.disk_usage(existing).free
    text = f"{free / 1024**3:.1f} GiB free"
    if free < DISK_BYTES_MIN:
        yield Finding("disk", "warning", text, "Free some space, or move CLARY_HOME.")
    else:
        yield Finding("disk", "ok", text)


def check_port(installation: Installation) -> Iterator[Finding]:
    settings = installation.settings
    if installation.supervisor_pid:
        status, _ = installation.health()
        if status == 200:
            yield Finding("server", "ok", f"answers at {installation.url}")
        else:
            logs = installation.home / "logs"
            yield Finding(
                "server",
                "problem",
                f"runs but does not answer well at {installation.url}",
                f"Read {logs}, then: clary down && clary up",
            )
    elif port_is_free(settings.host, settings.port):
        yield Finding("port", "ok", f"{settings.host}:{settings.port} is free")
    else:
        yield Finding(
            "port",
            "problem",
            f"{settings.host}:{settings.port} is taken by another program",
            f"clary up --port {free_port(settings.host)}",
        )


def check_certificates(installation: Installation) -> Iterator[Finding]:
    folder = installation.home / "authority"
    key = folder / "ca.key"
    if not key.exists():
        yield Finding("certificates", "ok", "the authority is made at the first start")
    elif key.stat().st_mode & 0o077:
        yield Finding("certificates", "problem", f"{key} is readable by others", f"chmod 600 {key}")
    else:
        yield Finding("certificates", "ok", str(folder / "bundle.pem"))


def check_uv(_: Installation) -> Iterator[Finding]:
    uv = importlib.import_module("uv")
    try:
        yield Finding("uv", "ok", str(uv.find_uv_bin()))
    except FileNotFoundError:
        yield Finding(
            "uv", "problem", "uv, which builds environments, is missing", "pip install uv"
        )


def check_sandbox(installation: Installation) -> Iterator[Finding]:
    """What the executor found, in its own words."""
    capabilities = importlib.import_module("clary.executors.capabilities").probe()
    isolated = capabilities.mode != "plain"
    yield Finding(
        "sandbox",
        "ok" if isolated else "warning",
        f"programs run in mode {capabilities.mode}",
        "" if isolated else "Install bubblewrap, or allow user namespaces.",
    )
    for name, text in capabilities.explanations.items():
        state: State = "ok"
        remedy = ""
        if name == "network_namespaces" and not capabilities.network_namespaces:
            state, remedy = "warning", "Allow user namespaces, or run Clary as root."
        yield Finding(f"sandbox {name.replace('_', ' ')}", state, text, remedy)
    yield _limits(installation)


def _limits(installation: Installation) -> Finding:
    limits = importlib.import_module("clary.engine.instance_limits")
    machine = limits.machine()
    policy = installation.settings.instance_limits
    allowed = limits.limits_of(machine, policy, "").memory_bytes
    if allowed is None:
        return Finding("limits", "warning", "this machine does not say how much memory it has")
    text = f"a host of a job may use {allowed / 1024**3:.1f} of {machine.memory_bytes / 1024**3:.1f} GiB"
    if policy == limits.INSTANCE_TYPE:
        text += ", and no more than its instance type has"
    return Finding("limits", "ok", f"{text} (CLARY_INSTANCE_LIMITS={policy})")


def check_proxy(installation: Installation) -> Iterator[Finding]:
    """A shell that was set up for another server keeps pointing there."""
    proxy = os.environ.get("HTTPS_PROXY", "")
    bundle = os.environ.get("AWS_CA_BUNDLE", "")
    if bundle and not Path(bundle).is_file():
        yield Finding(
            "shell", "problem", f"AWS_CA_BUNDLE names {bundle}, which is not there",
            'eval "$(clary env)", or unset AWS_CA_BUNDLE',
        )  # fmt: skip
    endpoint = os.environ.get("AWS_ENDPOINT_URL", "")
    if endpoint and endpoint != installation.url:
        yield Finding(
            "shell", "warning", f"AWS_ENDPOINT_URL names {endpoint}, not {installation.url}",
            'eval "$(clary env)"',
        )  # fmt: skip
    elif proxy == installation.url and not installation.supervisor_pid:
        yield Finding(
            "shell", "warning", "HTTPS_PROXY names this server, which is down",
            "clary up, or unset HTTPS_PROXY https_proxy",
        )  # fmt: skip


CHECKS: tuple[Callable[[Installation], Iterator[Finding]], ...] = (
    check_python,
    check_home,
    check_port,
    check_certificates,
    check_uv,
    check_sandbox,
    check_proxy,
)
