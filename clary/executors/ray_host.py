"""One host on a node of a Ray cluster: an actor that runs the runner there, and passes on what it says.

Everything between the agent and the actor goes through the cluster's own key-value store, so each may be
away for a while, and the outcome outlives the actor:

    NAME:order     halt, fence, ended    written by the agent, read by the actor
    NAME:state     state.json            written by the actor, read by the agent
    NAME:outcome   outcome.json          written by the actor, once

A host that cannot hear the store for SILENCE_SECONDS_MAX ends itself: by then the agent may have given it
up, and another generation may run elsewhere. The class is sent to the node by value: a node needs Ray and
the folder of environments, and nothing of Clary installed.
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
from ray.experimental import internal_kv  # pyright: ignore[reportMissingImports]

STORE = b"clary"
SILENCE_SECONDS_MAX = 20.0
KILL_SECONDS = 10.0  # from asking a host that was cut off to end until its runner is killed
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


class HostActor:
    """Its methods return at once; two threads do the work, of which `_keep` never waits for the cluster."""

    def __init__(self, name: str) -> None:
        self._name = name
        node = ray.get_runtime_context().get_node_id()
        root = Path(tempfile.gettempdir()) / f"clary-ray-{os.geteuid()}" / node[:16]
        # Hosts on one node have nothing in common: each hands its part of an artifact over through S3,
        # because its files go as soon as it has ended.
        self._folder = root.joinpath(*name.split("/"))
        self._directory = self._folder / self._folder.name
        self._guard = threading.Lock()
        self._begun = False
        self._halted = threading.Event()
        self._fenced = threading.Event()
        self._heard = time.monotonic()
        self._outcome: dict[str, Any] | None = None

    def address(self) -> str:
        """Where the other hosts of its job reach this one."""
        return str(ray.util.get_node_ip_address())

    def ping(self) -> bool:
        return True

    def begin(self, spec: dict[str, Any]) -> None:
        """Run the host; once, however often it is asked."""
        with self._guard:
            if self._begun:
                return
            self._begun = True
        self._heard = time.monotonic()
        threading.Thread(target=self._keep, args=(spec,), daemon=True).start()
        threading.Thread(target=self._talk, daemon=True).start()

    # The runner ------------------------------------------------------------------------------------

    def _keep(self, spec: dict[str, Any]) -> None:
        began = time.time()
        try:
            problem = self._unfit(spec)
            if problem:
                self._outcome = outcome("failure", began, problem)
                return
            self._write(spec)
            self._attend(spec)
            found = _document(self._directory / "outcome.json")
            words = "the runner of this host ended without an outcome"
            self._outcome = found or outcome("lost", began, self._last_words(words))
        except Exception as problem:  # noqa: BLE001  (an outcome must be told whatever happens)
            self._outcome = outcome("lost", began, f"{type(problem).__name__}: {problem}")
        finally:
            shutil.rmtree(self._folder, ignore_errors=True)

    def _unfit(self, spec: Mapping[str, Any]) -> str:
        """Why this node cannot run the host; empty when it can."""
        program = spec["program"]
        node = f"the Ray node {self.address()}"
        for path in (program["prefix"], program["code"]):
            if path and not Path(path).is_dir():
                return (
                    f"ClientError: {path} is not on {node}. Environments are built on the machine of"
                    " Clary: put CLARY_CACHE on a file system that all nodes mount at the same path."
                )
        if spec["network_isolation"] and not self._can("network", program["code"]):
            return f"ClientError: network isolation was asked for, and {node} cannot give it."
        return ""

    def _write(self, spec: dict[str, Any]) -> None:
        self._directory.mkdir(parents=True, mode=0o700)
        code = spec["program"]["code"]
        mode = "namespaces" if self._can("none", code) else "plain"
        document = {
            **spec,
            "directory": str(self._directory),
            "shared": str(self._directory.parent),
            "wake_socket": "",
            "sandbox": {"mode": mode, "own_network": self._can("network", code)},
        }
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL
        with open(os.open(self._directory / "spec.json", flags, 0o600), "w") as file:
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

    def _attend(self, spec: Mapping[str, Any]) -> None:
        """Start the runner and stay until it has ended, by itself or made to."""
        path = str(self._directory / "spec.json")
        with open(self._directory / "runner.log", "wb") as log:
            runner = subprocess.Popen(
                [sys.executable, "-m", "clary.runner", path],
                env=_environment(spec["program"]["code"]),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
                cwd="/",
                # This thread lives as long as the runner: the signal comes when the actor is killed.
                preexec_fn=_die_with_parent,
            )
        told, kill_at = False, float("inf")
        while runner.poll() is None:
            now = time.monotonic()
            cut_off = self._fenced.is_set() or now > self._heard + SILENCE_SECONDS_MAX
            if cut_off and kill_at == float("inf"):
                runner.send_signal(signal.SIGTERM)
                kill_at = now + KILL_SECONDS
            if self._halted.is_set() and not told:
                (self._directory / "halt").touch(mode=0o600)
                runner.send_signal(signal.SIGTERM)
                told = True
            if now > kill_at:
                runner.kill()
            with contextlib.suppress(subprocess.TimeoutExpired):
                runner.wait(0.05)

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
                if ending is not None:
                    _put(self._name, "outcome", json.dumps(ending).encode())
                    return
                told = self._tell_state(told)
                self._hear()
            except Exception as problem:  # noqa: BLE001  (Ray raises many kinds; all mean "not now")
                print(f"the cluster's store does not answer: {problem}", file=sys.stderr)
            if ending is not None:
                ended_at = ended_at or time.monotonic()
                if time.monotonic() > ended_at + _TELL_SECONDS_MAX:
                    return
            time.sleep(_TALK_SECONDS)

    def _tell_state(self, told: bytes) -> bytes:
        try:
            state = (self._directory / "state.json").read_bytes()
        except OSError:
            return told
        if state != told:
            _put(self._name, "state", state)
        return state

    def _hear(self) -> None:
        text = get(self._name, "order")
        self._heard = time.monotonic()
        if text is None:
            return
        wanted = json.loads(text)
        if wanted["halt"]:
            self._halted.set()
        if wanted["fence"]:
            self._fenced.set()
        for host in wanted["ended"]:
            with contextlib.suppress(FileNotFoundError):  # its own files are gone by now
                (self._directory / f"ended-{host}").touch(mode=0o600)


def _die_with_parent() -> None:
    ctypes.CDLL(None).prctl(_DEATH_SIGNAL, signal.SIGTERM)


def _environment(code: str) -> dict[str, str]:
    """What the runner inherits: nothing of Ray's worker."""
    kept = ("PATH", "LANG", "LC_ALL", "HOME", "TMPDIR", "SSL_CERT_FILE", "SSL_CERT_DIR")
    found = {name: os.environ[name] for name in kept if name in os.environ}
    return {**found, "PYTHONPATH": code, "PYTHONDONTWRITEBYTECODE": "1"}


def _document(path: Path) -> dict[str, Any] | None:
    try:
        return json.loads(path.read_bytes())
    except FileNotFoundError:
        return None


def outcome(result: str, began: float, failure: str) -> dict[str, Any]:
    """The outcome of a host whose runner left none."""
    client = failure.startswith("ClientError")
    return {
        "result": result,
        "exit_code": None,
        "signal": None,
        "out_of_memory": False,
        "failure": failure,
        "failure_source": None if result == "stopped" else "client" if client else "internal",
        "message": "",
        "phases": [],
        "started": began,
        "ended": time.time(),
        "metrics": {},
        "outputs": {},
        "log_tail": [],
    }


# The cluster's key-value store, for both sides -------------------------------------------------------


def _key(name: str, what: str) -> bytes:
    return f"{name}:{what}".encode()


def get(name: str, what: str) -> bytes | None:
    return internal_kv._internal_kv_get(_key(name, what), namespace=STORE)


def _put(name: str, what: str, value: bytes) -> None:
    internal_kv._internal_kv_put(_key(name, what), value, overwrite=True, namespace=STORE)


def order(name: str, *, halt: bool, fence: bool, ended: list[str]) -> None:
    """Tell a host what it is to do, and which other hosts of its job have ended."""
    document = {"halt": halt, "fence": fence, "ended": ended}
    _put(name, "order", json.dumps(document).encode())


def erase(name: str) -> None:
    for what in ("order", "state", "outcome"):
        internal_kv._internal_kv_del(_key(name, what), namespace=STORE)
