"""Runs the user's entry point: a script in a fork of this warm process, or a command.

toolkit ──fork──▶ child: the script, in this interpreter, with its imports already made
   │ ◀──pipe──── its stderr: passed on, and its tail kept for the failure text
   └──SIGTERM──▶ forwarded to the child
"""

from __future__ import annotations

import atexit
import logging
import os
import re
import runpy
import select
import shlex
import signal
import subprocess
import sys
import threading
import time
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import FrameType, ModuleType

from clary.workloads.toolkit.failures import TAIL_BYTES, TRACEBACK, CommandFailed, UserError

log = logging.getLogger("clary.toolkit")

DRAIN_SECONDS = 1.0
POLL_SECONDS = 0.05
_NAME = re.compile(r"[A-Za-z0-9._][A-Za-z0-9._+-]*(/[A-Za-z0-9._+-]+)*")


class EntryPointError(UserError):
    """The entry point's name cannot be run."""


@dataclass(frozen=True)
class EntryPoint:
    """What to run, where, and with what."""

    kind: str
    name: str
    code: Path
    arguments: list[str]
    environment: dict[str, str]
    packages: list[Path]
    # What a launcher's run is called in the log and in a failure, and how it is started afresh.
    shown: tuple[str, ...] = ()

    @property
    def command(self) -> list[str]:
        """The command line that this stands for."""
        if self.shown:
            return list(self.shown)
        if self.kind == "script":
            return [sys.executable, self.name, *self.arguments]
        if self.kind == "module":
            return [sys.executable, "-m", _module(self.name), *self.arguments]
        words = " ".join(shlex.quote(word) for word in (self.name, *self.arguments))
        return ["/bin/sh", "-c", f"./{words}"]


def kind_of(code: Path, name: str) -> str:
    """Return "script", "module" or "command", as the public toolkit tells them apart."""
    if not name:
        raise EntryPointError("sagemaker_program must name the script to run.")
    if not _NAME.fullmatch(name) or any(part in (".", "..") for part in name.split("/")):
        raise EntryPointError(
            f"The entry point {name!r} must be a path inside the source directory, of letters, "
            "digits and . _ + - / only."
        )
    file = (code / name).resolve()
    if code.resolve() not in file.parents:
        raise EntryPointError(f"The entry point {name!r} lies outside the source directory.")
    if name.endswith(".sh"):
        kind = "command"
    elif (code / "setup.py").is_file() or (is_project(code) and not file.is_file()):
        return "module"
    else:
        kind = "script" if name.endswith(".py") else "command"
    if not file.is_file():
        raise EntryPointError(f"The entry point {name!r} is not in the source directory.")
    return kind


def is_project(code: Path) -> bool:
    """Say whether pyproject.toml describes a package; many only hold settings of tools."""
    file = code / "pyproject.toml"
    if not file.is_file():
        return False
    text = file.read_text(encoding="utf-8", errors="replace")
    return bool(re.search(r"^\s*\[(project|tool\.poetry)\]", text, re.MULTILINE))


def run(entry: EntryPoint) -> None:
    """Run to the end; `CommandFailed` if that is not a success."""
    log.info("Invoking script: %s", entry.command)
    if entry.kind == "command" and not entry.shown:
        (entry.code / entry.name).chmod(0o755)
    read_end, write_end = os.pipe()
    sys.stdout.flush()
    sys.stderr.flush()
    with _Forwarding() as forwarding:
        if entry.kind in ("command", "program") or _must_start_afresh(entry.packages):
            pid = _spawn(entry, write_end)
        else:
            pid = os.fork()
            if not pid:
                os.close(read_end)
                _child(entry, write_end, forwarding)
        os.close(write_end)
        forwarding.child(pid)
        status, tail = _follow(pid, read_end)
    code = -os.WTERMSIG(status) if os.WIFSIGNALED(status) else os.WEXITSTATUS(status)
    if code:
        raise CommandFailed(entry.command, code, tail.decode("utf-8", "replace"))


class _Forwarding:
    """Passes SIGTERM and SIGINT on to the child, also one that comes before the child is there."""

    def __init__(self) -> None:
        self._pid = 0
        self._early: list[int] = []
        self._previous: dict[int, object] = {}

    def __enter__(self) -> _Forwarding:
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGTERM, signal.SIGINT):
                self._previous[number] = signal.signal(number, self._forward)
        return self

    def __exit__(self, *_: object) -> None:
        self.restore()

    def child(self, pid: int) -> None:
        """Forward to this process from now on."""
        self._pid = pid
        for number in self._early:
            self._send(number)

    def restore(self) -> None:
        """Give the signals back to whoever had them."""
        for number, handler in self._previous.items():
            signal.signal(number, handler)  # type: ignore[arg-type]

    def _forward(self, number: int, frame: FrameType | None) -> None:
        if self._pid:
            self._send(number)
        else:
            self._early.append(number)

    def _send(self, number: int) -> None:
        try:
            os.kill(self._pid, number)
        except ProcessLookupError:
            self._pid = 0


def _follow(pid: int, read_end: int) -> tuple[int, bytes]:
    """Pass the child's stderr on until it ends; return its status and the tail of stderr."""
    tail = bytearray()
    status: int | None = None
    deadline = None
    try:
        while True:
            ready, _, _ = select.select([read_end], [], [], POLL_SECONDS)
            if ready:
                piece = os.read(read_end, 1 << 16)
                if not piece:
                    break
                _pass_on(piece)
                tail += piece
                del tail[:-TAIL_BYTES]
            if status is None:
                done, found = os.waitpid(pid, os.WNOHANG)
                if done:
                    status, deadline = found, time.monotonic() + DRAIN_SECONDS
            # A process that the script left behind may hold the pipe open for ever.
            if deadline is not None and (not ready or time.monotonic() > deadline):
                break
    finally:
        os.close(read_end)
    if status is None:
        status = os.waitpid(pid, 0)[1]
    return status, bytes(tail)


def _pass_on(piece: bytes) -> None:
    view = memoryview(piece)
    while view:
        view = view[os.write(2, view) :]


def _spawn(entry: EntryPoint, write_end: int) -> int:
    environment = dict(entry.environment)
    paths = [str(path) for path in entry.packages]
    if environment.get("PYTHONPATH"):
        paths.append(environment["PYTHONPATH"])
    if paths:
        environment["PYTHONPATH"] = os.pathsep.join(paths)
    try:
        process = subprocess.Popen(entry.command, cwd=entry.code, env=environment, stderr=write_end)
    except OSError as problem:
        raise EntryPointError(f"{entry.name} cannot be started: {problem}") from problem
    # The child is waited for by its id; the object must not look for it when it is collected.
    process.returncode = 0
    return process.pid


def _must_start_afresh(packages: list[Path]) -> bool:
    """Say whether a package just installed is imported already, in another version."""
    for directory in packages:
        if directory.is_dir():
            names = {entry.name.partition(".")[0] for entry in directory.iterdir()}
            if names & set(sys.modules):
                return True
    return False


def _child(entry: EntryPoint, write_end: int, forwarding: _Forwarding) -> None:
    """Be the script. Never returns: the parent's stack must not be unwound here."""
    code = 1
    try:
        os.dup2(write_end, 2)
        os.close(write_end)
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, signal.SIG_DFL if number == signal.SIGTERM else _interrupt)
        with _exit_handlers_of_its_own():
            code = _execute(entry)
    finally:
        try:
            sys.stdout.flush()
            sys.stderr.flush()
        finally:
            os._exit(code)


def _interrupt(number: int, frame: FrameType | None) -> None:
    raise KeyboardInterrupt


@contextmanager
def _exit_handlers_of_its_own() -> Iterator[None]:
    """End as an interpreter ends: wait for threads, then run what was registered for the exit."""
    try:
        yield
    finally:
        threading._shutdown()  # type: ignore[attr-defined]
        atexit._run_exitfuncs()


def _execute(entry: EntryPoint) -> int:
    os.environ.clear()
    os.environ.update(entry.environment)
    _unbuffered()
    os.chdir(entry.code)
    module = _module(entry.name)
    file = entry.code / entry.name
    first = entry.code if entry.kind == "module" else file.parent
    sys.path[:0] = [str(first), *(str(path) for path in entry.packages)]
    sys.argv = [entry.name, *entry.arguments]
    try:
        if entry.kind == "module":
            runpy.run_module(module, run_name="__main__", alter_sys=True)
        else:
            _run_main(file, entry.name)
    except SystemExit as end:
        return _exit_code(end)
    except BaseException as problem:  # noqa: BLE001
        _print_error(problem)
        return 130 if isinstance(problem, KeyboardInterrupt) else 1
    return 0


def _unbuffered() -> None:
    """Lines reach the log when they are printed, although a pipe is not a terminal."""
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(line_buffering=True)  # type: ignore[union-attr]


def _run_main(file: Path, name: str) -> None:
    """Run a file as __main__, which stays so: threads, pickles and exit handlers look there."""
    main = ModuleType("__main__")
    main.__dict__.update({"__file__": name, "__cached__": None, "__builtins__": __builtins__})
    sys.modules["__main__"] = main
    exec(compile(file.read_bytes(), str(name), "exec"), main.__dict__)


def _exit_code(end: SystemExit) -> int:
    if end.code is None:
        return 0
    if isinstance(end.code, int):
        return end.code & 0xFF
    print(end.code, file=sys.stderr)
    return 1


def _print_error(problem: BaseException) -> None:
    """Print the traceback without the toolkit's own frames."""
    trace = problem.__traceback__
    own = {__file__, runpy.__file__}
    while trace is not None and (
        trace.tb_frame.f_code.co_filename in own
        or trace.tb_frame.f_code.co_filename.startswith("<frozen runpy")
    ):
        trace = trace.tb_next
    if trace is None:
        print(TRACEBACK, file=sys.stderr)  # the script itself has not begun, as it cannot be read
    traceback.print_exception(type(problem), problem, trace)


def _module(name: str) -> str:
    return (name[:-3] if name.endswith(".py") else name).replace("/", ".")
