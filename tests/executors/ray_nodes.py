"""Two real Ray nodes for tests, each in a network namespace: two machines, as far as a job can tell."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from clary.images import build
from clary.images.environment import Environment
from clary.settings import Settings

TOKEN = "a-token-of-the-tests-that-is-long-enough"
START_SECONDS = 120


def ray_python() -> Path:
    """A Python with Ray (70 MB to fetch, 240 MB on disk), built once; raises EnvironmentFailed."""
    wanted = Environment("3.11", ("ray[client]>=2.40",), ("ray", "grpc"))
    return build.build(wanted, Settings.load()) / "bin" / "python"


def ip(*words: str) -> str:
    done = subprocess.run(["ip", *words], capture_output=True, text=True, timeout=30, check=False)
    if done.returncode:
        raise OSError(f"ip {' '.join(words)}: {done.stderr.strip()}")
    return done.stdout


def ray_node_test_problem() -> str:
    """Why there can be no nodes in network namespaces here; empty when there can."""
    if os.geteuid() != 0 or shutil.which("ip") is None:
        return "two Ray nodes need network namespaces: run as root, with iproute2 installed"
    probe = f"clary{os.getpid()}-0"
    try:
        ip("netns", "add", probe)
        ip("netns", "delete", probe)
    except OSError as refused:
        return f"network namespaces cannot be made here: {refused}"
    return ""


@dataclass
class RayNodes:
    """A bridge of this machine at `.1`, the head at `.2`, another node at `.3`."""

    python: Path
    folder: Path = field(default_factory=lambda: Path(tempfile.mkdtemp(prefix="ray-", dir="/tmp")))
    _number: int = field(default_factory=lambda: os.getpid() % 250)

    def address(self, node: int) -> str:
        return f"10.213.{self._number}.{node}"

    def space(self, node: int) -> str:
        return f"clary{os.getpid()}-{node}"

    @property
    def environment(self) -> dict[str, str]:
        return {
            "RAY_AUTH_MODE": "token",
            "RAY_AUTH_TOKEN": TOKEN,
            "RAY_USAGE_STATS_ENABLED": "0",
            "CLARY_EXECUTOR": "ray",
            "CLARY_RAY_ADDRESS": f"ray://{self.address(2)}:10001",
            "CLARY_RAY_PYTHON": str(self.python),
        }

    def make_networks(self) -> None:
        bridge = f"clb{os.getpid()}"
        ip("link", "add", bridge, "type", "bridge")
        ip("address", "add", f"{self.address(1)}/24", "dev", bridge)
        ip("link", "set", bridge, "up")
        for node in (2, 3):
            space, cable = self.space(node), f"clv{os.getpid()}-{node}"
            ip("netns", "add", space)
            ip("link", "add", cable, "type", "veth", "peer", "name", "eth0", "netns", space)
            ip("link", "set", cable, "master", bridge, "up")
            ip("-n", space, "address", "add", f"{self.address(node)}/24", "dev", "eth0")
            for link in ("lo", "eth0"):
                ip("-n", space, "link", "set", link, "up")
            # Without a way out, Ray looks for its own address until a look-up of names times out.
            ip("-n", space, "route", "add", "default", "via", self.address(1))

    def start(self) -> None:
        head = ["--head", "--port=6379", "--ray-client-server-port=10001"]
        head += ["--include-dashboard=false", f"--temp-dir={self.folder}"]
        self._start(2, *head)
        self._start(3, f"--address={self.address(2)}:6379")

    def _start(self, node: int, *words: str) -> None:
        command = ["ip", "netns", "exec", self.space(node), str(self.python.with_name("ray"))]
        command += ["start", f"--node-ip-address={self.address(node)}", "--num-cpus=2"]
        command += ["--object-store-memory=80000000", "--disable-usage-stats", *words]
        with (self.folder / f"start-{node}.log").open("wb") as log:
            subprocess.run(
                command,
                env={**os.environ, **self.environment, "TMPDIR": str(self.folder)},
                stdout=log,
                stderr=log,
                timeout=START_SECONDS,
                check=True,
            )

    def kill(self, node: int) -> None:
        """What a power cut does: every process of the node, at once."""
        deadline = time.monotonic() + 20
        while processes := ip("netns", "pids", self.space(node)).split():
            assert time.monotonic() < deadline, f"node {node} has processes that cannot be killed"
            for process in processes:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(int(process), signal.SIGKILL)
            time.sleep(0.05)

    def remove(self) -> None:
        for node in (3, 2):
            with contextlib.suppress(OSError):
                self.kill(node)
                ip("netns", "delete", self.space(node))
        with contextlib.suppress(OSError):
            ip("link", "delete", f"clb{os.getpid()}")
        shutil.rmtree(self.folder, ignore_errors=True)


@contextlib.contextmanager
def ray_nodes(python: Path) -> Iterator[RayNodes]:
    nodes = RayNodes(python)
    try:
        nodes.make_networks()
        nodes.start()
        yield nodes
    finally:
        nodes.remove()
