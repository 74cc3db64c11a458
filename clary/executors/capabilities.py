"""What this machine can do for a sandbox, each with a sentence for the operator: the facts of `clary doctor`."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from clary.runner import bubblewrap, fast_files_mount, limits, namespaces

_PROBE_SECONDS_MAX = 2
_NO_NETWORKS = (
    "Network namespaces cannot be made ({problem}): isolated jobs are refused, and a server other than "
    "Clary's own must listen on the port that SAGEMAKER_BIND_TO_PORT names."
)
_NO_FAST_FILES = (
    "FUSE cannot be mounted ({problem}): FastFile channels are downloaded before their job starts."
)


@dataclass(frozen=True, slots=True)
class Capabilities:
    """`explanations` has a sentence for every other member, by its name."""

    bubblewrap: bool
    namespaces: bool
    network_namespaces: bool
    fast_files: bool
    cgroup: str | None  # "v1" | "v2" | None
    cgroup_controllers: tuple[str, ...]
    root: bool
    explanations: dict[str, str]

    @property
    def mode(self) -> str:
        """The best way to isolate a program here: bubblewrap, namespaces or plain."""
        if self.bubblewrap:
            return "bubblewrap"
        return "namespaces" if self.namespaces else "plain"


def probe() -> Capabilities:
    """Try what can be tried; takes some 20 ms, so callers keep the answer."""
    explanations: dict[str, str] = {}
    root = hasattr(os, "geteuid") and os.geteuid() == 0
    explanations["root"] = (
        "Clary runs as root: namespaces need no user namespace, and control groups can be made."
        if root
        else "Clary runs as an ordinary user: a sandbox gets a user namespace of its own."
    )
    if not sys.platform.startswith("linux"):
        text = f"{sys.platform} has no namespaces: programs run as plain processes, not isolated."
        explanations |= dict.fromkeys(
            ("bubblewrap", "namespaces", "cgroup", "cgroup_controllers"), text
        )
        explanations["network_namespaces"] = _NO_NETWORKS.format(problem=f"{sys.platform} has none")
        explanations["fast_files"] = _NO_FAST_FILES.format(problem=f"{sys.platform} has no FUSE")
        return Capabilities(False, False, False, False, None, (), root, explanations)
    spaces, network = _namespaces(root, explanations)
    version, controllers = _control_groups(root, explanations)
    wrap = _bubblewrap(root, spaces, explanations)
    fast = _fast_files(root, explanations)
    return Capabilities(wrap, spaces, network, fast, version, controllers, root, explanations)


def _fast_files(root: bool, explanations: dict[str, str]) -> bool:
    def attempt() -> None:
        _enter(namespaces.CLONE_NEWNS, root)
        fast_files_mount.try_out("/tmp")

    problem = _try_in_child(attempt)
    explanations["fast_files"] = (
        "FUSE can be mounted: FastFile channels are fetched while their job reads them."
        if problem is None
        else _NO_FAST_FILES.format(problem=problem)
    )
    return problem is None


def _namespaces(root: bool, explanations: dict[str, str]) -> tuple[bool, bool]:
    wanted = namespaces.CLONE_NEWNS | namespaces.CLONE_NEWPID | namespaces.CLONE_NEWIPC
    wanted |= namespaces.CLONE_NEWUTS
    problem = _try_in_child(lambda: _enter(wanted, root))
    explanations["namespaces"] = (
        "Mount, process, IPC and host name namespaces can be made: every program gets its own root."
        if problem is None
        else f"Namespaces cannot be made ({problem}){_remedy(root)}."
    )
    if problem is not None:
        explanations["network_namespaces"] = _NO_NETWORKS.format(problem="they need namespaces")
        return False, False
    problem = _try_in_child(lambda: _enter(wanted | namespaces.CLONE_NEWNET, root))
    explanations["network_namespaces"] = (
        "Isolated jobs, and each server that listens on port 8080, get a network of their own."
        if problem is None
        else _NO_NETWORKS.format(problem=problem)
    )
    return True, problem is None


def _enter(flags: int, root: bool) -> None:
    user, group = os.geteuid(), os.getegid()
    namespaces.unshare(flags | (0 if root else namespaces.CLONE_NEWUSER))
    if not root:
        namespaces.map_to_root(user, group)
    # Some systems let a user namespace be made, but nothing be mounted in it.
    namespaces.mount(None, "/", None, namespaces.MS_REC | namespaces.MS_PRIVATE)
    namespaces.mount("tmpfs", "/tmp", "tmpfs", 0, "size=4k")


def _try_in_child(attempt: Callable[[], None]) -> str | None:
    """Run an attempt in a forked child; None when it went well, else why it did not."""
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            signal.alarm(_PROBE_SECONDS_MAX)
            attempt()
        except BaseException as problem:  # noqa: BLE001  (the answer travels through the pipe)
            os.write(writer, (str(problem) or type(problem).__name__).encode()[:500])
            os._exit(1)
        os._exit(0)
    os.close(writer)
    with open(reader, "rb") as pipe:
        text = pipe.read().decode(errors="replace")
    _, status = os.waitpid(child, 0)
    return None if status == 0 else text or "no answer"


def _remedy(root: bool) -> str:
    if root:
        return "; inside a container, give it the capability SYS_ADMIN or install bubblewrap"
    for path, allowed in (
        ("/proc/sys/kernel/unprivileged_userns_clone", "1"),
        ("/proc/sys/kernel/apparmor_restrict_unprivileged_userns", "0"),
    ):
        switch = Path(path)
        if switch.exists() and switch.read_text().strip() != allowed:
            return f"; sysctl -w {'.'.join(switch.parts[3:])}={allowed} lets ordinary users do it"
    return "; install bubblewrap, or run Clary as root"


def _bubblewrap(root: bool, spaces: bool, explanations: dict[str, str]) -> bool:
    path = bubblewrap.find()
    if path is None:
        explanations["bubblewrap"] = (
            "bubblewrap is not installed; the kernel's namespaces are used directly."
            if spaces
            else "bubblewrap is not installed: programs run as plain processes, not isolated."
        )
        return False
    command = [path, "--unshare-pid", "--ro-bind", "/", "/", "--dev", "/dev", "--proc", "/proc"]
    command += [] if root else ["--unshare-user"]
    problem = _try_in_child(lambda: os.execv(path, [*command, "--", "/bin/true"]))
    explanations["bubblewrap"] = (
        f"{path} works." if problem is None else f"{path} is installed, but cannot build a sandbox."
    )
    return problem is None


def _control_groups(root: bool, explanations: dict[str, str]) -> tuple[str | None, tuple[str, ...]]:
    version, places = limits.controllers()
    usable = tuple(sorted(places))
    if not usable:
        explanations["cgroup"] = (
            "No control group can be written: each job's memory is watched instead, its processor time"
            " is not limited"
            + ("." if root else "; ordinary users need a delegated group (systemd does it).")
        )
        explanations["cgroup_controllers"] = "none"
        return None, ()
    explanations["cgroup"] = (
        f"Limits are control groups {version}, and running out of memory is told."
    )
    explanations["cgroup_controllers"] = ", ".join(usable)
    return version, usable
