"""The parent of one program: builds its sandbox, passes signals on, reports how it ended, leaves nothing behind.

    nursery ─fork─▶ supervisor ─unshare, fork─▶ init (process 1) ─fork─▶ program
                       │
                       └ speaks with the runner; when the runner is gone it kills init, and with it all

A warm program is not init's child: the environment's fork server forks it straight into the namespaces
of init (see `fork_server`). In the modes `bubblewrap` and `plain` there is no init of ours.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import select
import signal
import socket
import time
from typing import Any, NoReturn

from clary.runner import (
    bubblewrap,
    channel,
    container_program,
    fast_files_mount,
    init,
    namespaces,
    network_entry,
    sockets,
)
from clary.runner.starting import Outlets, execute, last_words, settle
from clary.runner.watch import Child, Watch

Recipe = dict[str, Any]

_START_SECONDS_MAX = 30.0
_WARM_SECONDS_MAX = 2.0
_REMAINS_SECONDS_MAX = 5.0


def supervise(connection: socket.socket) -> NoReturn:
    """Serve one runner, in a process forked for it; never returns."""
    try:
        # The signals of the server (it may ignore SIGCHLD) must not be those of the supervisor.
        for number in (signal.SIGCHLD, signal.SIGTERM, signal.SIGINT):
            signal.signal(number, signal.SIG_DFL)
        signal.signal(signal.SIGPIPE, signal.SIG_IGN)
        os.setsid()
        connection.settimeout(_START_SECONDS_MAX)
        recipe, (output, error) = channel.receive_recipe(connection, 2)
        groups = [os.open(path, os.O_WRONLY | os.O_CLOEXEC) for path in recipe["groups"]]
        _supervise(connection, recipe, Outlets(output, error, groups))
    except BaseException as problem:  # noqa: BLE001  (the runner must hear of every failure)
        with contextlib.suppress(OSError):
            channel.send(connection, {"failed": f"{type(problem).__name__}: {problem}"})
        os._exit(1)
    os._exit(0)


def _supervise(connection: socket.socket, recipe: Recipe, outlets: Outlets) -> None:
    held = os.open(recipe["lock"], os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    # Whoever can take this lock knows that the program is gone, even if its runner was killed.
    _take_lock(held)
    wake, waker = socket.socketpair()
    wake.setblocking(False)
    waker.setblocking(False)
    signal.set_wakeup_fd(waker.fileno(), warn_on_full_buffer=False)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    outside = init.namespaces_of() if recipe["mode"] == "namespaces" or recipe.get("warm") else {}
    # A container's network is there with the container; its keeper enters it.
    relays = [] if recipe["mode"] == "container" else network_entry.enter(recipe, held)
    child = _start(recipe, outlets, held, (connection, wake, waker), outside)
    for descriptor in (outlets.output, outlets.error, *outlets.groups):
        os.close(descriptor)
    message = Watch(connection, wake, child).until_exit()
    network_entry.leave(relays)
    if child.mode in ("plain", "bubblewrap"):
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
            os.ftruncate(descriptor, 0)  # it names a former holder
            return
        except BlockingIOError:
            if time.monotonic() > deadline:
                raise RuntimeError("the former program of this host does not end") from None
            time.sleep(0.01)


def _start(
    recipe: Recipe,
    outlets: Outlets,
    held: int,
    closed: tuple[socket.socket, ...],
    outside: dict[str, str],
) -> Child:
    child = _start_warm(recipe, outlets, held, closed, outside) if recipe.get("warm") else None
    if child is not None:
        return child
    if recipe["mode"] == "namespaces":
        init.enter_namespaces()
        near, far = init.report_channel()
        process = init.start(recipe, outlets, far, (held, near, *closed))
        far.close()
        return Child(process, "namespaces", near)
    if recipe["mode"] == "container":
        near, far = init.report_channel()
        process = container_program.start(recipe, outlets, far, (near, *closed))
        far.close()
        return Child(process, "container", near)
    if recipe["mode"] == "bubblewrap":
        return _start_bubblewrap(recipe, outlets, held, closed)
    return _start_plain(recipe, outlets, held, closed)


# A fork of a warm environment ------------------------------------------------------------------------


def _start_warm(
    recipe: Recipe,
    outlets: Outlets,
    held: int,
    closed: tuple[socket.socket, ...],
    outside: dict[str, str],
) -> Child | None:
    """Have the fork server fork the program into new namespaces; None where there is no server."""
    try:
        server = sockets.connect(recipe["warm"], _WARM_SECONDS_MAX)
    except OSError:
        return None  # not warm yet, or no more: it costs time, nothing else
    init.enter_namespaces()
    near, far = init.report_channel()
    unwanted = (held, near, server, outlets.output, outlets.error, *outlets.groups, *closed)
    process = init.start_guardian(recipe, far, unwanted)
    try:
        _await_root(near)
        spaces = init.open_namespaces(process, outside)
        names = [*spaces, "report", "output", "error"] + ["group"] * len(outlets.groups)
        given = [*spaces.values(), far.fileno(), outlets.output, outlets.error, *outlets.groups]
        asked = {key: recipe[key] for key in ("argv", "environment", "directory", "rlimits")}
        channel.send_recipe(server, {**asked, "descriptors": names}, given)
        init.close_all(*spaces.values(), far)
        server.settimeout(_START_SECONDS_MAX)
        lines = channel.Lines(server)
        answer = lines.receive()
        if not answer or "forked" not in answer[0]:
            raise RuntimeError(f"the fork server refused: {answer}")
        lines.put_back(answer[1:])  # a short program may have ended already
    except BaseException:
        # With process 1 dead nothing can run in its namespaces: the runner may try another way.
        os.kill(process, signal.SIGKILL)
        os.waitpid(process, 0)
        raise
    return Child(process, "warm", near, server, lines)


def _await_root(near: socket.socket) -> None:
    near.settimeout(_START_SECONDS_MAX)
    message = json.loads(near.recv(4096) or b"{}")
    if "built" not in message:
        raise RuntimeError(message.get("failed", "process 1 ended before it had built its root"))


# Modes `bubblewrap` and `plain` ----------------------------------------------------------------------


def _start_bubblewrap(
    recipe: Recipe, outlets: Outlets, held: int, closed: tuple[socket.socket, ...]
) -> Child:
    namespaces.adopt_orphans()  # its process 1, should bubblewrap itself be killed
    near, far = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
    process = os.fork()
    if process == 0:
        with last_words(far):
            namespaces.die_with_parent()
            init.close_all(held, near, *closed)
            fast_files_mount.mount_for_bubblewrap(recipe)
            settle(dict(recipe, directory="/"), outlets)  # the recipe's folder exists inside only
            os.set_inheritable(far.fileno(), True)
            arguments = bubblewrap.argument_file(recipe, os.geteuid(), far.fileno())
            # Its own environment is empty: a program's LD_PRELOAD must not act outside the sandbox.
            argv = ["bwrap", "--args", str(arguments), "--", *recipe["argv"]]
            os.execve(bubblewrap.find() or "/usr/bin/bwrap", argv, {})
    far.close()
    return Child(process, "bubblewrap", near)


def _start_plain(
    recipe: Recipe, outlets: Outlets, held: int, closed: tuple[socket.socket, ...]
) -> Child:
    with contextlib.suppress(OSError, AttributeError):  # other systems know no subreaper
        namespaces.adopt_orphans()
    process = os.fork()
    if process == 0:
        try:
            with contextlib.suppress(OSError, AttributeError):
                namespaces.die_with_parent()
            init.close_all(held, *closed)
            settle(recipe, outlets)
            execute(recipe["argv"], recipe["environment"])
        except BaseException as problem:  # noqa: BLE001  (a forked child must end here)
            os.write(2, (f"cannot start: {problem}\n").encode(errors="replace"))
        os._exit(126)
    return Child(process, "plain", None)


def _end_remains() -> None:
    """Kill and bury what is left running below; as subreaper the supervisor inherits all of it."""
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
            select.select([], [], [], 0.005)
