"""Process 1 of a program's namespaces: builds the root, then reaps, passes signals on, and ends with its program."""

# Paths are plain strings here: they come from and go to system calls.
# ruff: noqa: PTH115

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import struct
from collections.abc import Iterable
from typing import Any, NoReturn

from clary.runner import fast_files_mount, namespaces, root_filesystem
from clary.runner.starting import Outlets, execute, last_words, settle

CREDENTIALS = struct.Struct("3i")
_PASSED_ON = (
    signal.SIGTERM,
    signal.SIGINT,
    signal.SIGHUP,
    signal.SIGQUIT,
    signal.SIGUSR1,
    signal.SIGUSR2,
    signal.SIGCONT,
)
# The mount namespace comes last: entering it changes what every path means.
_KINDS = {
    "user": namespaces.CLONE_NEWUSER,
    "pid": namespaces.CLONE_NEWPID,
    "ipc": namespaces.CLONE_NEWIPC,
    "uts": namespaces.CLONE_NEWUTS,
    "net": namespaces.CLONE_NEWNET,
    "mnt": namespaces.CLONE_NEWNS,
}
KINDS = tuple(_KINDS)


def report_channel() -> tuple[socket.socket, socket.socket]:
    """What a sandbox reports through: the near end hears, and learns from the kernel who speaks."""
    near, far = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    near.setsockopt(socket.SOL_SOCKET, socket.SO_PASSCRED, 1)
    return near, far


def sender(ancillary: Any) -> int:
    """The process that sent a message, as the kernel numbers it in the receiver's namespace."""
    for level, kind, data in ancillary:
        if level == socket.SOL_SOCKET and kind == socket.SCM_CREDENTIALS:
            return CREDENTIALS.unpack(data)[0]
    return 0


def enter_namespaces() -> None:
    """New namespaces for this process; that of processes begins with its next child.

    The network is entered before (see `network_entry`). The mounts are left to that child: pivot_root
    would take this process's root away as well.
    """
    flags = namespaces.CLONE_NEWPID | namespaces.CLONE_NEWIPC | namespaces.CLONE_NEWUTS
    user, group = os.geteuid(), os.getegid()
    namespaces.unshare(flags | (namespaces.CLONE_NEWUSER if user != 0 else 0))
    if user != 0:
        namespaces.map_to_root(user, group)


def start(
    recipe: dict[str, Any],
    outlets: Outlets,
    report: socket.socket,
    unwanted: tuple[int | socket.socket, ...],
) -> int:
    """Fork process 1 with the program below it; the caller has entered the namespaces."""
    process = os.fork()
    if process == 0:
        with last_words(report):
            namespaces.die_with_parent()
            close_all(*unwanted)
            _build(recipe)
            _keep_program(recipe, outlets, report)
    return process


def _build(recipe: dict[str, Any]) -> None:
    signal.set_wakeup_fd(-1)
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    # Nothing is lost: a signal that comes before there is a program stays pending until then.
    signal.pthread_sigmask(signal.SIG_BLOCK, _PASSED_ON)
    namespaces.unshare(namespaces.CLONE_NEWNS)
    namespaces.set_hostname(recipe["hostname"])
    fast_files_mount.mount(recipe)
    root_filesystem.build(recipe["root"], recipe["mounts"])


def _keep_program(recipe: dict[str, Any], outlets: Outlets, report: socket.socket) -> NoReturn:
    program = os.fork()
    if program == 0:
        with last_words(report):
            settle(recipe, outlets)
            namespaces.drop_privileges()
            report.send(b'{"started": true}')
            report.close()
            execute(recipe["argv"], recipe["environment"])
    for descriptor in (outlets.output, outlets.error, *outlets.groups, 0, 1, 2):
        os.close(descriptor)
    namespaces.drop_privileges()

    def pass_on(number: int, _frame: object) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.kill(program, number)

    for number in _PASSED_ON:
        signal.signal(number, pass_on)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, _PASSED_ON)
    while True:
        ended, status = os.waitpid(-1, 0)
        if ended == program:
            report.send(json.dumps({"status": status}).encode())
            os._exit(0)


# For a program that a fork server puts in ------------------------------------------------------------


def start_guardian(
    recipe: dict[str, Any], report: socket.socket, unwanted: tuple[int | socket.socket, ...]
) -> int:
    """Fork process 1 without a program; it says when its root stands, and lasts until it is killed."""
    process = os.fork()
    if process == 0:
        with last_words(report):
            namespaces.die_with_parent()
            close_all(*unwanted)
            _build(recipe)
            namespaces.drop_privileges()
            signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGCHLD])
            report.send(b'{"built": true}')
            report.close()
            for descriptor in (0, 1, 2):
                os.close(descriptor)
            _reap_forever()
    return process


def _reap_forever() -> NoReturn:
    while True:
        with contextlib.suppress(ChildProcessError):
            while os.waitpid(-1, os.WNOHANG)[0]:
                pass
        signal.sigwait([signal.SIGCHLD])


def namespaces_of(process: int | str = "self") -> dict[str, str]:
    """The names of the namespaces that a process is in, by kind."""
    return {kind: os.readlink(f"/proc/{process}/ns/{kind}") for kind in _KINDS}


def open_namespaces(process: int, outside: dict[str, str]) -> dict[str, int]:
    """Descriptors of the namespaces of a process that are not those `outside`, by kind."""
    found = {}
    for kind, name in namespaces_of(process).items():
        if name != outside[kind]:
            path = f"/proc/{process}/ns/{kind}"
            found[kind] = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    return found


def join(spaces: dict[str, int], kinds: Iterable[str]) -> None:
    """Enter some of the namespaces; that of processes begins with the next child."""
    for kind in kinds:
        if kind in spaces:
            namespaces.setns(spaces[kind], _KINDS[kind])


def close_all(*unwanted: int | socket.socket) -> None:
    for opened in unwanted:
        if isinstance(opened, int):
            os.close(opened)
        else:
            opened.close()
