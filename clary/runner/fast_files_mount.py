"""The FastFile channels of a program, mounted in its own mount namespace; the runner outside answers for them.

    process 1 (or what becomes bubblewrap) ── mounts, by a descriptor of /dev/fuse
         └── the descriptor, over the runner's socket ──▶ runner, which reads requests from it

The kernel wants the descriptor opened in the user namespace that mounts it, so it is made here and handed
over. The mount goes with its namespace; when the runner goes, its descriptor goes with it, and whatever
the program then reads fails at once.
"""

# Paths are plain strings here: they come from and go to system calls.
# ruff: noqa: PTH112

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from . import channel, namespaces, sockets
from .fast_files_protocol import READ_BYTES_MAX
from .spec import HostSpec

DEVICE = "/dev/fuse"
SOCKET = "fast-files.sock"  # in the host's directory
_HAND_OVER_SECONDS_MAX = 10.0


def streamed(spec: HostSpec) -> list[str]:
    """The names of the channels that are mounted rather than downloaded."""
    if spec.no_fast_files:
        return []
    return [one.name for one in spec.inputs if one.mode == "FastFile" and one.type == "S3Prefix"]


def of(spec: HostSpec) -> dict[str, Any] | None:
    """What a recipe says of them."""
    # What is mounted on may hold no link; those that lead to the host's directory are the operator's.
    ml = spec.ml.resolve()
    targets = {one.name: str(ml / one.target) for one in spec.inputs}
    mounts = [[name, targets[name]] for name in streamed(spec)]
    return {"socket": str(spec.directory / SOCKET), "mounts": mounts} if mounts else None


def mount(recipe: dict[str, Any]) -> None:
    """Mount them where the host's directory has their folders; this process has mounts of its own.

    Whatever binds the host's directory later takes them along.
    """
    asked = recipe.get("fast_files")
    if not asked:
        return
    # Nothing of this may reach the machine's own mounts.
    namespaces.mount(None, "/", None, namespaces.MS_REC | namespaces.MS_PRIVATE)
    for name, place in asked["mounts"]:
        if not os.path.isdir(place) or os.path.realpath(place) != place:
            raise OSError(f"channel {name} has no folder at {place}")
        descriptor = _mount(place)
        try:
            with sockets.connect(asked["socket"], _HAND_OVER_SECONDS_MAX) as connection:
                said = {"channel": name, "device": _device_of(place), "descriptors": ["fuse"]}
                channel.send_recipe(connection, said, [descriptor])
        finally:
            os.close(descriptor)


def mount_for_bubblewrap(recipe: dict[str, Any]) -> None:
    """The same for a process that becomes bubblewrap, which takes over the mounts it finds."""
    if not recipe.get("fast_files"):
        return
    user, group = os.geteuid(), os.getegid()
    namespaces.unshare(namespaces.CLONE_NEWNS | (namespaces.CLONE_NEWUSER if user != 0 else 0))
    if user != 0:
        namespaces.map_to_root(user, group)
    mount(recipe)


def try_out(folder: str) -> None:
    """Raise OSError where nothing of this can be mounted; the caller has namespaces to spoil."""
    os.close(_mount(folder))


def _mount(place: str) -> int:
    descriptor = os.open(DEVICE, os.O_RDWR | os.O_CLOEXEC)
    try:
        options = [f"fd={descriptor}", "rootmode=40000", "user_id=0", "group_id=0"]
        options += ["allow_other", "default_permissions", f"max_read={READ_BYTES_MAX}"]
        flags = namespaces.MS_RDONLY | namespaces.MS_NOSUID | namespaces.MS_NODEV
        namespaces.mount("clary", place, "fuse.clary", flags, ",".join(options))
    except BaseException:
        os.close(descriptor)
        raise
    return descriptor


def _device_of(place: str) -> str:
    """The mount's device as `major:minor`; asking the mount itself would wait for the runner."""
    found = ""
    for line in Path("/proc/self/mountinfo").read_bytes().splitlines():
        fields = line.split(b" ")
        if fields[4] == _escaped(place):
            found = fields[2].decode("ascii")
    return found


def _escaped(path: str) -> bytes:
    text = os.fsencode(path)
    for byte in (b"\\", b" ", b"\t", b"\n"):
        text = text.replace(byte, b"\\%03o" % ord(byte))
    return text
