"""From a host spec to a container: what the engine is asked to make in place of a sandbox."""

# Paths are plain strings here: they come from and go to system calls.
# ruff: noqa: PTH101

from __future__ import annotations

import hashlib
import os
import re
from pathlib import Path
from typing import Any

from clary.runner import network, recipe
from clary.runner.program import StartError
from clary.runner.spec import ML, Container, HostSpec

MARKER = (
    "container.json"  # in the host's directory for as long as the engine may have its container
)
_START_SECONDS_MAX = 300.0
_NAME_CHARACTERS_MAX = 100
_NO_ISOLATED_SERVER = (
    "A container that serves under network isolation has a network that only root can relay into. "
    "Run Clary as root, or create the model without EnableNetworkIsolation."
)


def compose(
    spec: HostSpec, container: Container, *, enters_networks: bool | None = None
) -> dict[str, Any]:
    """The recipe for a supervisor. `enters_networks`: may this user enter a container's network?"""
    enters = os.geteuid() == 0 if enters_networks is None else enters_networks
    folder = spec.directory
    (folder / "hosts").write_text(recipe.hosts_file(spec), encoding="utf-8")
    net = network.of(spec, own_network=enters)
    if spec.network_isolation and net.kind != "own":
        raise StartError(_NO_ISOLATED_SERVER)
    _open_to_any_user(spec.ml)
    return {
        "mode": "container",
        "note": "",
        "groups": [],
        "lock": str(folder / "program.lock"),
        "network": net.kind,
        "inward": net.inward,
        "outward": net.outward,
        "start_seconds": _START_SECONDS_MAX,
        "engine": container.engine,
        "name": name(spec.directory),
        "marker": str(folder / MARKER),
        # The hosts of an isolated job share the network of the first that has come up.
        "peers": [name(Path(lock).parent) for lock in net.peers],
        "container": _document(spec, container, net),
    }


def name(directory: Path) -> str:
    """The container's name: the same for every try of one host, and no other host's on this machine."""
    parts = list(directory.parts[-3:])  # the work, its generation, the host
    readable = re.sub(r"[^A-Za-z0-9_.-]+", "-", "-".join(parts))[:_NAME_CHARACTERS_MAX]
    return f"clary-{readable}-{hashlib.sha256(os.fsencode(str(directory))).hexdigest()[:10]}"


def _document(spec: HostSpec, container: Container, net: network.Network) -> dict[str, Any]:
    """The body of the call that creates a container."""
    environment = environment_of(spec, net)
    found: dict[str, Any] = {
        "Image": container.image,
        "Env": [f"{key}={value}" for key, value in environment.items()],
        "Hostname": spec.host if re.fullmatch(r"[A-Za-z0-9-]{1,63}", spec.host) else "algo-1",
        "AttachStdout": True,
        "AttachStderr": True,
        "Labels": {
            "org.clary.work": spec.work,
            "org.clary.host": spec.host,
            "org.clary.directory": str(spec.directory),
        },
        "HostConfig": {
            "NetworkMode": "host" if net.kind == "host" else "none",
            "Mounts": [_mount(*entry) for entry in _mounts(spec)],
            # The lines are shipped as they come; the engine need not keep them as well.
            "LogConfig": {"Type": "none"},
            **_limits(spec),
        },
    }
    argv = list(spec.program.argv)
    found.update({"Entrypoint": argv, "Cmd": []} if container.entry_point else {"Cmd": argv})
    if container.user:
        found["User"] = container.user
    if container.gpus:
        found["HostConfig"]["DeviceRequests"] = [{"Count": -1, "Capabilities": [["gpu"]]}]
    return found


def environment_of(spec: HostSpec, net: network.Network) -> dict[str, str]:
    """The platform's words, then the job's own, which win; PATH and the like are the image's."""
    found = {} if spec.network_isolation else recipe.platform(spec, net)
    if net.port:
        found["SAGEMAKER_BIND_TO_PORT"] = str(net.port)
    found.update({key: str(value) for key, value in spec.program.environment.items()})
    return found


def _limits(spec: HostSpec) -> dict[str, Any]:
    wanted = spec.limits
    # A bound, not a reservation: loaders that share memory need more than an engine's 64 MB.
    memory = wanted.memory_bytes or os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    found: dict[str, Any] = {"ShmSize": memory // 2, "OomScoreAdj": 500}
    if wanted.memory_bytes:
        found.update(Memory=wanted.memory_bytes, MemorySwap=wanted.memory_bytes)
    if wanted.cpus:
        found["NanoCpus"] = int(wanted.cpus * 1e9)
    if wanted.processes:
        found["PidsLimit"] = wanted.processes
    return found


def _mounts(spec: HostSpec) -> list[list[str]]:
    found = [["write", str(spec.ml), ML], ["read", str(spec.directory / "hosts"), "/etc/hosts"]]
    found += [["read", path, path] for path in spec.program.read_only]
    found += [["write", path, path] for path in spec.program.writable]
    outside = recipe.checkpoints_outside(spec)
    return [*found, outside] if outside is not None else found


def _mount(kind: str, source: str, target: str) -> dict[str, Any]:
    return {"Type": "bind", "Source": source, "Target": target, "ReadOnly": kind == "read"}


def _open_to_any_user(ml: Path) -> None:
    """An image may name any user; the host's directory around this folder is closed to all but Clary's."""
    for parent, folders, _ in os.walk(ml):
        os.chmod(parent, 0o777)
        # What was staged is there to be read.
        folders[:] = [one for one in folders if not (parent == str(ml) and one == "input")]
