"""The way into a program's network: this machine's, one of its own, or one that the hosts of a work share.

A supervisor enters the network that its program is to have, and stays in it. So a network lasts as long
as one of its hosts, needs no name and no keeper, and goes with the last of them, however it ends:

    host 1: makes it ──────────────────────────▶ gone
    host 2:       joins that of host 1's supervisor ─────────▶ gone, and the network with it

Who is there to be joined stands in the hosts' program.lock: its content is the supervisor's process
number, and it is true while the lock is held.
"""

# Paths are plain strings here: they come from and go to system calls.
# ruff: noqa: PTH116, PTH120

from __future__ import annotations

import array
import contextlib
import os
import signal
import socket
from collections.abc import Iterator
from typing import Any

from clary.runner import interfaces, locks, namespaces, relay, sockets
from clary.runner.network import LOOPBACK

# Leads nowhere: an address for documentation, for programs that refuse to meet over loopback alone.
OUTER_INTERFACE, OUTER_ADDRESS = "eth0", "198.51.100.1"
_LOW_PORTS = "/proc/sys/net/ipv4/ip_unprivileged_port_start"
_JOIN_SECONDS_MAX = 15.0
_RELAY_SECONDS_MAX = 10.0
_BACKLOG = 512


def enter(recipe: dict[str, Any], held: int) -> list[int]:
    """Move this process into its program's network; returns the relays that it now has as children.

    `held` is the descriptor of the host's program.lock. What a program has beside its network (mounts,
    processes) is made later; for an ordinary user the user namespace begins here.
    """
    outward, inward = recipe.get("outward"), recipe.get("inward")
    found: list[int] = []
    near, far = socket.socketpair()
    with near, far:
        if outward:
            found.append(_start_outward(outward, far))
        if recipe["network"] == "own":
            with _alone(recipe):
                _join_or_make(recipe["peers"])
                _announce(held)
        else:
            _announce(held)
        if outward:
            _hand_over(near, (outward["host"], int(outward["port"])))
    if inward:
        path, port = inward["socket"], int(inward["port"])
        found.append(
            relay.start(lambda: sockets.listen(path, _BACKLOG), relay.to_port(LOOPBACK, port))
        )
    return found


def leave(relays: list[int]) -> None:
    """End the relays and wait for them: no child of a supervisor outlives it."""
    for process in relays:
        with contextlib.suppress(ProcessLookupError):
            os.kill(process, signal.SIGKILL)
    for process in relays:
        with contextlib.suppress(ChildProcessError):
            os.waitpid(process, 0)


def _announce(held: int) -> None:
    os.ftruncate(held, 0)
    os.pwrite(held, b"%d\n" % os.getpid(), 0)


def supervisor_of(lock: str) -> int:
    """The process that holds a program.lock and is in its program's network; 0 if there is none."""
    try:
        with open(lock, encoding="ascii") as file:
            text = file.read(32).strip()
    except (OSError, UnicodeDecodeError):
        return 0
    return int(text) if text.isdigit() and locks.is_held(lock) else 0


# The network itself ----------------------------------------------------------------------------------


def _join_or_make(peers: list[str]) -> None:
    for lock in peers:
        if _join(lock):
            return
    user, group = os.geteuid(), os.getegid()
    if user == 0:
        namespaces.unshare(namespaces.CLONE_NEWNET)
    else:
        namespaces.unshare(namespaces.CLONE_NEWNET | namespaces.CLONE_NEWUSER)
        namespaces.map_to_root(user, group)
    namespaces.raise_loopback()
    if peers:
        _furnish()


def _furnish() -> None:
    """What hosts that meet in a network of their own may want of it; most do without.

    Where the kernel gives no interface, Open MPI does not span hosts; where it keeps the low ports, sshd
    has no port. Both say so in the job's log.
    """
    with contextlib.suppress(OSError):
        interfaces.add(OUTER_INTERFACE, OUTER_ADDRESS)
    with contextlib.suppress(OSError), open(_LOW_PORTS, "w", encoding="ascii") as file:
        file.write("0")


def _join(lock: str) -> bool:
    process = supervisor_of(lock)
    if not process:
        return False
    with contextlib.ExitStack() as opened:
        spaces: list[tuple[int, int]] = []
        for name, kind in (("user", namespaces.CLONE_NEWUSER), ("net", namespaces.CLONE_NEWNET)):
            try:
                space = os.open(f"/proc/{process}/ns/{name}", os.O_RDONLY | os.O_CLOEXEC)
            except FileNotFoundError:
                return False  # it has just ended
            opened.callback(os.close, space)
            if not os.path.samestat(os.fstat(space), os.stat(f"/proc/self/ns/{name}")):
                spaces.append((space, kind))
        # Still the holder: so the number was its own while the namespaces were opened.
        if supervisor_of(lock) != process:
            return False
        for space, kind in spaces:
            namespaces.setns(space, kind)
    return True


@contextlib.contextmanager
def _alone(recipe: dict[str, Any]) -> Iterator[None]:
    """One host of a work at a time looks for a network to join; a lock on a folder leaves no file behind."""
    if not recipe["peers"]:
        yield
        return
    generation = os.path.dirname(os.path.dirname(recipe["lock"]))
    descriptor = locks.take_folder(generation, _JOIN_SECONDS_MAX)
    try:
        yield
    finally:
        os.close(descriptor)


# Relays ----------------------------------------------------------------------------------------------


def _start_outward(outward: dict[str, Any], channel: socket.socket) -> int:
    """It stays outside, and is handed a listener that was opened inside: a socket keeps its network."""
    host, port = outward["address"]
    return relay.start(
        lambda: _receive_listener(channel), relay.to_port(host, int(port)), [channel.fileno()]
    )


def _receive_listener(channel: socket.socket) -> socket.socket:
    channel.settimeout(_RELAY_SECONDS_MAX)
    size = array.array("i").itemsize
    _, ancillary, _, _ = channel.recvmsg(1, socket.CMSG_SPACE(size))
    channel.close()
    if not ancillary:
        raise OSError("no listener came")
    descriptors = array.array("i", ancillary[0][2][:size])
    return socket.socket(fileno=descriptors[0])


def _hand_over(channel: socket.socket, address: tuple[str, int]) -> None:
    with socket.create_server(address, backlog=_BACKLOG) as listener:
        passed = array.array("i", [listener.fileno()]).tobytes()
        channel.sendmsg([b"."], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, passed)])
