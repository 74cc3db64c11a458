"""The life of one host: stage its data, run its program, upload what it made, leave one durable outcome.

    Starting ──▶ Downloading ──▶ Training ──▶ Uploading ──▶ outcome.json
        └ halt found: the program is never started

A runner is launched at most once for a directory: its lock says that it lives, its state that it lived,
its outcome that it is done. Whoever finds one of these leaves without a trace.
"""

# Paths are plain strings here: they come from and go to system calls.
# ruff: noqa: PTH100, PTH106

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import select
import signal
import socket
import sys
import threading
import time
import traceback
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from clary.runner import (
    container_recipe,
    hostile_files,
    limits,
    locks,
    memory_watch,
    network_entry,
    program,
    progress,
    recipe,
    utilization,
)
from clary.runner.faults import ClientFault
from clary.runner.output import Output
from clary.runner.parts import MakeParts, Parts
from clary.runner.results import Result, out_of_memory_text
from clary.runner.serving import UNHEALTHY, Serving, unhealthy
from clary.runner.spec import HostSpec, SpecError, parse
from clary.runner.transforming import Transforming

_POLL_SECONDS = 1.0  # a lost SIGTERM is made up for by looking at the halt file
_FAILURE_CHARACTERS_MAX = 1024
_OUTPUT_SECONDS_MAX = 60.0
_LAST_LINES_SECONDS_MAX = 0.5
_SHUTDOWN_GRACE_SECONDS = 5.0


class _Halted(Exception):
    """Somebody asked this host to stop, or its time is over, before its program ran."""

    def __init__(self, result: str) -> None:
        super().__init__(result)
        self.result = result


def run(
    path: str, make_parts: MakeParts, started: Callable[[], None] = lambda: None, nursery: str = ""
) -> int:
    """Run the host whose spec.json this is; `started` is called once its lock is held or found held."""
    directory = Path(os.path.abspath(path)).parent
    held = locks.take(str(directory / "runner.lock"))
    if held is None or _has_lived(directory):
        started()
        return 0
    os.ftruncate(held, 0)
    os.pwrite(held, b"%d\n" % os.getpid(), 0)
    began = time.time()
    try:
        document = json.loads((directory / "spec.json").read_bytes())
        spec = parse(document)
        if spec.directory.resolve() != directory.resolve():
            raise SpecError(f"spec: directory {spec.directory} is not where the spec lies")
    except (OSError, ValueError) as problem:
        started()
        _leave(directory, began, Result("failure", failure=str(problem), source="internal"))
        return 1
    sandbox = document.get("sandbox") or {}
    life = _Host(spec, sandbox, make_parts, began, nursery)
    life.run(started)
    # Whoever is told of the outcome removes this directory, and must not find it held any more.
    os.close(held)
    life.progress.poke()
    return 0


def _has_lived(directory: Path) -> bool:
    return (directory / "outcome.json").exists() or (directory / "state.json").exists()


def _leave(
    directory: Path, began: float, result: Result, further: dict[str, Any] | None = None
) -> None:
    ending = result.ending
    document = {
        "result": result.result,
        "exit_code": ending.exit_code if ending else None,
        "signal": ending.signal if ending else None,
        "out_of_memory": result.out_of_memory,
        "failure": result.failure[:_FAILURE_CHARACTERS_MAX],
        "failure_source": result.source if result.result not in ("success", "stopped") else None,
        "message": "",
        "phases": [],
        "started": began,
        "ended": time.time(),
        "metrics": {},
        "outputs": {},
        "log_tail": [],
        **(further or {}),
    }
    progress.replace(directory / "outcome.json", document, durable=True)


class _Host:
    def __init__(
        self,
        spec: HostSpec,
        sandbox: Mapping[str, Any],
        make_parts: MakeParts,
        began: float,
        nursery: str,
    ) -> None:
        self._spec = spec
        self._mode = str(sandbox.get("mode") or "namespaces")
        self._own_network = bool(sandbox.get("own_network", True))
        self._make_parts = make_parts
        self._began = began
        self._deadline = time.monotonic() + spec.limits.seconds
        self._terminated = False
        self._halted = False
        self._wake, self._waker = socket.socketpair()
        self._wake.setblocking(False)
        self._waker.setblocking(False)
        signal.signal(signal.SIGTERM, self._on_terminate)
        signal.set_wakeup_fd(self._waker.fileno(), warn_on_full_buffer=False)
        self._launcher = program.Launcher(nursery)
        self._progress = progress.Progress(spec.directory, spec.wake_socket)
        self._name = group_name(spec.directory)
        self._group = limits.NO_GROUP
        self._ran_out_of_memory = False
        self._output = Output(spec.directory / "log")
        self.unhealthy = UNHEALTHY  # with the reason, once the server was ended for it

    def _on_terminate(self, _number: int, _frame: object) -> None:
        self._terminated = True

    def run(self, started: Callable[[], None]) -> None:
        try:
            self._progress.enter("Starting")
            started()
            result, outputs = self._live()
        except Exception as problem:  # noqa: BLE001  (an outcome must be left whatever happens)
            traceback.print_exc()
            text = f"{type(problem).__name__}: {problem}"
            result, outputs = Result("failure", None, text, "internal"), {}
        self._clean()
        spec = self._spec
        further = {
            "message": _said(spec, spec.message_file),
            "phases": self._progress.phases,
            "metrics": self._progress.metrics,
            "outputs": outputs,
            "log_tail": self._output.tail,
        }
        _leave(spec.directory, self._began, result, further)

    def _live(self) -> tuple[Result, dict[str, Any]]:
        parts = self._make_parts(self._spec, self._progress)
        self._output.add_sink(parts.write)
        try:
            self._stage(parts)
            parts.begin()
        except _Halted as halted:
            return self._end_logs(parts, Result(halted.result)), {}
        except ClientFault as fault:
            return self._end_logs(parts, Result("failure", None, str(fault), "client")), {}
        result = self._train(parts)
        self._progress.enter("Uploading")
        result = self._end_logs(parts, result)
        return self._upload(parts, result)

    # Before the program ---------------------------------------------------------------------------

    def _stage(self, parts: Parts) -> None:
        self._check_halt()
        self._progress.enter("Downloading")
        for name in ("ml", "tmp", "serve") if self._spec.serve else ("ml", "tmp"):
            (self._spec.directory / name).mkdir(exist_ok=True)
        finished = _Task(parts.stage, "staging", self.nudge)
        while not finished.is_done():
            self._check_halt()
            self._wait([], _POLL_SECONDS)
        finished.result()
        self._check_halt()

    def _check_halt(self) -> None:
        reason = self._stop_reason()
        if reason:
            self._progress.stopping.set()
            raise _Halted(reason)

    def _stop_reason(self) -> str:
        """Why this host must end now: control's word, its time limit, or the machine going down."""
        if not self._halted:
            self._halted = (self._spec.directory / "halt").exists()
        if self._halted:
            return "stopped"
        if time.monotonic() > self._deadline:
            return "timeout"
        return "lost" if self._terminated else ""

    # The program -----------------------------------------------------------------------------------

    def _train(self, parts: Parts) -> Result:
        spec = self._spec
        wanted = limits.Wanted(spec.limits.memory_bytes, spec.limits.cpus, spec.limits.processes)
        self._group = limits.make_group(self._name, wanted)
        self._progress.enter("Training")
        try:
            composed = self._compose()
            if spec.transform is not None:
                result = self._transform(composed)
            elif spec.serve is not None:
                result = Serving(self, composed).run()
            else:
                ended = self.run_program(composed, lambda: parts.fault() is not None)
                result = self._judge(*ended, parts.fault())
        except program.StartError as problem:
            return Result("failure", None, str(problem), "internal")
        return result

    def _compose(self) -> dict[str, Any]:
        if self._spec.program.container is not None:
            return container_recipe.compose(self._spec, self._spec.program.container)
        return recipe.compose(self._spec, self._mode, self._group, own_network=self._own_network)

    def run_program(
        self, composed: dict[str, Any], unwell: Callable[[], bool] = lambda: False
    ) -> tuple[program.Ending, str]:
        """Start the program and stay with it to its end; also returns why it was made to end, if it was."""
        spec = self._spec
        writer = self._output.open()
        try:
            if composed["note"]:
                os.write(writer, composed["note"].encode() + b"\n")
            running = program.start(
                composed, writer, self._launcher, spec.program.fork_socket, spec.program.prefix
            )
        finally:
            os.close(writer)
        self._progress.program_started(running.process)
        watch = self._memory_watch(composed, running.process)
        stop_measuring = utilization.start(spec, running.process, composed["lock"])
        reason, kill_at = "", float("inf")
        ending: program.Ending | None = None
        try:
            while ending is None:
                if not reason:
                    reason = self._stop_reason() or ("unwell" if unwell() else "")
                    if reason:
                        if reason == "unwell":
                            self.unhealthy = unhealthy(composed, running.process)
                        running.signal(signal.SIGTERM)
                        grace = spec.grace_seconds
                        if reason in ("lost", "unwell"):
                            grace = min(grace, _SHUTDOWN_GRACE_SECONDS)
                        kill_at = time.monotonic() + grace
                if watch is not None and watch.is_exceeded():
                    self._ran_out_of_memory, kill_at = True, time.monotonic()
                if time.monotonic() >= kill_at:
                    self._progress.stopping.set()
                    running.signal(signal.SIGKILL)
                    kill_at = float("inf")
                pause = min(_POLL_SECONDS, self._deadline - time.monotonic() if not reason else 1.0)
                pause = min(pause, kill_at - time.monotonic())
                pause = pause if watch is None else min(pause, memory_watch.LOOK_SECONDS)
                if running.has_news() or self._wait([running.connection], max(0.0, pause)):
                    ending = running.hear()
        finally:
            stop_measuring()
            running.close()
        return ending, reason

    def _memory_watch(
        self, composed: dict[str, Any], process: int
    ) -> memory_watch.MemoryWatch | None:
        """Stands in for a control group where none could be made."""
        bytes_max = self._spec.limits.memory_bytes
        if not bytes_max or "memory" in self._group.folders or composed["mode"] == "container":
            return None
        lock = composed["lock"]
        return memory_watch.MemoryWatch(
            bytes_max, lambda: [process, network_entry.supervisor_of(lock)]
        )

    def _transform(self, composed: dict[str, Any]) -> Result:
        """The server is there for its batch transform only, and ends with it."""
        transforming = Transforming(self._spec, lambda: bool(self._stop_reason()), self.nudge)
        try:
            ending, reason = self.run_program(composed, transforming.is_over)
        finally:
            transforming.stop()
        told = transforming.told
        if reason not in ("", "unwell"):
            return self._judge(ending, reason)
        if told is not None and (reason or told.result == "success"):
            outputs = {"transform": {"files": told.files, "failed": told.failed}}
            killed = self._ran_out_of_memory or self._group.out_of_memory()
            killed = killed and told.result == "failure"
            lost = out_of_memory_text(self._spec, program.Ending(0, None)) if killed else ""
            failure = f"{lost} {told.failure}".strip()
            return Result(told.result, None, failure, told.source, killed, outputs)
        if reason:
            return Result("failure", ending, self.unhealthy)
        judged = self._judge(ending, "")
        text = "the model server ended before the transform was done, exit code: 0"
        return judged if judged.result != "success" else Result("failure", ending, text)

    def _judge(self, ending: program.Ending, reason: str, fault: Exception | None = None) -> Result:
        spec = self._spec
        if fault is not None and reason in ("", "unwell"):
            # Even a program that ended well has read only a part of its data.
            if isinstance(fault, ClientFault):
                return Result("failure", ending, str(fault), "client")
            return Result("failure", ending, f"{type(fault).__name__}: {fault}", "internal")
        if ending.lost and reason != "stopped":
            return Result("failure", ending, ending.lost, "internal")
        out_of_memory = self._ran_out_of_memory or self._group.out_of_memory()
        out_of_memory = out_of_memory or ending.out_of_memory
        failure = _said(spec, spec.failure_file)
        if reason:
            return Result(reason, ending, failure, "algorithm", out_of_memory)
        if ending.exit_code == 0:
            return Result("success", ending)
        if out_of_memory:
            failure = f"{out_of_memory_text(spec, ending)} {failure}".strip()
        elif not failure and ending.signal:
            failure = f"the program was killed by {ending.signal}"
        elif not failure:
            failure = f", exit code: {ending.exit_code}"
        return Result("failure", ending, failure, "algorithm", out_of_memory)

    # After the program -----------------------------------------------------------------------------

    def _end_logs(self, parts: Parts, result: Result) -> Result:
        if not self._output.finish(_OUTPUT_SECONDS_MAX):
            print("the last log lines could not be shipped in time", file=sys.stderr)
        parts.end_logs()
        if result.out_of_memory and result.result == "failure":
            result = result._replace(failure=_with_last_words(result.failure, self._output.tail))
        self._progress.set_metrics(parts.metrics())
        for failure in self._output.failures:
            print(f"output: {failure}", file=sys.stderr)
        return result

    def _upload(self, parts: Parts, result: Result) -> tuple[Result, dict[str, Any]]:
        try:
            return result, {**(result.outputs or {}), **parts.upload(result.result)}
        except ClientFault as fault:
            if result.result == "failure":
                # The first failure is the one to tell; this one is on record for the operator.
                print(f"upload: {fault}", file=sys.stderr)
                return result, {}
            return Result("failure", result.ending, str(fault), "client"), {}

    def _clean(self) -> None:
        for folder in self._group.remove():
            print(f"control group {folder} could not be removed", file=sys.stderr)
        for name in ("root", "serve"):
            with contextlib.suppress(OSError):
                os.rmdir(self._spec.directory / name)

    # Waiting -----------------------------------------------------------------------------------------

    def _wait(self, sources: list[socket.socket], seconds: float) -> list[Any]:
        """Wait for a source, a signal or a nudge; returns the sources that are readable."""
        ready = select.select([*sources, self._wake], [], [], seconds)[0]
        if self._wake in ready:
            with contextlib.suppress(BlockingIOError):
                self._wake.recv(4096)
        return [source for source in ready if source is not self._wake]

    def nudge(self) -> None:
        with contextlib.suppress(BlockingIOError):
            self._waker.send(b".")

    def pause(self, seconds: float) -> str:
        """Wait, unless there is a reason to stop; returns the reason."""
        until = time.monotonic() + seconds
        while not self._stop_reason() and time.monotonic() < until:
            self._wait([], min(_POLL_SECONDS, until - time.monotonic()))
        return self._stop_reason()

    @property
    def spec(self) -> HostSpec:
        return self._spec

    @property
    def progress(self) -> progress.Progress:
        return self._progress

    def tell(self, text: str) -> None:
        """Say something between the lines of the program, after those that it wrote."""
        self._output.finish(_LAST_LINES_SECONDS_MAX)
        self._output.say(text)

    def judge(self, ending: program.Ending, reason: str) -> Result:
        return self._judge(ending, reason)


class _Task:
    """Work in a thread, so that the runner hears a halt meanwhile; it is abandoned when one comes."""

    def __init__(self, work: Callable[[], object], name: str, nudge: Callable[[], None]) -> None:
        self._problem: BaseException | None = None
        self._done = threading.Event()
        self._work = work
        self._nudge = nudge
        threading.Thread(target=self._run, name=name, daemon=True).start()

    def _run(self) -> None:
        try:
            self._work()
        except BaseException as problem:  # noqa: BLE001  (raised again by result())
            self._problem = problem
        self._done.set()
        self._nudge()

    def is_done(self) -> bool:
        return self._done.is_set()

    def result(self) -> None:
        if self._problem is not None:
            raise self._problem


def _with_last_words(failure: str, tail: list[str]) -> str:
    """The reason and, for what was done at that time, the last traceback or the last lines."""
    begin = max((at for at, line in enumerate(tail) if line.startswith("Traceback")), default=-3)
    words = [line.strip() for line in tail[begin:] if line.strip()]
    return f"{failure} Last log lines: {' | '.join(words)}" if words else failure


def _said(spec: HostSpec, relative: str) -> str:
    if not relative or not spec.ml.is_dir():
        return ""
    return hostile_files.read_text(spec.ml, relative, _FAILURE_CHARACTERS_MAX)


def group_name(directory: Path) -> str:
    """The name of a host's control groups; whoever cleans up after a lost runner finds them by it."""
    return hashlib.sha256(os.fsencode(str(directory))).hexdigest()[:24]
