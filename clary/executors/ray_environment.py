"""A job's environment on a node of a Ray cluster, built there as control builds its own: once, under a lock.

    request.json     the host's spec, and what control knows of its environment     code.zip   control's code
    preparing.json   how far it is, in the form of a runner's state     prepared.json   the end of it

`python -m clary.executors.ray_environment DIRECTORY` is run by the host's actor, with the node's Clary.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import sys
import threading
import time
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from clary.images import build, workload_code
from clary.images.environment import Environment, from_document
from clary.images.packages import packages_for_jobs
from clary.images.uv import EnvironmentFailed
from clary.runner import progress, spec
from clary.runner.credentials import Provider
from clary.runner.logs import LogShipper
from clary.settings import Settings

CERTIFICATES = ("SSL_CERT_FILE", "SSL_CERT_DIR")
_REASON_CHARACTERS_MAX = 560


class Telling:
    """Passes the lines of a build on: to the job's log, and as its status."""

    def __init__(self, directory: Path, log: LogShipper, node: str) -> None:
        self._path = directory / "preparing.json"
        self._log = log
        self._node = node

    def __call__(self, line: str) -> None:
        self._log.write(f"[clary] {self._node}: {line}".encode())
        message = f"Preparing the environment on {self._node}: {line}"
        state = {"phase": "Starting", "phases": [("Starting", time.time())], "message": message}
        document = {**state, "ready": False, "metrics": {}}
        progress.replace(self._path, document, durable=False)


def prepared(
    request: Mapping[str, Any], settings: Settings, tell: Telling, stop: threading.Event
) -> dict[str, Any]:
    """The host's program with the paths of this node; raise EnvironmentFailed."""
    program, node = request["program"], request["node"]
    environment = _environment(program, node)
    code = _code(program, Path(request["directory"]), settings)
    if not build.is_built(environment, settings):
        tell("building it, once for this node")
    prefix = build.build(environment, settings, tell, stop=stop)
    workload_code.compiled(code, prefix)
    packages = packages_for_jobs(settings)
    places = {name: os.environ.get(name, "") for name in CERTIFICATES}
    certificates = {name: path for name, path in places.items() if path and Path(path).exists()}
    # What told of control's own machine is told of this one; all else is of the image or the user.
    kept = {
        name: value
        for name, value in program["environment"].items()
        if node["machine"].get(name) != value
    }
    read_only = (*build.mounts(prefix), *packages.read_only, *certificates.values())
    return {
        **program,
        "environment": {**certificates, **packages.environment, **kept},
        "prefix": str(prefix),
        "code": str(code),
        "read_only": [str(path) for path in read_only],
        "writable": [str(path) for path in packages.writable],
    }


def _environment(program: Mapping[str, Any], node: Mapping[str, Any]) -> Environment:
    if node["environment"] is not None:
        return from_document(node["environment"])
    place = Path(program["prefix"])
    if not (place / "bin" / "python").exists():
        raise EnvironmentFailed(
            f"{place} is an environment of your own, which is not there."
            " Make it at the same path on every node."
        )
    return Environment(python="", existing=place)


def _code(program: Mapping[str, Any], directory: Path, settings: Settings) -> Path:
    """Control's own runner and workloads, byte by byte: their folder is named by their content."""
    unpacked = directory / "code"
    with zipfile.ZipFile(directory / "code.zip") as archive:
        archive.extractall(unpacked)
    code = workload_code.staged(settings, unpacked / "clary")
    shutil.rmtree(unpacked)
    if code.name != Path(program["code"]).name:
        raise EnvironmentFailed("The code of Clary arrived here damaged. Start the job again.")
    return code


def failure(problem: str, node: str, log: str) -> str:
    """Which node, why, what to do, and where the rest is: within what a FailureReason holds."""
    head, _, remedy = problem.strip().rpartition("\n")
    if len(head) > _REASON_CHARACTERS_MAX:
        head = f"...{head[-_REASON_CHARACTERS_MAX:]}"
    told = f"{head}\n{remedy}" if head else remedy
    return f"The environment could not be built on {node}, log: {log}. {told}"


def main(arguments: list[str]) -> int:
    directory = Path(arguments[0])
    request = json.loads((directory / "request.json").read_bytes())
    stop = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: stop.set())
    parsed = spec.parse(request)
    log = LogShipper(parsed, Provider(parsed, "service"))
    node = request["node"]["is"]
    answer: dict[str, Any]
    try:
        tell = Telling(directory, log, node)
        answer = {"program": prepared(request, Settings.load(), tell, stop)}
    except (EnvironmentFailed, OSError, ValueError, zipfile.BadZipFile) as problem:
        for line in str(problem).splitlines():
            log.write(f"[clary] {node}: {line}".encode())
        place = f"{parsed.log.group}, stream {parsed.log.stream}" if parsed.log else "none"
        answer = {"problem": failure(str(problem), node, place)}
    if not log.close():
        print(f"lines of the build were not shipped: {log.last_problem}", file=sys.stderr)
    progress.replace(directory / "prepared.json", answer, durable=False)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
