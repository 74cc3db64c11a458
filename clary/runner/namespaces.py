"""Linux namespaces, mounts and privileges, called straight from the C library."""

from __future__ import annotations

import ctypes
import errno
import os
import platform
import re
import socket
import struct
from functools import lru_cache

try:
    import fcntl
except ImportError:  # Windows, where none of this is called
    fcntl = None  # type: ignore[assignment]

CLONE_NEWNS = 0x00020000
CLONE_NEWUTS = 0x04000000
CLONE_NEWIPC = 0x08000000
CLONE_NEWUSER = 0x10000000
CLONE_NEWPID = 0x20000000
CLONE_NEWNET = 0x40000000

MS_RDONLY, MS_NOSUID, MS_NODEV, MS_NOEXEC = 1, 2, 4, 8
MS_REMOUNT, MS_BIND, MS_REC, MS_PRIVATE = 32, 4096, 16384, 1 << 18
MNT_DETACH = 2

_MOUNT_ATTR_RDONLY, _MOUNT_ATTR_NOSUID, _MOUNT_ATTR_NODEV = 1, 2, 4
_AT_FDCWD, _AT_RECURSIVE = -100, 0x8000
_SYS_MOUNT_SETATTR = 442  # the same number on every architecture
_SYS_PIVOT_ROOT = {"x86_64": 155, "aarch64": 41, "riscv64": 41, "ppc64le": 203, "s390x": 217}

_PR_SET_PDEATHSIG, _PR_CAPBSET_DROP, _PR_SET_NO_NEW_PRIVS = 1, 24, 38
_PR_SET_CHILD_SUBREAPER, _PR_CAP_AMBIENT, _PR_CAP_AMBIENT_CLEAR_ALL = 36, 47, 4
_CAPABILITY_VERSION_3 = 0x20080522


@lru_cache(maxsize=1)
def _libc() -> ctypes.CDLL:
    """Load the C library late, so that importing this module works on any system."""
    library = ctypes.CDLL(None, use_errno=True)
    library.mount.argtypes = [
        ctypes.c_char_p,
        ctypes.c_char_p,
        ctypes.c_char_p,
        ctypes.c_ulong,
        ctypes.c_char_p,
    ]
    library.prctl.argtypes = [ctypes.c_int] + [ctypes.c_ulong] * 4
    return library


def be_ready() -> None:
    """Look up, before forks that are to use it, what each of them would look up for itself."""
    if fcntl is None:
        return
    names = ("capset", "mount", "prctl", "sethostname", "setns", "syscall", "umount2", "unshare")
    for name in names:
        getattr(_libc(), name, None)


def _check(result: int, what: str) -> None:
    if result != 0:
        number = ctypes.get_errno()
        raise OSError(number, f"{what}: {os.strerror(number)}")


def _text(value: str | None) -> bytes | None:
    return None if value is None else os.fsencode(value)


def unshare(flags: int) -> None:
    _check(_libc().unshare(flags), f"unshare(0x{flags:x})")


def setns(descriptor: int, kind: int) -> None:
    """Move the calling thread into the namespace that an open /proc/<pid>/ns/* file names."""
    _check(_libc().setns(descriptor, kind), f"setns(0x{kind:x})")


def mount(
    source: str | None,
    target: str,
    kind: str | None = None,
    flags: int = 0,
    data: str | None = None,
) -> None:
    result = _libc().mount(_text(source), _text(target), _text(kind), flags, _text(data))
    _check(result, f"mount {source or kind} on {target}")


def detach(target: str) -> None:
    _check(_libc().umount2(_text(target), MNT_DETACH), f"umount {target}")


def bind(source: str, target: str, writable: bool) -> None:
    """Bind `source` with everything mounted below it; device files and set-user-id bits stay dead."""
    mount(source, target, None, MS_BIND | MS_REC)
    seal(target, read_only=not writable)


def bind_device(source: str, target: str) -> None:
    mount(source, target, None, MS_BIND)


def seal(target: str, read_only: bool) -> None:
    """Take device files and set-user-id (and, if asked, writing) away from a mounted tree."""
    attributes = _MOUNT_ATTR_NOSUID | _MOUNT_ATTR_NODEV | (_MOUNT_ATTR_RDONLY if read_only else 0)
    change = struct.pack("=QQQQ", attributes, 0, 0, 0)
    result = _libc().syscall(
        _SYS_MOUNT_SETATTR, _AT_FDCWD, _text(target), _AT_RECURSIVE, change, len(change)
    )
    if result == 0:
        return
    if ctypes.get_errno() not in (errno.ENOSYS, errno.EPERM):
        _check(result, f"mount_setattr {target}")
    for point, inherited in _mounts_below(os.path.realpath(target)):
        flags = MS_REMOUNT | MS_BIND | MS_NOSUID | MS_NODEV | inherited
        mount(None, point, None, flags | (MS_RDONLY if read_only else 0))


def _mounts_below(target: str) -> list[tuple[str, int]]:
    """Kernels before 5.12 cannot seal a tree at once: list its mounts and the flags they hold."""
    known = {"ro": MS_RDONLY, "nosuid": MS_NOSUID, "nodev": MS_NODEV, "noexec": MS_NOEXEC}
    known.update({"noatime": 1024, "nodiratime": 2048, "relatime": 1 << 21})
    found = []
    with open("/proc/self/mountinfo", encoding="utf-8", errors="surrogateescape") as lines:
        for line in lines:
            fields = line.split()
            point = re.sub(r"\\([0-7]{3})", lambda octal: chr(int(octal.group(1), 8)), fields[4])
            if point == target or point.startswith(target.rstrip("/") + "/"):
                flags = 0
                for word in fields[5].split(","):
                    flags |= known.get(word, 0)
                found.append((point, flags))
    return found


def enter_root(folder: str) -> None:
    """Make `folder` (a mount point) the root of this process and let go of the former root."""
    os.chdir(folder)
    number = _SYS_PIVOT_ROOT.get(platform.machine())
    if number is None:
        raise OSError(errno.ENOSYS, f"pivot_root is not known for {platform.machine()}")
    # With "." twice the old root ends up stacked on the new one, so no folder for it is needed.
    _check(_libc().syscall(number, b".", b"."), f"pivot_root {folder}")
    detach(".")
    os.chdir("/")


def map_to_root(user: int, group: int) -> None:
    """In a new user namespace, let the outer user be root; no other user exists there."""
    for name, text in (
        ("setgroups", "deny"),
        ("uid_map", f"0 {user} 1"),
        ("gid_map", f"0 {group} 1"),
    ):
        with open("/proc/self/" + name, "w", encoding="utf-8") as file:
            file.write(text)


def set_hostname(name: str) -> None:
    encoded = os.fsencode(name)
    _check(_libc().sethostname(encoded, len(encoded)), f"sethostname {name}")


def raise_loopback() -> None:
    """Bring `lo` up in a new network namespace, where it is born down."""
    assert fcntl is not None
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as channel:
        request = struct.pack("16sh14x", b"lo", 0)
        flags = struct.unpack("16sh14x", fcntl.ioctl(channel, 0x8913, request))[1]  # SIOCGIFFLAGS
        fcntl.ioctl(channel, 0x8914, struct.pack("16sh14x", b"lo", flags | 0x1))  # SIOCSIFFLAGS, UP


def die_with_parent() -> None:
    """Have the kernel kill this process when the thread that forked it ends."""
    _check(_libc().prctl(_PR_SET_PDEATHSIG, 9, 0, 0, 0), "prctl PR_SET_PDEATHSIG")


def adopt_orphans() -> None:
    """Become the parent of every orphaned descendant, so that none escapes."""
    _check(_libc().prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0), "prctl PR_SET_CHILD_SUBREAPER")


def drop_privileges() -> None:
    """Give up every capability for good; user 0 stays, as a SageMaker container's process has it."""
    library = _libc()
    for capability in range(64):
        if library.prctl(_PR_CAPBSET_DROP, capability, 0, 0, 0) != 0:
            break  # The first unknown number ends the list; a bounding set that we may not touch
            # is harmless, because no_new_privs keeps programs from regaining what is dropped below.
    library.prctl(_PR_CAP_AMBIENT, _PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0)
    header = struct.pack("=Ii", _CAPABILITY_VERSION_3, 0)
    _check(library.capset(header, struct.pack("=6I", 0, 0, 0, 0, 0, 0)), "capset")
    forbid_new_privileges()


def forbid_new_privileges() -> None:
    _check(_libc().prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0), "prctl PR_SET_NO_NEW_PRIVS")
