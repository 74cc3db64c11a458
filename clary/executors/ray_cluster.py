"""Runs the hosts of jobs on a Ray cluster, and what must be near the door on this machine.

Ray is asked for placement and liveness only; a host is the same runner and sandbox on a node as here, and
its data go through the door (CLARY_ADVERTISED_URL as the nodes reach it). Control never loads Ray: it
writes down what is wanted, and one detached agent (`ray_agent`) brings it about. In a host's directory:

    ray.json       it was launched on the cluster      state.json    as the runner on the node said last
    halt           it was asked to stop                outcome.json  it has ended, or is proven lost
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from clary import __version__
from clary.executors.contract import LaunchError
from clary.executors.ray_environment import CERTIFICATES
from clary.executors.ray_files import LOCK, PULSE, Group, group_name
from clary.executors.sandbox import SandboxExecutor
from clary.executors.sandbox import observe as observe_files
from clary.images import build
from clary.images.packages import packages_for_jobs
from clary.reconcile.observations import Exited, Observation, Running, Unknown
from clary.runner import host, locks
from clary.settings import Settings

_CODE = Path(host.__file__).parent.parent.parent
_PULSE_SECONDS_MAX = 20.0
_RESTART_SECONDS = 3.0
_CLOSE_SECONDS = 10.0
_PROBE_SECONDS_MAX = 60.0
_INSTALL = (
    "Install it with `pip install 'clary[ray]'`, or let CLARY_RAY_PYTHON name a Python that has the"
    " versions of Python and Ray that the cluster has."
)


class RayExecutor:
    """See `contract.Executor` for the promises."""

    def __init__(self, settings: Settings, clock: Callable[[], float] = time.time) -> None:
        if not settings.ray_address:
            raise ValueError(
                "CLARY_EXECUTOR=ray needs CLARY_RAY_ADDRESS: ray://HOST:10001 of the cluster's head"
            )
        self._settings = settings
        self._clock = clock
        self._local = SandboxExecutor(settings, clock)
        self._folder = settings.run / "ray"
        self._python = settings.ray_python or sys.executable
        # Two installations may share a cluster: their hosts must never take each other's names.
        words = f"{os.uname().nodename}\0{settings.home}"
        self._namespace = f"clary-{hashlib.sha256(words.encode()).hexdigest()[:12]}"
        self._guard = threading.Lock()
        self._agent: subprocess.Popen[bytes] | None = None
        self._restart_at = 0.0
        self._has_ray = False

    # Launch ----------------------------------------------------------------------------------------

    def launch(self, specs: Sequence[dict[str, Any]]) -> None:
        here = [_afresh(spec) for spec in specs if _stays_here(spec)]
        if here:
            self._local.launch(here)
        there = [spec for spec in specs if not _stays_here(spec)]
        if there:
            self._launch_on_cluster(there)

    def _launch_on_cluster(self, specs: list[dict[str, Any]]) -> None:
        places = {spec["host"]: Path(spec["directory"]) for spec in specs}
        cpus = {spec["host"]: float(spec["limits"].get("cpus") or 1.0) for spec in specs}
        group = Group(self._folder, group_name(places), places, cpus)
        over = all((place / "outcome.json").exists() for place in places.values())
        if not over and not group.exists():
            self._check_ray()
            for spec in specs:
                self._write(spec)
            group.write()
        if not over:
            self._keep_agent()

    def _write(self, spec: dict[str, Any]) -> None:
        url, known = self._settings.advertised_url.rstrip("/"), self._settings.endpoint_url
        document = {**spec, "program": {**spec["program"], "fork": None}, "wake_socket": ""}
        document["node"] = self._for_nodes(spec["program"])
        if url:
            document["endpoint_url"] = url
            document["credentials_url"] = url + spec["credentials_url"].removeprefix(known)
        directory = Path(spec["directory"])
        directory.mkdir(parents=True, mode=0o700, exist_ok=True)
        fresh = directory / f"ray.json.{os.getpid()}.{threading.get_ident()}"
        descriptor = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        with open(descriptor, "w", encoding="utf-8") as file:
            json.dump(document, file)
        fresh.replace(directory / "ray.json")

    def _for_nodes(self, program: Mapping[str, Any]) -> dict[str, Any]:
        """What a node needs to build the program's environment itself, and what holds here only."""
        try:
            described = json.loads((Path(program["prefix"]) / build.MARKER).read_bytes())
        except FileNotFoundError:
            described = None  # an environment of the user's own
        machine = dict(packages_for_jobs(self._settings).environment)
        machine |= {name: os.environ[name] for name in CERTIFICATES if os.environ.get(name)}
        return {"environment": described, "machine": machine, "version": __version__}

    # The agent -------------------------------------------------------------------------------------

    def _check_ray(self) -> None:
        """Ask the Python whether it has Ray, until it has."""
        if self._has_ray:
            return
        command = [
            self._python,
            "-c",
            "import importlib.util as u, sys; sys.exit(not u.find_spec('ray'))",
        ]
        try:
            ended = subprocess.run(
                command, capture_output=True, timeout=_PROBE_SECONDS_MAX, check=False
            )
        except (OSError, subprocess.TimeoutExpired) as problem:
            raise LaunchError(f"{self._python} cannot be run: {problem}. {_INSTALL}") from problem
        if ended.returncode:
            raise LaunchError(f"{self._python} has no Ray. {_INSTALL}")
        self._has_ray = True

    def _keep_agent(self) -> None:
        """Start the agent if none lives; an agent that ended is not started again at once."""
        with self._guard:
            if self._agent is not None and self._agent.poll() is None:
                return
            if locks.is_held(str(self._folder / LOCK)) or time.monotonic() < self._restart_at:
                return
            self._restart_at = time.monotonic() + _RESTART_SECONDS
            argv = [self._python, "-m", "clary.executors.ray_agent", str(self._folder)]
            argv += [self._settings.ray_address, self._namespace]
            argv += [str(self._settings.run / "wake.sock"), str(self._settings.ray_silence_seconds)]
            with open(self._folder / "agent.log", "ab") as log:
                self._agent = subprocess.Popen(
                    argv,
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=log,
                    env=_agent_environment(),
                    start_new_session=True,
                    cwd="/",
                )

    def _trouble(self) -> str:
        """Why the cluster cannot be asked now; empty when the agent looked at it just now."""
        try:
            document = json.loads((self._folder / PULSE).read_bytes())
        except FileNotFoundError:
            return f"the Ray agent has no connection to {self._settings.ray_address}"
        silent = self._clock() - document["at"]
        if silent > _PULSE_SECONDS_MAX:
            return f"the Ray agent has had no answer of the cluster for {silent:.0f} s"
        return ""

    # Observe ---------------------------------------------------------------------------------------

    def observe(self, directories: Sequence[Path]) -> list[Observation]:
        seen = [self._observe(Path(directory)) for directory in directories]
        if any(isinstance(one, Running | Unknown) for one in seen):
            self._keep_agent_if_needed()
        return seen

    def _keep_agent_if_needed(self) -> None:
        if self._folder.is_dir():
            # A machine that cannot start a process now says so in the log; the next look tries again.
            with contextlib.suppress(OSError):
                self._keep_agent()

    def _observe(self, directory: Path) -> Observation:
        if not (directory / "ray.json").exists():
            return observe_files(directory, self._clock)
        try:
            outcome = _document(directory / "outcome.json")
            if outcome is not None:
                return Exited(outcome)
            trouble = self._trouble()
            if trouble:
                return Unknown(f"{trouble}; see {self._folder / 'agent.log'}")
            state = _document(directory / "state.json")
        except (OSError, ValueError) as problem:
            return Unknown(f"{directory}: {problem}")
        if state is None:
            return Running("Starting")
        return Running(
            phase=state["phase"],
            phases=tuple((name, moment) for name, moment in state["phases"]),
            ready=state["ready"],
            message=state["message"],
            metrics={name: (value, moment) for name, (value, moment) in state["metrics"].items()},
        )

    # Halt and forget ---------------------------------------------------------------------------------

    def halt(self, directories: Sequence[Path]) -> None:
        """The agent sees the file and passes it on; a host of this machine gets its signal."""
        self._local.halt(directories)

    def forget(self, directories: Sequence[Path]) -> None:
        for directory in map(Path, directories):
            launched = (directory / "ray.json").exists()
            if launched and not (directory / "outcome.json").exists():
                raise RuntimeError(f"{directory} cannot be removed: its work still runs on Ray")
        self._local.forget(directories)

    # Warm environments -------------------------------------------------------------------------------

    def warm(self, prefix: Path, preload: Sequence[str]) -> Path | None:
        """A node's environments are not kept warm: nothing of them would be shared with this machine."""
        return None

    def close(self) -> None:
        """End the agent, which goes when its folder is gone, and what is warm here; hosts go on."""
        self._local.close()
        if self._agent is not None:
            self._agent.terminate()
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._agent.wait(_CLOSE_SECONDS)
        if not any(self._folder.glob("group-*")):
            shutil.rmtree(self._folder, ignore_errors=True)


def _stays_here(spec: Mapping[str, Any]) -> bool:
    """Endpoints, container images, and isolated jobs of several hosts are not for the cluster.

    The data plane reaches a server by its Unix socket (a batch transform's is the runner's own affair),
    the engine that has an image is this machine's, and hosts on several nodes could not meet without
    a network.
    """
    serves = spec.get("serve") is not None and spec.get("transform") is None
    isolated = spec.get("network_isolation") and len(spec["hosts"]) > 1
    return bool(serves or isolated or spec.get("program", {}).get("container"))


def _afresh(spec: dict[str, Any]) -> dict[str, Any]:
    return {**spec, "program": {**spec["program"], "fork": None}}


def _document(path: Path) -> dict[str, Any] | None:
    try:
        return json.loads(path.read_bytes())
    except FileNotFoundError:
        return None


def _agent_environment() -> dict[str, str]:
    """Ray's own variables (its token, its certificates) and where this code is; no secret of Clary's."""
    kept = ("PATH", "LANG", "LC_ALL", "HOME", "TMPDIR", "SSL_CERT_FILE", "SSL_CERT_DIR")
    found = {name: value for name, value in os.environ.items() if name.startswith("RAY_")}
    found |= {name: os.environ[name] for name in kept if name in os.environ}
    return {**found, "PYTHONPATH": str(_CODE), "RAY_USAGE_STATS_ENABLED": "0"}
