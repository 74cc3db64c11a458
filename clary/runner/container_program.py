"""A container in place of a sandbox: a small process stays with it, and leaves only once it is removed.

    supervisor ◀── started, status ── keeper ── Engine API ──▶ engine ──▶ container
               ─── {"signal": 15} ──▶

The engine would let a container outlive whoever asked for it. So the keeper ends and removes it when its
supervisor goes, however that ends, and holds the host's program.lock until then.
"""

# Paths are plain strings here: they come from and go to system calls.
# ruff: noqa: PTH108, PTH120

from __future__ import annotations

import contextlib
import json
import os
import select
import signal
import socket
import time
from collections.abc import Iterator
from typing import Any, NoReturn

from clary.runner import channel, init, locks, namespaces, network, network_entry, relay, sockets
from clary.runner.engine_api import Answer, Engine, EngineError, Frames
from clary.runner.starting import Outlets, last_words

Recipe = dict[str, Any]

_JOIN_SECONDS_MAX = 60.0
_LAST_WORDS_SECONDS_MAX = 5.0
_CANNOT_START = 127  # as a shell says it of a program that is not there
_BACKLOG = 512


def start(
    recipe: Recipe, outlets: Outlets, report: socket.socket, unwanted: tuple[socket.socket, ...]
) -> int:
    """Fork the keeper of a container; the descriptor of program.lock stays open in it on purpose."""
    process = os.fork()
    if process == 0:
        with last_words(report):
            init.close_all(*unwanted)
            signal.set_wakeup_fd(-1)
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            for number in (signal.SIGTERM, signal.SIGINT):  # meant for all: it ends with the others
                signal.signal(number, signal.SIG_IGN)
            _Keeper(recipe, outlets.output, report).keep()
    return process


class _Keeper:
    def __init__(self, recipe: Recipe, output: int, report: socket.socket) -> None:
        self._recipe = recipe
        self._engine = Engine(recipe["engine"])
        self._name = str(recipe["name"])
        self._output = output
        self._report = report
        self._relays: list[int] = []
        self._is_orphan = False

    def keep(self) -> NoReturn:
        self._engine.remove(self._name)  # what a keeper that was killed has left
        try:
            ending = self._run()
        finally:
            network_entry.leave(self._relays)
            self._remove()
        self._tell(ending)
        os._exit(0)

    def _remove(self) -> None:
        try:
            self._engine.remove(self._name)
        except EngineError as problem:
            if not problem.status or "dependent containers" not in str(problem):
                raise
            return  # Podman keeps it for those that share its network; the last of them removes it
        for name in self._recipe["peers"]:
            with contextlib.suppress(EngineError):  # most are gone, or run yet
                self._engine.remove(name, force=False)
        with contextlib.suppress(FileNotFoundError):
            os.unlink(self._recipe["marker"])

    def _tell(self, message: dict[str, Any]) -> None:
        with contextlib.suppress(OSError):  # whoever would hear it is gone
            self._report.send(json.dumps(message).encode())

    def _run(self) -> dict[str, Any]:
        """The container's life; returns how it ended."""
        with open(self._recipe["marker"], "w", encoding="utf-8") as file:
            json.dump({"engine": self._engine.path, "name": self._name}, file)
        with self._alone():
            container = self._create()
            try:
                attached, waiting = self._engine.attach(container), self._engine.wait(container)
                self._engine.start(container)
            except EngineError as problem:
                if not _is_the_images(problem):
                    raise
                # The program is not in the image, or cannot be run: the user's to mend.
                self._write(f"{problem}\n".encode(errors="replace"))
                return {"started": True, "status": _CANNOT_START << 8}
        state = (self._engine.inspect(container) or {}).get("State") or {}
        process = int(state.get("Pid") or 0)
        if process and self._recipe["inward"]:
            self._start_relays(process)
        self._tell({"started": True, "process": process})
        return self._stay(container, attached, waiting)

    # Making it -------------------------------------------------------------------------------------

    def _create(self) -> str:
        document = self._recipe["container"]
        peer = self._peer()
        if peer:
            document["HostConfig"]["NetworkMode"] = f"container:{peer}"
            document.pop("Hostname")  # it comes with the network, as engines see it
        try:
            return self._engine.create(self._name, document)
        except EngineError as problem:
            raise RuntimeError(f"the container engine made no container: {problem}") from problem

    def _peer(self) -> str:
        for name in self._recipe["peers"]:
            found = self._engine.inspect(name)
            if found is not None and found["State"].get("Running"):
                return str(found["Id"])
        return ""

    @contextlib.contextmanager
    def _alone(self) -> Iterator[None]:
        """One host of an isolated job at a time looks for a network to join."""
        if not self._recipe["peers"]:
            yield
            return
        generation = os.path.dirname(os.path.dirname(self._recipe["lock"]))
        descriptor = locks.take_folder(generation, _JOIN_SECONDS_MAX)
        try:
            yield
        finally:
            os.close(descriptor)

    # Its network -----------------------------------------------------------------------------------

    def _start_relays(self, process: int) -> None:
        inward, outward = self._recipe["inward"], self._recipe["outward"]
        space = os.open(f"/proc/{process}/ns/net", os.O_RDONLY | os.O_CLOEXEC)
        own = self._recipe["network"] == "own"

        def enter() -> None:
            if own:
                namespaces.setns(space, namespaces.CLONE_NEWNET)

        def listen_outside() -> socket.socket:
            enter()  # the relay stays inside: it is there that it connects
            return sockets.listen(inward["socket"], _BACKLOG)

        def listen_inside() -> socket.socket:
            outside = os.open("/proc/self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
            enter()
            address = (outward["host"], int(outward["port"]))
            listener = socket.create_server(address, backlog=_BACKLOG)
            namespaces.setns(outside, namespaces.CLONE_NEWNET)  # a socket keeps its network
            return listener

        to_server = relay.to_port(network.LOOPBACK, int(inward["port"]))
        self._relays.append(relay.start(listen_outside, to_server, [space]))
        if outward:
            host, port = outward["address"]
            to_door = relay.to_port(host, int(port))
            self._relays.append(relay.start(listen_inside, to_door, [space]))
        os.close(space)

    # Staying with it -------------------------------------------------------------------------------

    def _stay(self, container: str, attached: Answer, waiting: Answer) -> dict[str, Any]:
        frames = Frames()
        self._write(frames.feed(attached.begun))
        body, has_ended = waiting.begun, False
        sources = [attached.connection, waiting.connection, self._report]
        for source in sources:
            source.settimeout(None)
        deadline = float("inf")
        while attached.connection in sources or not has_ended:
            pause = min(60.0, deadline - time.monotonic())
            if pause <= 0:
                break
            for source in select.select(sources, [], [], pause)[0]:
                if source is self._report:
                    self._obey(container, sources)
                    continue
                piece = _receive(source)
                if source is attached.connection:
                    self._write(frames.feed(piece))
                else:
                    body += piece
                if not piece:
                    sources.remove(source)
                    has_ended = has_ended or source is waiting.connection
            if has_ended and deadline == float("inf"):
                deadline = time.monotonic() + _LAST_WORDS_SECONDS_MAX
        return self._ending(container, body)

    def _obey(self, container: str, sources: list[socket.socket]) -> None:
        message = self._report.recv(4096)
        if message:
            self._engine.kill(container, int(json.loads(message)["signal"]))
        else:
            sources.remove(self._report)
            self._engine.kill(container, signal.SIGKILL)

    def _write(self, data: bytes) -> None:
        view = memoryview(data)
        while view and not self._is_orphan:
            try:
                view = view[os.write(self._output, view) :]
            except BrokenPipeError:
                self._is_orphan = True  # its runner is gone; the supervisor will say so

    def _ending(self, container: str, body: bytes) -> dict[str, Any]:
        found = self._engine.inspect(container)
        if found is None or found["State"].get("Running"):
            return {"failed": "the container engine lost the container: see its log"}
        state = found["State"]
        code = json.loads(body).get("StatusCode") if body.strip() else None
        code = int(state.get("ExitCode", 0) if code is None else code)
        return {"status": (code & 0xFF) << 8, "out_of_memory": bool(state.get("OOMKilled"))}


def _is_the_images(problem: EngineError) -> bool:
    """Is there no such program in the image? Podman has no status of its own for that."""
    words = ("no such file or directory", "executable file not found", "permission denied")
    text = str(problem)
    return problem.status == 400 or ("exec" in text and any(word in text for word in words))


def _receive(source: socket.socket) -> bytes:
    try:
        return source.recv(1 << 16)
    except ConnectionError:
        return b""


def remove_left(marker: str) -> None:
    """End and remove the container that a marker names, if its keeper did not; raise EngineError."""
    with open(marker, encoding="utf-8") as file:
        left = json.load(file)
    Engine(left["engine"]).remove(left["name"])


def signal_program(report: socket.socket, number: int) -> None:
    """Have the keeper signal its container."""
    with contextlib.suppress(OSError):  # it has just ended
        channel.send(report, {"signal": number})
