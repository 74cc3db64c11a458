"""One host on a node of a Ray cluster: an actor that runs the runner there, and passes on what it says.

Everything between the agent and the actor goes through the cluster's own key-value store (`ray_store`),
so each may be away for a while, and the outcome outlives the actor.

A host may run as long as it hears its order. One that has not heard it for `silence_seconds` ends itself,
and so does one whose order says so or is gone: by then the agent may have given it up, and the next
generation may run elsewhere.

    heard ─── silence ───▶ SIGTERM ─── half as long again ───▶ SIGKILL      what runs here
    fence ordered ───────────────── FENCE_SECONDS_MORE later ─────────▶ lost      as the agent counts

The class is sent to the node by value: a node needs Ray, and the environments' folder or Clary itself.
"""

from __future__ import annotations

import contextlib
import ctypes
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import ray  # pyright: ignore[reportMissingImports]
from ray.exceptions import RayError  # pyright: ignore[reportMissingImports]

from clary.executors.ray_store import get_value, outcome, put_value

FENCE_SECONDS_MORE = 2.0
_TALK_SECONDS = 0.25
_TELL_SECONDS_MAX = 600.0  # how long an outcome is offered to a store that does not answer
_PROBE_SECONDS_MAX = 20.0
_DEATH_SIGNAL = 1  # PR_SET_PDEATHSIG
# What the sandbox can do here is tried in a process of its own, with the runner's own code.
_PROBE = """
import os, sys
from clary.runner import namespaces as n
own = n.CLONE_NEWNET if sys.argv[1] == "network" else 0
user, group = os.geteuid(), os.getegid()
wanted = n.CLONE_NEWNS | n.CLONE_NEWPID | n.CLONE_NEWIPC | n.CLONE_NEWUTS | own
n.unshare(wanted | (0 if user == 0 else n.CLONE_NEWUSER))
if user:
    n.map_to_root(user, group)
n.mount(None, "/", None, n.MS_REC | n.MS_PRIVATE)
n.mount("tmpfs", "/tmp", "tmpfs", 0, "size=4k")
"""


def kill_seconds(silence_seconds: float) -> float:
    """From asking a host that was cut off to end, until it is killed."""
    return silence_seconds / 2


def fence_seconds(silence_seconds: float) -> float:
    """After so long a host that was ordered to end has ended, whether it heard the order or not."""
    return silence_seconds + kill_seconds(silence_seconds) + FENCE_SECONDS_MORE


class HostActor:
    """Its methods return at once; two threads do the work, of which `_keep` never waits for the cluster."""

    def __init__(self, name: str, silence_seconds: float) -> None:
        self._name = name
        self._silence_seconds = silence_seconds
        node = ray.get_runtime_context().get_node_id()
        root = Path(tempfile.gettempdir()) / f"clary-ray-{os.geteuid()}" / node[:16]
        # Hosts on one node have nothing in common: each hands its part of an artifact over through S3,
        # because its files go as soon as it has ended.
        self._folder = root.joinpath(*name.split("/"))
        self._directory = self._folder / self._folder.name
        self._guard = threading.Lock()
        self._begun = False
        self._wanted = threading.Event()
        self._halted = threading.Event()
        self._ends_at = _now() + silence_seconds  # unless it hears something till then
        self._fenced = False
        self._forgotten = False  # nobody would remove what it leaves in the store
        self._outcome: dict[str, Any] | None = None

    def address(self) -> str:
        """Where the other hosts of its job reach this one."""
        return str(ray.util.get_node_ip_address())

    def ping(self) -> bool:
        return True

    def begin(self, spec: dict[str, Any], code: bytes) -> None:
        """Run the host; once, however often it is asked. `code` is control's, packed."""
        with self._guard:
            if self._begun:
                return
            self._begun = True
        self._ends_at = _now() + self._silence_seconds
        threading.Thread(target=self._keep, args=(spec, code), daemon=True).start()
        threading.Thread(target=self._talk, daemon=True).start()

    # The runner ------------------------------------------------------------------------------------

    def _keep(self, spec: dict[str, Any], code: bytes) -> None:
        began = time.time()
        try:
            self._outcome = self._run(spec, code, began)
        except Exception as problem:  # noqa: BLE001  (a host without an outcome would be waited for for ever)
            self._outcome = outcome("lost", began, f"{type(problem).__name__}: {problem}")
        finally:
            shutil.rmtree(self._folder, ignore_errors=True)

    def _run(self, spec: dict[str, Any], code: bytes, began: float) -> dict[str, Any]:
        # What asked for this host may have been under way for long: it runs only if it is wanted still.
        while not self._wanted.wait(0.02):
            if _now() > self._ends_at:
                return outcome("lost", began, "no order of this host was found in the cluster")
        self._directory.mkdir(parents=True, mode=0o700)
        program, problem = self._prepare(spec, code)
        if self._halted.is_set():
            return outcome("stopped", began, "")
        if _now() > self._ends_at:
            return outcome("lost", began, "the node was cut off while it prepared the environment")
        sandbox = {} if problem else self._sandbox(program["code"])
        if not problem and spec["network_isolation"] and not sandbox["own_network"]:
            problem = f"network isolation was asked for, and {self._node()} cannot give it."
        if problem:
            return outcome("failure", began, f"ClientError: {problem}")
        document = {**spec, **self._places(), "program": program, "sandbox": sandbox}
        self._write_private("spec.json", document)
        self._start(["-m", "clary.runner", str(self._directory / "spec.json")], program["code"])
        found = _document(self._directory / "outcome.json")
        words = "the runner of this host ended without an outcome"
        return found or outcome("lost", began, self._last_words(words))

    def _prepare(self, spec: Mapping[str, Any], code: bytes) -> tuple[dict[str, Any], str]:
        """The program as this node has it; else why it has none, and what to do."""
        program = spec["program"]
        if all(Path(program[name]).is_dir() for name in ("prefix", "code")):
            return program, ""  # the folder of environments is the same on all nodes
        node = {**spec["node"], "is": self._node()}
        self._write_private("request.json", {**spec, **self._places(), "node": node})
        (self._directory / "code.zip").write_bytes(code)
        ended = self._start(["-m", "clary.executors.ray_environment", str(self._directory)], "")
        answer = _document(self._directory / "prepared.json")
        if answer is not None:
            return answer.get("program") or program, answer.get("problem") or ""
        words = self._last_words(f"ended with code {ended}")
        if "No module named" in words:
            clary = f"clary[ray]=={spec['node']['version']}"
            return program, (
                f"{self._node()} has neither {program['prefix']} nor the Clary that builds it:"
                f" `pip install '{clary}'` for the Python of its Ray, or mount the folder of"
                " CLARY_CACHE at the same path."
            )
        return program, f"The preparation of the environment on {self._node()} {words}"

    def _node(self) -> str:
        return f"the Ray node {self.address()} ({os.uname().nodename})"

    def _places(self) -> dict[str, str]:
        return {"directory": str(self._directory), "shared": str(self._folder), "wake_socket": ""}

    def _sandbox(self, code: str) -> dict[str, Any]:
        """How programs can be kept apart on this node."""
        own_network = self._can("network", code)
        mode = "namespaces" if own_network or self._can("none", code) else "plain"
        return {"mode": mode, "own_network": own_network}

    def _write_private(self, name: str, document: Mapping[str, Any]) -> None:
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL
        with open(os.open(self._directory / name, flags, 0o600), "w") as file:
            json.dump(document, file)

    def _can(self, what: str, code: str) -> bool:
        command = [sys.executable, "-c", _PROBE, what]
        try:
            ended = subprocess.run(
                command,
                env=_environment(code),
                stdin=subprocess.DEVNULL,
                capture_output=True,
                timeout=_PROBE_SECONDS_MAX,
                check=False,
            )
        except (OSError, subprocess.TimeoutExpired):
            return False
        return ended.returncode == 0

    def _start(self, words: list[str], code: str) -> int:
        """Start a program of Clary's and stay until it has ended, by itself or made to."""
        with open(self._directory / "runner.log", "wb") as log:
            process = subprocess.Popen(
                [sys.executable, *words],
                env=_environment(code),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
                cwd="/",
                # This thread lives as long as the process: the signal comes when the actor is killed.
                preexec_fn=_die_with_parent,
            )
        told: set[str] = set()
        while process.poll() is None:
            overdue = _now() - self._ends_at
            if self._halted.is_set() and "halt" not in told:
                told.add("halt")
                (self._directory / "halt").touch(mode=0o600)
                process.send_signal(signal.SIGTERM)
            if overdue > 0 and "end" not in told:
                told.add("end")
                process.send_signal(signal.SIGTERM)
            if overdue > kill_seconds(self._silence_seconds):
                process.kill()
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(0.05)
        return process.returncode

    def _last_words(self, words: str) -> str:
        try:
            text = (self._directory / "runner.log").read_text(errors="replace")
        except OSError:
            return words
        return f"{words}: {text.strip()[-500:]}" if text.strip() else words

    # The store -------------------------------------------------------------------------------------

    def _talk(self) -> None:
        told = b""
        ended_at = 0.0
        while True:
            ending = self._outcome
            try:
                self._hear()
                if ending is not None and not self._forgotten:
                    put_value(self._name, "outcome", json.dumps(ending).encode())
                if ending is not None:
                    return
                told = self._tell_state(told)
            except (RayError, OSError, RuntimeError, ValueError) as problem:
                # Ray has several kinds that mean "not now". Any other ends this thread, and so the host.
                print(f"the cluster's store does not answer: {problem}", file=sys.stderr)
            if ending is not None:
                ended_at = ended_at or time.monotonic()
                if time.monotonic() > ended_at + _TELL_SECONDS_MAX:
                    return
            time.sleep(_TALK_SECONDS)

    def _tell_state(self, told: bytes) -> bytes:
        for name in ("state.json", "preparing.json"):
            with contextlib.suppress(FileNotFoundError):
                state = (self._directory / name).read_bytes()
                if state != told and not self._forgotten:
                    put_value(self._name, "state", state)
                return state
        return told

    def _hear(self) -> None:
        # The answer may be long under way: it says what was true when the question was asked, no later.
        asked = _now()
        text = get_value(self._name, "order")
        self._forgotten = text is None
        wanted = json.loads(text) if text else {"halt": False, "fence": True, "ended": []}
        if wanted["fence"]:
            self._fenced = True
            self._ends_at = min(self._ends_at, _now())
        elif not self._fenced and asked < self._ends_at:
            self._ends_at = asked + self._silence_seconds
        if wanted["halt"]:
            self._halted.set()
        for host in wanted["ended"]:
            with contextlib.suppress(FileNotFoundError):  # its own files are not there yet, or gone
                (self._directory / f"ended-{host}").touch(mode=0o600)
        if not self._fenced:
            self._wanted.set()


def _now() -> float:
    """Seconds that also pass while the machine is suspended."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)


def _die_with_parent() -> None:
    """Killed, not asked: without its actor nobody sees to it that it ends in time."""
    ctypes.CDLL(None).prctl(_DEATH_SIGNAL, signal.SIGKILL)


def _environment(code: str) -> dict[str, str]:
    """What the runner inherits: nothing of Ray's worker. Without `code`, the node's own Clary is run."""
    if not code:
        return {name: value for name, value in os.environ.items() if not name.startswith("RAY_")}
    kept = ("PATH", "LANG", "LC_ALL", "HOME", "TMPDIR", "SSL_CERT_FILE", "SSL_CERT_DIR")
    found = {name: os.environ[name] for name in kept if name in os.environ}
    return {**found, "PYTHONPATH": code, "PYTHONDONTWRITEBYTECODE": "1"}


def _document(path: Path) -> dict[str, Any] | None:
    try:
        return json.loads(path.read_bytes())
    except FileNotFoundError:
        return None
