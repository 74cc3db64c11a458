"""Runs hosts on this machine: one detached runner and one sandbox each.

The truth about a host is in its directory, so a new process of Clary knows what the old one started:

    runner.lock    held by the runner as long as it lives       state.json    the runner has begun
    program.lock   held as long as its program lives            outcome.json  the runner is done
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from clary.executors import container
from clary.executors.capabilities import Capabilities, probe
from clary.executors.contract import LaunchError
from clary.reconcile.observations import Absent, Exited, Observation, Running, Unknown
from clary.runner import host, limits, locks, program, sockets
from clary.settings import Settings

RUNNER = Path(host.__file__).parent
_STARTED_SECONDS_MAX = 10.0
_NURSERY_SECONDS_MAX = 10.0
_DETACHED: dict[str, Any] = {
    "stdin": subprocess.DEVNULL,
    "close_fds": True,
    "start_new_session": True,
    "cwd": "/",
}


class SandboxExecutor:
    """See `contract.Executor` for the promises; `mode` forces bubblewrap, namespaces or plain."""

    def __init__(
        self,
        settings: Settings,
        clock: Callable[[], float] = time.time,
        *,
        mode: str = "",
        capabilities: Capabilities | None = None,
    ) -> None:
        self._settings = settings
        self._clock = clock
        self.capabilities = capabilities or probe()
        self.mode = mode or self.capabilities.mode
        self._version = _fingerprint()
        self._nursery = settings.run / f"nursery-{self._version}.sock"
        self._guard = threading.Lock()
        self._nursery_retry_at = 0.0

    # Launch ----------------------------------------------------------------------------------------

    def launch(self, specs: Sequence[dict[str, Any]]) -> None:
        waiting: list[tuple[Path, socket.socket | None]] = []
        for spec in specs:
            contained = bool(spec["program"].get("container"))
            if spec.get("network_isolation") and not contained and not self._isolates():
                raise LaunchError(
                    "network isolation was asked for, and this machine cannot give it: "
                    + self.capabilities.explanations["network_namespaces"]
                )
            directory = Path(spec["directory"])
            if (directory / "state.json").exists() or (directory / "outcome.json").exists():
                continue
            self._write(directory, spec)
            waiting.append((directory, self._ask_nursery(directory)))
        refused = [directory for directory, asked in waiting if not _is_started(asked)]
        for directory in refused:
            self._start_alone(directory)

    def _isolates(self) -> bool:
        return self.mode != "plain" and self.capabilities.network_namespaces

    def _write(self, directory: Path, spec: dict[str, Any]) -> None:
        directory.mkdir(parents=True, mode=0o700, exist_ok=True)
        sandbox = {
            "mode": self._mode_of(spec),
            "own_network": self._isolates(),
            "no_fast_files": self._no_fast_files(),
        }
        document = {**spec, "sandbox": sandbox}
        fresh = directory / f"spec.json.{os.getpid()}.{threading.get_ident()}"
        descriptor = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        with open(descriptor, "w", encoding="utf-8") as file:
            file.write(json.dumps(document))  # dump() itself encodes in Python, slowly
        fresh.replace(directory / "spec.json")

    def _no_fast_files(self) -> str:
        """Why FastFile channels must be downloaded; empty where they can be mounted."""
        if self.mode == "plain":
            return "A plain process has no mounts of its own."
        return "" if self.capabilities.fast_files else self.capabilities.explanations["fast_files"]

    def _mode_of(self, spec: dict[str, Any]) -> str:
        """A program that may install into its environment needs a layer, which bubblewrap has none of."""
        layered = bool(spec["program"].get("layered"))
        takes_over = self.mode == "bubblewrap" and layered and self.capabilities.namespaces
        return "namespaces" if takes_over else self.mode

    def _ask_nursery(self, directory: Path) -> socket.socket | None:
        """Ask for a runner; its answer is awaited later, so that the hosts of a work start side by side."""
        connection = self._connect_nursery()
        if connection is None:
            return None
        try:
            connection.sendall(program.RUN + os.fsencode(directory / "spec.json") + b"\n")
        except OSError:
            connection.close()
            return None
        return connection

    def _connect_nursery(self) -> socket.socket | None:
        with contextlib.suppress(OSError):
            return sockets.connect(str(self._nursery), _STARTED_SECONDS_MAX)
        with self._guard:
            if time.monotonic() < self._nursery_retry_at:
                return None
            self._start_nursery()
            deadline = time.monotonic() + _NURSERY_SECONDS_MAX
            while time.monotonic() < deadline:
                with contextlib.suppress(OSError):
                    return sockets.connect(str(self._nursery), _STARTED_SECONDS_MAX)
                time.sleep(0.01)
            # A machine on which none can live starts runners one by one, and is not asked all the time.
            self._nursery_retry_at = time.monotonic() + 60.0
        return None

    def _start_nursery(self) -> None:
        self._settings.run.mkdir(parents=True, mode=0o700, exist_ok=True)
        argv = [sys.executable, "-m", "clary.runner", "--detach", "--nursery", str(self._nursery)]
        with open(self._settings.run / "nursery.log", "ab") as log:
            subprocess.run(
                argv,
                stdout=log,
                stderr=log,
                env=_runner_environment(),
                timeout=_NURSERY_SECONDS_MAX,
                check=False,
                **_DETACHED,
            )

    def _start_alone(self, directory: Path) -> None:
        argv = [sys.executable, "-m", "clary.runner", "--detach", str(directory / "spec.json")]
        try:
            subprocess.run(
                argv,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.PIPE,
                env=_runner_environment(),
                timeout=3 * _STARTED_SECONDS_MAX,
                check=True,
                **_DETACHED,
            )
        except (OSError, subprocess.SubprocessError) as problem:
            words = getattr(problem, "stderr", None) or b""
            text = words.decode(errors="replace")[-500:]
            raise LaunchError(f"no runner for {directory}: {problem} {text}".strip()) from problem

    # Observe ---------------------------------------------------------------------------------------

    def observe(self, directories: Sequence[Path]) -> list[Observation]:
        return [observe(Path(directory), self._clock) for directory in directories]

    # Halt and forget ---------------------------------------------------------------------------------

    def halt(self, directories: Sequence[Path]) -> None:
        for directory in map(Path, directories):
            directory.mkdir(parents=True, mode=0o700, exist_ok=True)
            if not (directory / "outcome.json").exists():
                (directory / "halt").touch(mode=0o600)
                _signal_runner(directory)

    def forget(self, directories: Sequence[Path]) -> None:
        for directory in map(Path, directories):
            for name in ("runner.lock", "program.lock"):
                if locks.is_held(str(directory / name)):
                    raise RuntimeError(f"{directory} cannot be removed: its work still runs")
            container.remove_left(directory)
            limits.find_group(host.group_name(directory)).remove()
            with contextlib.suppress(FileNotFoundError):
                shutil.rmtree(directory, onerror=_open_and_retry)
            # The folders of the generation and of the work go with their last host.
            with contextlib.suppress(OSError):
                directory.parent.rmdir()
                directory.parent.parent.rmdir()

    # Warm environments -------------------------------------------------------------------------------

    def warm(self, prefix: Path, preload: Sequence[str], idle_seconds: float = 3600.0) -> Path:
        """Have a fork server for an environment; returns its socket, which may exist only seconds later.

        Until it does, programs of the environment start afresh. Repeating the call is cheap and keeps
        one server; `spec["program"]["fork"]["socket"]` is where the answer belongs.
        """
        words = "\0".join([str(prefix), *preload, self._version])
        name = hashlib.sha256(words.encode()).hexdigest()[:20]
        path = self._settings.run / f"fork-{name}.sock"
        if self.mode == "plain" or not self.capabilities.namespaces:
            return path
        if locks.is_held(str(path) + ".lock"):
            return path
        self._settings.run.mkdir(parents=True, mode=0o700, exist_ok=True)
        argv = [str(prefix / "bin" / "python"), str(RUNNER / "fork_server.py"), "--detach"]
        argv += ["--socket", str(path), "--preload", ",".join(preload)]
        argv += ["--idle-seconds", str(idle_seconds)]
        with open(self._settings.run / f"fork-{name}.log", "wb") as log:
            subprocess.run(
                argv,
                stdout=log,
                stderr=log,
                env={"PATH": os.defpath, "LANG": "C.UTF-8", "LC_ALL": "C.UTF-8", "HOME": "/tmp"},
                timeout=_NURSERY_SECONDS_MAX,
                check=False,
                **_DETACHED,
            )
        return path

    def close(self) -> None:
        """End the warm parents of this installation; what they forked goes on."""
        for path in self._settings.run.glob("*.sock"):
            if path.name.startswith(("nursery-", "fork-")):
                # Each watches its socket, and ends when it is gone.
                with contextlib.suppress(OSError):
                    sockets.retire(str(path))


def _open_and_retry(remove: Callable[..., Any], path: str, _problem: object) -> None:
    """A program, or a layer's work folder, may leave folders that even their owner cannot enter."""
    for place in (Path(path).parent, Path(path)):
        with contextlib.suppress(FileNotFoundError):
            place.chmod(0o700)
    if Path(path).is_dir() and not Path(path).is_symlink():
        shutil.rmtree(path)
    else:
        Path(path).unlink(missing_ok=True)


def observe(directory: Path, clock: Callable[[], float] = time.time) -> Observation:
    """What the files and locks of a host's directory prove."""
    try:
        outcome = _outcome(directory)
        if outcome is not None:
            return Exited(outcome)
        if locks.is_held(str(directory / "runner.lock")):
            return _running(_document(directory / "state.json"))
        # It may have ended between the two looks: only now is a missing outcome a proof.
        outcome = _outcome(directory)
        if outcome is not None:
            return Exited(outcome)
        state = _document(directory / "state.json")
        if state is None:
            return Absent()
        if locks.is_held(str(directory / "program.lock")):
            return Unknown("its runner is gone; its program is being ended")
        return Exited(_lost(state, directory, clock))
    except (OSError, ValueError) as problem:
        return Unknown(f"{directory}: {problem}")


def _outcome(directory: Path) -> dict[str, Any] | None:
    outcome = _document(directory / "outcome.json")
    if outcome is not None and locks.is_held(str(directory / "program.lock")):
        raise OSError("its program is being ended")
    return outcome


def _document(path: Path) -> dict[str, Any] | None:
    try:
        return json.loads(path.read_bytes())
    except FileNotFoundError:
        return None


def _running(state: Mapping[str, Any] | None) -> Running:
    if state is None:
        return Running("Starting")
    return Running(
        phase=state["phase"],
        phases=tuple((name, moment) for name, moment in state["phases"]),
        ready=state["ready"],
        message=state["message"],
        metrics={name: (value, moment) for name, (value, moment) in state["metrics"].items()},
    )


def _lost(state: Mapping[str, Any], directory: Path, clock: Callable[[], float]) -> dict[str, Any]:
    """The outcome that the runner could not write."""
    phases = state["phases"]
    return {
        "result": "lost",
        "exit_code": None,
        "signal": None,
        "out_of_memory": False,
        "failure": "the runner of this host ended without an outcome",
        "failure_source": "internal",
        "message": "",
        "phases": phases,
        "started": phases[0][1] if phases else clock(),
        "ended": (directory / "state.json").stat().st_mtime,
        "metrics": state["metrics"],
        "outputs": {},
        "log_tail": [],
    }


def _is_started(asked: socket.socket | None) -> bool:
    """Has the runner said that it holds its lock?"""
    if asked is None:
        return False
    with asked:
        try:
            return asked.recv(1) == b"."
        except OSError:
            return False


def _signal_runner(directory: Path) -> None:
    """SIGTERM to the runner; it looks for the halt file by itself as well, should this miss it."""
    path = directory / "runner.lock"
    if not locks.is_held(str(path)):
        return
    text = path.read_text().strip()
    if text.isdigit():
        with contextlib.suppress(ProcessLookupError):
            os.kill(int(text), signal.SIGTERM)


def _runner_environment() -> dict[str, str]:
    """What a runner inherits: where to find this code, and nothing that is secret."""
    kept = ("PATH", "LANG", "LC_ALL", "HOME", "TMPDIR", "SSL_CERT_FILE", "SSL_CERT_DIR")
    found = {name: os.environ[name] for name in kept if name in os.environ}
    found["PYTHONPATH"] = str(RUNNER.parent.parent)
    return found


def _fingerprint() -> str:
    """Changes with the code and the interpreter: a nursery of an older release is not asked."""
    words = [sys.executable]
    for path in sorted(RUNNER.glob("*.py")):
        words.append(f"{path.name}:{path.stat().st_mtime_ns}")
    return hashlib.sha256("\n".join(words).encode()).hexdigest()[:12]
