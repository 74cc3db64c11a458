"""The parent of one program: builds its sandbox, passes signals on, reports how it ended, leaves nothing behind.

    server ─fork─▶ supervisor ─unshare, fork─▶ init (process 1) ─fork─▶ program
                      │                           └ builds the root, reaps, passes signals on
                      └ speaks with the runner; when the runner is gone it kills init, and with it all

A server is a runner's own launcher or an environment's fork server. Neither is needed any more once
the supervisor runs. In the modes `bubblewrap` and `plain` there is no init of ours.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import select
import signal
import socket
import struct
import time
from typing import Any, Callable, Dict, List, NamedTuple, NoReturn, Optional, Tuple

from clary.runner import bubblewrap, channel, namespaces, root_filesystem, sockets
from clary.runner.starting import Outlets, execute, settle

Recipe = Dict[str, Any]
RunPython = Callable[[Recipe], NoReturn]

_CREDENTIALS = struct.Struct("3i")
_PASSED_ON = (
    signal.SIGTERM,
    signal.SIGINT,
    signal.SIGHUP,
    signal.SIGQUIT,
    signal.SIGUSR1,
    signal.SIGUSR2,
    signal.SIGCONT,
)
_START_SECONDS_MAX = 30.0
_REMAINS_SECONDS_MAX = 5.0


def supervise(connection: socket.socket, run_python: Optional[RunPython]) -> NoReturn:
    """Serve one runner, in a process forked for it; never returns."""
    try:
        # The signals of the server (it may ignore SIGCHLD) must not be those of the supervisor.
        for number in (signal.SIGCHLD, signal.SIGTERM, signal.SIGINT, signal.SIGPIPE):
            signal.signal(number, signal.SIG_DFL if number != signal.SIGPIPE else signal.SIG_IGN)
        os.setsid()
        connection.settimeout(_START_SECONDS_MAX)
        recipe, (output, error) = channel.receive_recipe(connection)
        groups = [os.open(path, os.O_WRONLY | os.O_CLOEXEC) for path in recipe["groups"]]
        _supervise(connection, recipe, Outlets(output, error, groups), run_python)
    except BaseException as problem:  # noqa: BLE001  (the runner must hear of every failure)
        with contextlib.suppress(OSError):
            channel.send(connection, {"failed": "%s: %s" % (type(problem).__name__, problem)})
        os._exit(1)
    os._exit(0)


def _supervise(
    connection: socket.socket,
    recipe: Recipe,
    outlets: Outlets,
    run_python: Optional[RunPython],
) -> None:
    held = os.open(recipe["lock"], os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    # Whoever can take this lock knows that the program is gone, even if its runner was killed.
    _take_lock(held)
    wake, waker = socket.socketpair()
    wake.setblocking(False)
    waker.setblocking(False)
    signal.set_wakeup_fd(waker.fileno(), warn_on_full_buffer=False)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    closed = (connection, wake, waker)
    if recipe["mode"] == "namespaces":
        child, report = _start_init(recipe, outlets, run_python, held, closed)
    elif recipe["mode"] == "bubblewrap":
        child, report = _start_bubblewrap(recipe, outlets, held, closed)
    else:
        child, report = _start_plain(recipe, outlets, held, closed)
    for descriptor in (outlets.output, outlets.error, *outlets.groups):
        os.close(descriptor)
    watch = _Watch(connection, wake, report, child, recipe["mode"])
    message = watch.until_exit()
    if recipe["mode"] == "plain":
        _end_remains()
    os.close(held)
    # When the runner is gone there is nobody to tell.
    with contextlib.suppress(OSError):
        channel.send(connection, message)


def _take_lock(descriptor: int) -> None:
    """Wait for a former program of this host, which dies with its supervisor, to be gone."""
    deadline = time.monotonic() + _REMAINS_SECONDS_MAX
    while True:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return
        except BlockingIOError:
            if time.monotonic() > deadline:
                raise RuntimeError("the former program of this host does not end") from None
            time.sleep(0.01)


class _Watch:
    """Waits for the child while it passes on what the runner asks."""

    def __init__(
        self,
        connection: socket.socket,
        wake: socket.socket,
        report: Optional[socket.socket],
        child: int,
        mode: str,
    ) -> None:
        self._connection = connection
        self._wake = wake
        self._report = report
        self._child = child
        self._mode = mode
        self._killed = False
        self._sent: List[int] = []
        self._failed = ""
        self._heard = b""
        self._status: Optional[int] = None
        self._init = 0  # bubblewrap's process 1, once known

    def until_exit(self) -> Dict[str, Any]:
        connection, report = self._connection, self._report
        connection.setblocking(True)
        lines = channel.Lines(connection)
        sources: List[Any] = [connection, self._wake] + ([report] if report else [])
        if report is None:
            with contextlib.suppress(OSError):
                channel.send(connection, {"started": self._child})
        while True:
            for source in select.select(sources, [], [])[0]:
                if source is connection:
                    messages = lines.receive()
                    if messages is None:
                        sources.remove(connection)
                        self._signal(signal.SIGKILL)
                    for message in messages or ():
                        self._signal(int(message["signal"]))
                elif source is report:
                    if not self._hear(sources):
                        sources.remove(report)
                else:
                    with contextlib.suppress(BlockingIOError):
                        self._wake.recv(512)
            ended, status = os.waitpid(self._child, os.WNOHANG)
            if ended:
                while report in sources and self._hear(sources):
                    pass
                return self._verdict(status)

    def _hear(self, sources: List[Any]) -> bool:
        """Take one report of init or bubblewrap; False once there will be none."""
        assert self._report is not None
        try:
            data, ancillary, _, _ = self._report.recvmsg(
                4096, socket.CMSG_SPACE(_CREDENTIALS.size), socket.MSG_DONTWAIT
            )
        except (BlockingIOError, ConnectionResetError):
            return False
        if not data:
            return False
        self._heard += data
        if not self._heard.rstrip().endswith(b"}"):
            return True  # bubblewrap writes its report in pieces
        message = json.loads(self._heard.decode())
        self._heard = b""
        if "status" in message:
            self._status = message["status"]
        elif "failed" in message:
            self._failed = message["failed"]
        elif "child-pid" in message:
            self._init = message["child-pid"]
            with contextlib.suppress(OSError):
                channel.send(self._connection, {"started": self._init})
        elif "started" in message:
            process = 0
            for level, kind, credentials in ancillary:
                if level == socket.SOL_SOCKET and kind == socket.SCM_CREDENTIALS:
                    # The kernel translates the sender's number into our process namespace.
                    process = _CREDENTIALS.unpack(credentials)[0]
            with contextlib.suppress(OSError):
                channel.send(self._connection, {"started": process})
        return True

    def _signal(self, number: int) -> None:
        self._sent.append(number)
        if number == signal.SIGKILL:
            self._killed = True
            os.kill(self._child, number)
        elif self._mode == "bubblewrap":
            bubblewrap.signal_program(self._init, number)
        else:
            os.kill(self._child, number)

    def _verdict(self, status: int) -> Dict[str, Any]:
        if self._failed:
            return {"failed": self._failed}
        if self._killed and self._status is None:
            return {"exited": int(signal.SIGKILL)}
        if self._mode == "bubblewrap":
            return {"exited": bubblewrap.program_status(status, self._sent)}
        if self._status is None and self._mode == "namespaces":
            if os.WIFSIGNALED(status):
                return {"exited": status}
            return {"failed": "process 1 of the sandbox ended without a word"}
        return {"exited": status if self._status is None else self._status}


# Mode `namespaces` ---------------------------------------------------------------------------------


def _start_init(
    recipe: Recipe,
    outlets: Outlets,
    run_python: Optional[RunPython],
    held: int,
    closed: Tuple[socket.socket, ...],
) -> Tuple[int, socket.socket]:
    flags = namespaces.CLONE_NEWNS | namespaces.CLONE_NEWPID
    flags |= namespaces.CLONE_NEWIPC | namespaces.CLONE_NEWUTS
    if recipe["network"] == "none":
        flags |= namespaces.CLONE_NEWNET
    user, group = os.geteuid(), os.getegid()
    if user != 0:
        flags |= namespaces.CLONE_NEWUSER
    namespaces.unshare(flags)
    if user != 0:
        namespaces.map_to_root(user, group)
    near, far = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    near.setsockopt(socket.SOL_SOCKET, socket.SO_PASSCRED, 1)
    child = os.fork()
    if child == 0:
        with _last_words(far):
            namespaces.die_with_parent()
            _close_all(held, near, *closed)
            _be_init(recipe, outlets, run_python, far)
    far.close()
    return child, near


class _last_words(contextlib.AbstractContextManager):  # type: ignore[type-arg]  # noqa: N801
    """Report whatever goes wrong in a forked child, then end it: it must never run its parent's code."""

    def __init__(self, report: socket.socket) -> None:
        self._report = report

    def __exit__(self, kind: object, problem: Optional[BaseException], trace: object) -> NoReturn:
        if problem is not None:
            text = "%s: %s" % (type(problem).__name__, problem)
            with contextlib.suppress(OSError):
                self._report.send(json.dumps({"failed": text[:2000]}).encode())
        os._exit(1)


def _be_init(
    recipe: Recipe, outlets: Outlets, run_python: Optional[RunPython], report: socket.socket
) -> NoReturn:
    signal.set_wakeup_fd(-1)
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    waiting = set(_PASSED_ON)
    # Nothing is lost: a signal that comes before there is a program stays pending until then.
    signal.pthread_sigmask(signal.SIG_BLOCK, waiting)
    namespaces.set_hostname(recipe["hostname"])
    if recipe["network"] == "none":
        namespaces.raise_loopback()
    root_filesystem.build(recipe["root"], recipe["mounts"])
    program = os.fork()
    if program == 0:
        with _last_words(report):
            _be_program(recipe, outlets, run_python, report)
    for descriptor in (outlets.output, outlets.error, *outlets.groups, 0, 1, 2):
        os.close(descriptor)
    namespaces.drop_privileges()

    def pass_on(number: int, _frame: object) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.kill(program, number)

    for number in _PASSED_ON:
        signal.signal(number, pass_on)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, waiting)
    while True:
        ended, status = os.waitpid(-1, 0)
        if ended == program:
            report.send(json.dumps({"status": status}).encode())
            os._exit(0)


def _be_program(
    recipe: Recipe, outlets: Outlets, run_python: Optional[RunPython], report: socket.socket
) -> NoReturn:
    settle(recipe, outlets)
    namespaces.drop_privileges()
    report.send(b'{"started": true}')
    report.close()
    if run_python is not None and recipe.get("python"):
        run_python(recipe)
    execute(recipe["argv"], recipe["environment"])


# Modes `bubblewrap` and `plain` ----------------------------------------------------------------------


def _start_bubblewrap(
    recipe: Recipe, outlets: Outlets, held: int, closed: Tuple[socket.socket, ...]
) -> Tuple[int, socket.socket]:
    near, far = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
    child = os.fork()
    if child == 0:
        with _last_words(far):
            namespaces.die_with_parent()
            _close_all(held, near, *closed)
            settle(dict(recipe, directory="/"), outlets)  # the recipe's folder exists inside only
            os.set_inheritable(far.fileno(), True)
            arguments = bubblewrap.argument_file(recipe, os.geteuid(), far.fileno())
            # Its own environment is empty: a program's LD_PRELOAD must not act outside the sandbox.
            argv = ["bwrap", "--args", str(arguments), "--", *recipe["argv"]]
            os.execve(bubblewrap.find() or "/usr/bin/bwrap", argv, {})
    far.close()
    return child, near


def _start_plain(
    recipe: Recipe, outlets: Outlets, held: int, closed: Tuple[socket.socket, ...]
) -> Tuple[int, None]:
    with contextlib.suppress(OSError, AttributeError):  # other systems know no subreaper
        namespaces.adopt_orphans()
    child = os.fork()
    if child == 0:
        try:
            with contextlib.suppress(OSError, AttributeError):
                namespaces.die_with_parent()
            _close_all(held, *closed)
            settle(recipe, outlets)
            execute(recipe["argv"], recipe["environment"])
        except BaseException as problem:  # noqa: BLE001  (a forked child must end here)
            os.write(2, ("cannot start: %s\n" % problem).encode(errors="replace"))
        os._exit(126)
    return child, None


def _end_remains() -> None:
    """Kill what a plain program left running; as subreaper the supervisor inherits all of it."""
    deadline = time.monotonic() + _REMAINS_SECONDS_MAX
    while time.monotonic() < deadline:
        for process in bubblewrap.children(os.getpid()):
            with contextlib.suppress(ProcessLookupError):
                os.kill(process, signal.SIGKILL)
        try:
            ended, _ = os.waitpid(-1, os.WNOHANG)
        except ChildProcessError:
            return
        if not ended:
            time.sleep(0.005)


def _close_all(held: int, *channels: socket.socket) -> None:
    os.close(held)
    for opened in channels:
        opened.close()
