"""Runs a Python program inside a process that has already imported half of it, as a fresh interpreter would."""

# Paths are plain strings here: they come from and go to system calls.
# ruff: noqa: PTH100, PTH109, PTH110, PTH113, PTH118, PTH119, PTH120

from __future__ import annotations

import atexit
import ctypes
import gc
import io
import os
import random
import re
import runpy
import signal
import sys
import tempfile
import threading
import time
import traceback
import types
from collections.abc import Callable
from importlib.machinery import BuiltinImporter, SourceFileLoader
from typing import Any, NamedTuple, NoReturn

# A fresh interpreter reads these before anything else; a forked one has already read the server's.
_EMULATED = {"PYTHONPATH", "PYTHONUNBUFFERED", "PYTHONDONTWRITEBYTECODE", "PYTHONIOENCODING"}
_LOADER = ("LD_PRELOAD", "LD_LIBRARY_PATH", "LD_AUDIT", "GLIBC_TUNABLES", "MALLOC_ARENA_MAX")
_UTF8 = ("", "utf-8", "utf8", "utf-8:strict", "utf8:strict")
_PYTHON = re.compile(r"python(3(\.\d+)?)?\Z")
# What the number of threads of a numeric library is called, by the library that has it.
_THREAD_SETTERS = (
    "openblas_set_num_threads",
    "openblas_set_num_threads64_",
    "scipy_openblas_set_num_threads",
    "scipy_openblas_set_num_threads64_",
    "omp_set_num_threads",
    "MKL_Set_Num_Threads",
    "bli_thread_set_num_threads",
)
_NUMERIC_LIBRARY = re.compile(r"openblas|gomp|libomp|iomp5|mkl_rt|blis", re.IGNORECASE)


class Invocation(NamedTuple):
    """What a `python ...` command line asks for."""

    kind: str  # script | module | code
    what: str
    arguments: list[str]
    unbuffered: bool
    executable: str  # what sys.executable is called


def invocation(
    argv: list[str], environment: dict[str, str], prefix: str = sys.prefix
) -> Invocation | None:
    """How to run a command line in process; None when only a fresh interpreter does it right."""
    if any(
        name in environment
        for name in environment
        if name in _LOADER or (name.startswith("PYTHON") and name not in _EMULATED)
    ):
        return None
    if environment.get("PYTHONIOENCODING", "").lower() not in _UTF8:
        return None
    unbuffered = bool(environment.get("PYTHONUNBUFFERED"))
    program = argv[0]
    own = os.path.join(prefix, "bin")
    if os.path.dirname(program) not in ("", own):
        return None
    if not _PYTHON.match(os.path.basename(program)):
        return _console_script(os.path.join(own, os.path.basename(program)), argv, unbuffered, own)
    executable = os.path.join(own, os.path.basename(program))
    if not os.path.exists(executable):
        return None
    rest = list(argv[1:])
    while rest and rest[0] == "-u":
        unbuffered = True
        del rest[0]
    if len(rest) >= 2 and rest[0] in ("-m", "-c"):
        kind = "module" if rest[0] == "-m" else "code"
        return Invocation(kind, rest[1], rest[2:], unbuffered, executable)
    if rest and not rest[0].startswith("-"):
        return Invocation("script", rest[0], rest[1:], unbuffered, executable)
    return None


def _console_script(path: str, argv: list[str], unbuffered: bool, own: str) -> Invocation | None:
    """An entry point such as `train`: a file of the environment that its own Python interprets."""
    try:
        with open(path, "rb") as file:
            first = file.readline(512)
    except OSError:
        return None
    interpreter = os.fsdecode(first[2:].strip()) if first.startswith(b"#!") else ""
    if os.path.dirname(interpreter) != own or not _PYTHON.match(os.path.basename(interpreter)):
        return None
    return Invocation("script", path, argv[1:], unbuffered, interpreter)


class Baseline(NamedTuple):
    """What the warm parent holds before it forks; a program must not see more of it than a fresh one."""

    path: list[str]
    last_module: str  # what was imported after it is the program's own
    thread_setters: list[Any]


def baseline() -> Baseline:
    return Baseline(list(sys.path), next(reversed(sys.modules)), _thread_setters())


def _thread_setters() -> list[Any]:
    """The functions of loaded numeric libraries that set how many threads they use."""
    found = []
    for path in _loaded_libraries():
        library = ctypes.CDLL(path)
        for name in _THREAD_SETTERS:
            function = getattr(library, name, None)
            if function is not None:
                function.argtypes, function.restype = [ctypes.c_int], None
                found.append(function)
    return found


def _loaded_libraries() -> set[str]:
    found = set()
    with open("/proc/self/maps", encoding="utf-8", errors="surrogateescape") as lines:
        for line in lines:
            path = line[line.find("/") :].rstrip("\n") if "/" in line else ""
            if path and _NUMERIC_LIBRARY.search(os.path.basename(path)) and os.path.exists(path):
                found.add(path)
    return found


def run(
    asked: Invocation, environment: dict[str, str], held: Baseline, tell: Callable[[int], None]
) -> NoReturn:
    """Become the program; never returns. `tell` hears the exit code just before the end."""
    _take_environment(asked, environment, held)
    code = 0
    try:
        _run_main(asked)
    except SystemExit as ending:
        code = _exit_code(ending)
    except KeyboardInterrupt:
        _finish(held)
        # Die of the signal as CPython does, so that the parent sees why.
        signal.signal(signal.SIGINT, signal.SIG_DFL)
        os.kill(os.getpid(), signal.SIGINT)
    except BaseException:  # noqa: BLE001  (any uncaught error of a program ends it with 1)
        code = 1
        _print_uncaught()
    code = _finish(held) or code
    tell(code)
    os._exit(code)


def _take_environment(asked: Invocation, environment: dict[str, str], held: Baseline) -> None:
    os.environ.clear()
    os.environ.update(environment)
    time.tzset()
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGPIPE, signal.SIG_IGN)
    for number, name in ((1, "stdout"), (2, "stderr")):
        raw = io.FileIO(number, "w", closefd=False)
        stream = io.TextIOWrapper(
            # Text goes on a line at a time even then, so that no other process's comes between.
            raw if asked.unbuffered else io.BufferedWriter(raw),  # type: ignore[arg-type]
            encoding="utf-8",
            errors="strict" if number == 1 else "backslashreplace",
            line_buffering=asked.unbuffered or number == 2,
        )
        stream.mode = "w"  # type: ignore[misc]
        setattr(sys, name, stream)
        setattr(sys, f"__{name}__", stream)
    sys.stdin = sys.__stdin__ = io.TextIOWrapper(
        io.BufferedReader(io.FileIO(0, "r", closefd=False)), encoding="utf-8"
    )
    sys.executable = asked.executable
    sys.dont_write_bytecode = bool(environment.get("PYTHONDONTWRITEBYTECODE"))
    sys.path[:] = [path for path in environment.get("PYTHONPATH", "").split(":") if path]
    sys.path += held.path
    tempfile.tempdir = None
    random.seed()
    numpy_random = sys.modules.get("numpy.random")
    if numpy_random is not None:
        numpy_random.seed()  # type: ignore[attr-defined]
    _set_threads(environment, held)


def _set_threads(environment: dict[str, str], held: Baseline) -> None:
    """The parent keeps numeric libraries to one thread, so that a fork is safe; the program may use more."""
    for function in held.thread_setters:
        names = ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS")
        if "openblas" not in function.__name__:
            names = ("MKL_NUM_THREADS",) * ("MKL" in function.__name__) + ("OMP_NUM_THREADS",)
        asked = next((environment[name] for name in names if environment.get(name)), "")
        # OMP_NUM_THREADS may be a list, one number for each level of nesting.
        first = asked.split(",")[0].strip()
        count = int(first) if first.isdigit() and int(first) > 0 else len(os.sched_getaffinity(0))
        function(count)


def _run_main(asked: Invocation) -> None:
    main = types.ModuleType("__main__")
    main.__dict__["__builtins__"] = sys.modules["builtins"]
    sys.modules["__main__"] = main
    if asked.kind == "module":
        sys.argv[:] = ["-m", *asked.arguments]
        sys.path.insert(0, os.getcwd())
        # This is what `python -m` itself calls; only it leaves `__main__` as a module's author expects.
        runpy._run_module_as_main(asked.what)  # type: ignore[attr-defined]
    elif asked.kind == "code":
        sys.argv[:] = ["-c", *asked.arguments]
        sys.path.insert(0, "")
        main.__loader__ = BuiltinImporter
        exec(compile(asked.what, "<string>", "exec"), main.__dict__)
    elif os.path.isfile(asked.what) and not asked.what.endswith((".zip", ".pyz")):
        sys.argv[:] = [asked.what, *asked.arguments]
        sys.path.insert(0, os.path.dirname(os.path.realpath(asked.what)))
        _run_script(asked.what, main)
    elif os.path.exists(asked.what):
        sys.argv[:] = [asked.what, *asked.arguments]
        sys.path.insert(0, asked.what)
        runpy._run_module_as_main("__main__", False)  # type: ignore[attr-defined]
    else:
        text = "%s: can't open file '%s': [Errno 2] No such file or directory"
        print(text % (sys.executable, os.path.abspath(asked.what)), file=sys.stderr)
        raise SystemExit(2)


def _run_script(path: str, main: types.ModuleType) -> None:
    with open(path, "rb") as file:
        source = file.read()
    main.__file__ = os.path.abspath(path) if sys.version_info >= (3, 9) else path
    main.__loader__ = SourceFileLoader("__main__", path)
    main.__dict__["__cached__"] = None
    exec(compile(source, path, "exec", dont_inherit=True), main.__dict__)


def _exit_code(ending: SystemExit) -> int:
    if ending.code is None:
        return 0
    if isinstance(ending.code, int):
        return ending.code & 0xFF
    sys.stdout.flush()
    print(ending.code, file=sys.stderr)
    return 1


def _print_uncaught() -> None:
    """Print the error as the interpreter does, without the frames of this module and of runpy's caller."""
    kind, error, trace = sys.exc_info()
    here = __file__
    while trace is not None and trace.tb_frame.f_code.co_filename == here:
        trace = trace.tb_next
    if error is not None:
        error.__traceback__ = trace
    try:
        sys.excepthook(kind, error, trace)  # type: ignore[arg-type]
    except BaseException:  # noqa: BLE001  (a broken hook must not hide the error)
        traceback.print_exc()
        traceback.print_exception(kind, error, trace)


def _finish(held: Baseline) -> int:
    """What an interpreter does before it ends; 120 when the output could not be flushed, as CPython has it."""
    steps: tuple[Any, ...] = (
        threading._shutdown,  # type: ignore[attr-defined]
        atexit._run_exitfuncs,  # type: ignore[attr-defined]
        lambda: _drop_modules(held),
    )
    for step in steps:
        try:
            step()
        except BaseException:  # noqa: BLE001  (the next step must run all the same)
            traceback.print_exc()
    try:
        sys.stdout.flush()
        sys.stderr.flush()
    except (OSError, ValueError):
        return 120
    return 0


def _drop_modules(held: Baseline) -> None:
    """Let go of the program's own objects: a file that it left open is flushed by being collected."""
    stdout, stderr = sys.stdout, sys.stderr
    own = ["__main__"]
    # From the newest back, and no further: to look at a name is to write its page.
    for name in reversed(sys.modules):
        if name == held.last_module or held.last_module not in sys.modules:
            break
        own.append(name)
    for name in own:
        module = sys.modules.get(name)
        if name.startswith("importlib") or not isinstance(module, types.ModuleType):
            continue
        for key in list(module.__dict__):
            if key != "__builtins__":
                module.__dict__[key] = None
    gc.collect()
    sys.stdout, sys.stderr = stdout, stderr
