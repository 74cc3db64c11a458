"""Two real Ray nodes for tests, each in a network namespace: two machines, as far as a job can tell.

Neither sees the folder of control, where its environments and its code are. Each has Ray and Clary, and
both keep what they build in one cache: what must be built once for each of them is built once.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import subprocess
import tempfile
import time
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from clary.images import build
from clary.images.environment import Environment
from clary.settings import Settings

TOKEN = "a-token-of-the-tests-that-is-long-enough"
START_SECONDS = 120
ROOT = Path(__file__).resolve().parents[2]
SILENCE_SECONDS = 5.0
# By its own settings Ray takes a minute to miss a node that is cut off.
MISSING = {
    "health_check_initial_delay_ms": 1000,
    "health_check_period_ms": 500,
    "health_check_timeout_ms": 1000,
    "health_check_failure_threshold": 4,
}
# A folder of control's is empty for the node, and with it for all that the node starts.
HIDE = 'mount -t tmpfs none "$0" && exec "$@"'
CPUS = {2: 1, 3: 2}


def environment_of_jobs() -> Environment:
    return Environment("3.11", ("clary-on-nodes==1.0",), ("clary_on_nodes",))


def ray_python() -> Path:
    """A Python with Ray (70 MB to fetch, 240 MB on disk), built once; raises EnvironmentFailed."""
    wanted = Environment("3.11", ("ray[client]>=2.40", "uv"), ("ray", "grpc", "uv"))
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
            "CLARY_RAY_SILENCE_SECONDS": str(SILENCE_SECONDS),
            # Nothing is fetched from afar: the nodes' networks lead nowhere else.
            "UV_FIND_LINKS": str(self.wheels),
            "UV_OFFLINE": "1",
        }

    @property
    def wheels(self) -> Path:
        return self.folder / "wheels"

    @property
    def control(self) -> Path:
        """A folder that the nodes do not see."""
        return self.folder / "control"

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
        self.control.mkdir(mode=0o700)
        write_wheel(self.wheels)
        head = ["--head", "--port=6379", "--ray-client-server-port=10001"]
        head += [f"--system-config={json.dumps(MISSING)}"]
        head += ["--include-dashboard=false", f"--temp-dir={self.folder}"]
        self._start(2, *head)
        self._start(3, f"--address={self.address(2)}:6379")

    def _start(self, node: int, *words: str) -> None:
        command = ["ip", "netns", "exec", self.space(node), "sh", "-c", HIDE, str(self.control)]
        command += [str(self.python.with_name("ray")), "start"]
        command += [f"--node-ip-address={self.address(node)}", f"--num-cpus={CPUS[node]}"]
        command += ["--object-store-memory=80000000", "--disable-usage-stats", *words]
        environment = {**os.environ, **self.environment, "TMPDIR": str(self.folder)}
        environment |= {"CLARY_CACHE": str(self.folder / "cache"), "PYTHONPATH": str(ROOT)}
        with (self.folder / f"start-{node}.log").open("wb") as log:
            subprocess.run(
                command,
                env=environment,
                stdout=log,
                stderr=log,
                timeout=START_SECONDS,
                check=True,
            )

    def connect(self, node: int, *, state: str) -> None:
        """Pull the node's cable (`down`), or plug it in again (`up`)."""
        ip("link", "set", f"clv{os.getpid()}-{node}", state)

    def processes(self, node: int, name: str) -> list[str]:
        """The command lines on the node that have the name in them."""
        found: list[str] = []
        for process in ip("netns", "pids", self.space(node)).split():
            with contextlib.suppress(FileNotFoundError, ProcessLookupError):
                words = Path(f"/proc/{process}/cmdline").read_bytes().decode(errors="replace")
                found += [words.replace("\0", " ")] if name in words else []
        return found

    def unsent(self, node: int, port: int) -> str:
        """What the node's kernel still holds for a port, of processes that are gone."""
        command = ["ip", "netns", "exec", self.space(node), "ss", "-Htn", "state", "fin-wait-1"]
        done = subprocess.run(
            [*command, "dport", "=", f":{port}"],
            capture_output=True,
            text=True,
            timeout=30,
            check=True,
        )
        return done.stdout

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


def write_wheel(folder: Path) -> None:
    """The one package of the tests' environment."""
    folder.mkdir()
    about = "clary_on_nodes-1.0.dist-info"
    files = {
        "clary_on_nodes.py": "",
        f"{about}/METADATA": "Metadata-Version: 2.1\nName: clary-on-nodes\nVersion: 1.0\n",
        f"{about}/WHEEL": "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    }
    record = "".join(f"{name},,\n" for name in (*files, f"{about}/RECORD"))
    with zipfile.ZipFile(folder / "clary_on_nodes-1.0-py3-none-any.whl", "w") as wheel:
        for name, text in {**files, f"{about}/RECORD": record}.items():
            wheel.writestr(name, text)


@contextlib.contextmanager
def ray_nodes(python: Path) -> Iterator[RayNodes]:
    nodes = RayNodes(python)
    try:
        nodes.make_networks()
        nodes.start()
        yield nodes
    finally:
        nodes.remove()
