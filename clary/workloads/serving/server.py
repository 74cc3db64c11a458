"""The model server of an image: `python -m clary.workloads.serving.server`.

    listen ──▶ fork ──▶ answer 503 while the model loads ──▶ serve; another fork, should it die
         └──▶ with N workers: load first, then serve in N forks
         └──▶ with SAGEMAKER_MULTI_MODEL=true: serve in a fork, which loads models when asked to

The environment says what to serve and where: CLARY_SERVE_SOCKET or SAGEMAKER_BIND_TO_PORT (8080),
SAGEMAKER_PROGRAM and SAGEMAKER_SUBMIT_DIRECTORY with CLARY_SERVING_FRAMEWORK, or
CLARY_SERVING_HANDLER (`module:attribute`, see handlers.py) for a model without a user's script.
"""

from __future__ import annotations

import argparse
import asyncio
import atexit
import contextlib
import gc
import io
import logging
import os
import socket
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from clary.workloads.serving import memory, processes
from clary.workloads.serving.handlers import Handler, load_handler
from clary.workloads.serving.isolation import Isolations
from clary.workloads.serving.multi_model import MultiModel
from clary.workloads.serving.script import (
    DEFAULTS,
    load_isolated,
    load_script,
    program_of,
    survives_no_fork,
)
from clary.workloads.serving.service import Application, Limits, Service
from clary.workloads.serving.single_model import SingleModel
from clary.workloads.serving.tracebacks import UsersTracebacks
from clary.workloads.serving.waiting import WaitingRoom

log = logging.getLogger("clary.serving")

if TYPE_CHECKING:
    # Python 3.8 cannot subscript this when the module is run.
    MakeApplication = Callable[[asyncio.AbstractEventLoop], Application]
    Serve = Callable[[processes.Fork], int]

THREAD_SETTINGS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")
FRAMEWORKS = (*DEFAULTS, "none")


def main(argv: list[str] | None = None) -> int:
    """Load the model and serve it until SIGTERM; return the exit code."""
    options = _options(argv)
    _set_up_output()
    limits = limits_from(os.environ)
    workers = _count(os.environ, "SAGEMAKER_MODEL_SERVER_WORKERS", 1, 1, 256)
    listener = listen(os.environ)
    try:
        if os.environ.get("SAGEMAKER_MULTI_MODEL", "").lower() == "true":
            # Should a model crash the process, a new one starts empty and the host, answered with
            # 404, loads again what it needs. More processes than one would not share their models.
            workers = 1
            work = _working_with_many(options, limits, listener)
        elif workers == 1:
            work = _working_alone(options, limits, listener)
        else:
            work = _working_beside_others(options, limits, listener)
        if work is None:
            return 1
        return processes.supervise(work, workers, limits.grace_seconds)
    finally:
        listener.close()
        path = os.environ.get("CLARY_SERVE_SOCKET")
        if path:
            Path(path).unlink(missing_ok=True)


def _working_with_many(
    options: argparse.Namespace, limits: Limits, listener: socket.socket
) -> Serve:
    _one_thread_each(forks=False)
    make = _many_models(options, limits)

    def work(fork: processes.Fork) -> int:
        fork.begin()
        return serve(listener, make, limits)

    return work


def _working_alone(options: argparse.Namespace, limits: Limits, listener: socket.socket) -> Serve:
    """Load in the process that serves: threads and devices of a model do not survive a fork.

    Its parent has no model and nothing to crash of, so a new process takes over at once.
    """

    def work(fork: processes.Fork) -> int:
        _one_thread_each(forks=False)
        # Requests that come while a dead process is replaced wait for the next one.
        with contextlib.nullcontext() if fork.replaces else WaitingRoom(listener):
            handler = _loaded(options)
        if handler is None:
            return processes.CANNOT_SERVE
        fork.begin()
        code = serve(listener, _one_model(handler, limits), limits)
        atexit._run_exitfuncs()  # what a script registered; a fork ends without
        return code

    return work


def _working_beside_others(
    options: argparse.Namespace, limits: Limits, listener: socket.socket
) -> Serve | None:
    """Load once before the forks, which share the memory, where the model can stand that."""
    threads = _one_thread_each(forks=True)
    handler: Handler | None = None
    each_loads = survives_no_fork(options.framework)
    if not each_loads:
        with WaitingRoom(listener):
            handler = _loaded(options)
        if handler is None:
            return None

    def work(fork: processes.Fork) -> int:
        _set_threads(threads)
        mine = _loaded(options) if each_loads else handler
        if mine is None:
            return processes.CANNOT_SERVE
        fork.begin()
        return serve(listener, _one_model(mine, limits), limits)

    return work


def serve(listener: socket.socket, make: MakeApplication, limits: Limits) -> int:
    """Serve in this process until it is told to end."""
    # What is loaded by now stays: collections need not look at it again while requests wait.
    gc.collect()
    gc.freeze()
    loop = _new_loop()
    try:
        return loop.run_until_complete(Service(make, limits, loop).run(listener))
    finally:
        loop.close()


def _one_model(handler: Handler, limits: Limits) -> MakeApplication:
    return lambda loop: SingleModel(handler, limits, loop)


def _many_models(options: argparse.Namespace, limits: Limits) -> MakeApplication:
    def make(loop: asyncio.AbstractEventLoop) -> Application:
        shared = Isolations()
        shared.install()

        def load_one(model_dir: str) -> Handler:
            if options.handler and not program_of(model_dir, os.environ):
                return load_handler(options.handler, model_dir)
            return load_isolated(model_dir, options.framework, os.environ, shared)

        return MultiModel(load_one, limits, loop)

    return make


def _loaded(options: argparse.Namespace) -> Handler | None:
    """The handler with its model; None, and the reason in the log, where it cannot be loaded."""
    started = time.monotonic()
    try:
        handler = load(options)
    except Exception:
        log.exception("The model could not be loaded.")
        return None
    log.info("The model is loaded after %.2f s.", time.monotonic() - started)
    return handler


def load(options: argparse.Namespace) -> Handler:
    """Load what the options and the environment name."""
    model_dir = os.path.join(os.environ.get("SAGEMAKER_BASE_DIR", "/opt/ml"), "model")  # noqa: PTH118
    if options.handler and not program_of(model_dir, os.environ):
        return load_handler(options.handler, model_dir)
    return load_script(model_dir, options.framework, os.environ)


def listen(environ: Mapping[str, str]) -> socket.socket:
    """Open the socket that the environment names."""
    path = environ.get("CLARY_SERVE_SOCKET")
    if path:
        return _listen_unix(path)
    port = _count(environ, "SAGEMAKER_BIND_TO_PORT", 8080, 0, 65535)
    listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    listener.bind((environ.get("CLARY_SERVE_ADDRESS", "0.0.0.0"), port))
    listener.listen(2048)
    listener.setblocking(False)
    return listener


def limits_from(environ: Mapping[str, str]) -> Limits:
    """Read the limits; a value that is no number stops the server with its name."""
    megabytes = _count(environ, "SAGEMAKER_MAX_PAYLOAD_IN_MB", 100, 0, 4096) or 100
    size = _count(environ, "SAGEMAKER_MAX_REQUEST_SIZE", megabytes << 20, 1, 4096 << 20)
    seconds = _count(environ, "SAGEMAKER_MODEL_SERVER_TIMEOUT", 0, 0, 86400)
    memory_megabytes = _count(environ, "CLARY_MODELS_MEMORY_MB", 0, 0, 1 << 24)
    return Limits(
        answer_seconds=_count(environ, "SAGEMAKER_MODEL_SERVER_TIMEOUT_SECONDS", seconds, 0, 86400),
        memory_bytes_max=memory.limit_of(memory_megabytes << 20),
        body_bytes_max=size,
        default_accept=environ.get("SAGEMAKER_DEFAULT_INVOCATIONS_ACCEPT") or "*/*",
        batching=environ.get("SAGEMAKER_MODEL_SERVER_BATCHING", "on").lower()
        not in ("off", "false", "0", "no"),
    )


def _options(argv: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="serve", description=__doc__)
    parser.add_argument(
        "--framework",
        choices=FRAMEWORKS,
        default=os.environ.get("CLARY_SERVING_FRAMEWORK", "none"),
        help="whose defaults fill in for functions that the user's script does not define",
    )
    parser.add_argument(
        "--handler",
        default=os.environ.get("CLARY_SERVING_HANDLER"),
        help="module:attribute of the handler, where no SAGEMAKER_PROGRAM is given",
    )
    return parser.parse_args(argv)


def _one_thread_each(*, forks: bool) -> dict[str, str]:
    """Limit the numeric libraries to one thread: requests are the parallelism of a server.

    Where the user asks for more, they get them; but threads of OpenMP that have worked before a fork
    are missed for ever after it, so then only the processes that serve have them. Return what those
    are to have.
    """
    asked = {name: os.environ[name] for name in THREAD_SETTINGS if name in os.environ}
    if "OMP_NUM_THREADS" in asked and not forks:
        return asked
    for name in THREAD_SETTINGS:
        if forks:
            os.environ[name] = "1"
        else:
            os.environ.setdefault(name, "1")
    _limit_threads(1)
    return asked if "OMP_NUM_THREADS" in asked else {}


def _set_threads(asked: dict[str, str]) -> None:
    """In a process that serves: what the user asked for."""
    os.environ.update(asked)
    count = asked.get("OMP_NUM_THREADS", "")
    if count.isdigit() and int(count) > 1:
        _limit_threads(int(count))


def _limit_threads(count: int) -> None:
    if "numpy" not in sys.modules:
        return
    # A warm process has imported numpy already, and the libraries read those names only once.
    try:
        import threadpoolctl
    except ImportError:
        log.info("numpy is loaded already and threadpoolctl is missing: its threads stay.")
        return
    threadpoolctl.threadpool_limits(count)


def _listen_unix(path: str) -> socket.socket:
    socket_path = Path(path)
    if socket_path.is_socket():
        socket_path.unlink()
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    # The kernel's addresses hold 107 bytes; through an open directory a longer path fits too.
    folder = os.open(socket_path.parent, os.O_RDONLY | os.O_DIRECTORY)
    try:
        short = len(os.fsencode(path)) <= 107
        listener.bind(path if short else f"/proc/self/fd/{folder}/{socket_path.name}")
    finally:
        os.close(folder)
    socket_path.chmod(0o600)
    listener.listen(2048)
    listener.setblocking(False)
    return listener


def _new_loop() -> asyncio.AbstractEventLoop:
    try:
        import uvloop
    except ImportError:
        return asyncio.new_event_loop()
    return uvloop.new_event_loop()


def _set_up_output() -> None:
    """What a script prints is seen at once, and its errors without the frames of this server."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(line_buffering=True)
    level = _log_level(os.environ)
    style = "%(levelname)s %(name)s: %(message)s"
    handler = logging.StreamHandler()
    # Whoever looks into the server itself asks for all there is.
    shown = logging.Formatter if level <= logging.DEBUG else UsersTracebacks
    handler.setFormatter(shown(style))
    logging.basicConfig(level=level, handlers=[handler])


def _log_level(environ: Mapping[str, str]) -> int:
    return _count(environ, "SAGEMAKER_CONTAINER_LOG_LEVEL", logging.INFO, 0, 100)


def _count(environ: Mapping[str, str], name: str, default: int, low: int, high: int) -> int:
    text = environ.get(name)
    if not text:
        return default
    try:
        number = int(text)
    except ValueError:
        raise SystemExit(f"{name} must be a whole number, not {text!r}") from None
    if not low <= number <= high:
        raise SystemExit(f"{name} must be between {low} and {high}, not {number}")
    return number


if __name__ == "__main__":
    processes.leave(main())
