"""The supervisor: starts control and the door, starts them again when they die, stops both.

It runs as `python -m clary.supervisor` for as long as the installation is up, so it imports as little
as it can: the standard library's smallest modules, nothing of Clary.

    run/supervisor.lock   held while it lives: there is at most one for a home
    run/server.json       where the server answers and how its children fare, rewritten on each change
    logs/*.log            what the children print, cut when it grows too large
"""

# pathlib would be a tenth of this process's memory.
# ruff: noqa: PTH101, PTH103, PTH105, PTH108, PTH110, PTH118, PTH202

import fcntl
import json
import os
import select
import signal
import sys
import time

CHILDREN = {"control": "clary.server", "door": "clary.dataplane.__main__"}
STOP_ORDER = ("door", "control")  # requests in flight still need control
STOP_SECONDS = {"door": 15.0, "control": 15.0}
DELAY_SECONDS_MIN = 0.2
DELAY_SECONDS_MAX = 10.0
STEADY_SECONDS = 30.0  # a child that lived this long starts again without delay
TICK_SECONDS = 2.0
LOG_BYTES_MAX = 16 * 1024 * 1024
CANNOT_START = 78  # a child's exit code for what no restart can mend
ALREADY_RUNNING = 75
PARENT_DEATH_SIGNAL = 1  # prctl's PR_SET_PDEATHSIG


class Child:
    """One supervised process and the wait before its next start."""

    def __init__(self, name: str, module: str) -> None:
        self.name = name
        self.module = module
        self.pid = 0
        self.starts = 0
        self.started = 0.0
        self.due = 0.0
        self.delay = DELAY_SECONDS_MIN
        self.ended = ""

    def describe(self) -> dict[str, object]:
        state = "running" if self.pid else "waiting"
        document = {"state": state, "pid": self.pid, "restarts": max(0, self.starts - 1)}
        return {**document, "last_end": self.ended} if self.ended else document


class Supervisor:
    """Keeps the children of one home alive until it is told to stop."""

    def __init__(self, home: str, url: str, *, foreground: bool, owner: int) -> None:
        self.home = home
        self.url = url
        self.run = os.path.join(home, "run")
        self.logs = os.path.join(home, "logs")
        self.foreground = foreground
        self.owner = owner
        self.children = [Child(name, module) for name, module in CHILDREN.items()]
        self.started = time.time()
        self.stopping = 0  # how often it was told to
        self.failure = ""

    def serve(self) -> int:
        wakes, wake = os.pipe()
        os.set_blocking(wake, False)
        os.set_blocking(wakes, False)
        signal.set_wakeup_fd(wake, warn_on_full_buffer=False)
        signal.signal(signal.SIGCHLD, lambda *_: None)
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            signal.signal(number, self._told_to_stop)
        while not self.stopping and not self.failure:
            self._start_due()
            self._sleep(wakes)
            self._reap()
            self._cut_logs()
            if self.owner and os.getppid() != self.owner:
                self._say("the process that owns this server is gone")
                break
        self._stop_all(wakes)
        if self.failure:
            self._say(self.failure)
            return CANNOT_START
        return 0

    def _told_to_stop(self, *_: object) -> None:
        self.stopping += 1

    def _sleep(self, wakes: int) -> None:
        now = time.monotonic()
        due = [child.due - now for child in self.children if not child.pid]
        seconds = max(0.0, min([TICK_SECONDS, *due]))
        if select.select([wakes], [], [], seconds)[0]:
            os.read(wakes, 4096)

    def _start_due(self) -> None:
        for child in self.children:
            if not child.pid and time.monotonic() >= child.due:
                child.started = time.monotonic()
                child.starts += 1
                child.pid = self._fork(child)
                self._publish()

    def _fork(self, child: Child) -> int:
        parent = os.getpid()
        pid = os.fork()
        if pid:
            return pid
        # In the child: nothing here may return into the supervisor's code.
        try:
            self._become(child, parent)
        except OSError as problem:
            os.write(2, f"{child.name} cannot be started: {problem}\n".encode())
        finally:
            os._exit(127)

    def _become(self, child: Child, parent: int) -> None:
        os.setsid()
        signal.set_wakeup_fd(-1)
        for number in (signal.SIGCHLD, signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            signal.signal(number, signal.SIG_DFL)
        _die_with_parent(parent)
        os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
        if not self.foreground:
            log = self._log_path(child.name)
            descriptor = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
            os.dup2(descriptor, 1)
            os.dup2(descriptor, 2)
        os.execv(sys.executable, [sys.executable, "-P", "-m", "clary.start", child.module])

    def _reap(self) -> None:
        for child in self.children:
            if not child.pid:
                continue
            pid, status = os.waitpid(child.pid, os.WNOHANG)
            if pid:
                self._ended(child, status)

    def _ended(self, child: Child, status: int) -> None:
        child.pid = 0
        code = os.waitstatus_to_exitcode(status)
        child.ended = f"exit code {code}" if code >= 0 else signal.Signals(-code).name
        if self.stopping:
            return
        if code == CANNOT_START:
            self.failure = f"{child.name} cannot start: see {self._log_path(child.name)}"
            return
        if time.monotonic() - child.started > STEADY_SECONDS:
            child.delay = DELAY_SECONDS_MIN
        self._say(f"{child.name} ended ({child.ended}); starting it again in {child.delay:g} s")
        child.due = time.monotonic() + child.delay
        child.delay = min(DELAY_SECONDS_MAX, child.delay * 2)
        self._publish()

    def _stop_all(self, wakes: int) -> None:
        """Each child gets its time to finish; whoever says "stop" again ends that."""
        self.stopping = max(1, self.stopping)
        for name in STOP_ORDER:
            child = next(child for child in self.children if child.name == name)
            if not child.pid:
                continue
            os.kill(child.pid, signal.SIGTERM)
            deadline = time.monotonic() + STOP_SECONDS[name]
            while child.pid and time.monotonic() < deadline and self.stopping < 2:
                if select.select([wakes], [], [], 0.2)[0]:
                    os.read(wakes, 4096)
                self._reap()
            if child.pid:
                self._say(f"{name} did not stop in time and is killed")
                os.kill(child.pid, signal.SIGKILL)
                _, status = os.waitpid(child.pid, 0)
                self._ended(child, status)

    def _publish(self) -> None:
        document = {
            "pid": os.getpid(),
            "url": self.url,
            "started": self.started,
            "children": {child.name: child.describe() for child in self.children},
        }
        path = os.path.join(self.run, "server.json")
        with open(path + ".tmp", "w", encoding="utf-8") as file:
            json.dump(document, file)
        os.replace(path + ".tmp", path)

    def _cut_logs(self) -> None:
        """Keep one older copy. The children append, so the emptied file goes on from its start."""
        for name in () if self.foreground else (*CHILDREN, "supervisor"):
            path = self._log_path(name)
            if os.path.exists(path) and os.path.getsize(path) > LOG_BYTES_MAX:
                with open(path, "rb") as source, open(path + ".1", "wb") as target:
                    while piece := source.read(1 << 16):
                        target.write(piece)
                os.truncate(path, 0)

    def _log_path(self, name: str) -> str:
        return os.path.join(self.logs, f"{name}.log")

    def _say(self, text: str) -> None:
        stamp = time.strftime("%Y-%m-%d %H:%M:%S")
        print(f"{stamp} supervisor: {text}", file=sys.stderr, flush=True)


def _die_with_parent(parent: int) -> None:
    """Linux ends a child whose supervisor was killed, so that no orphan keeps the port."""
    if sys.platform == "linux":
        import ctypes  # only in the forked child: the supervisor itself stays small

        ctypes.CDLL(None).prctl(PARENT_DEATH_SIGNAL, signal.SIGTERM)
    if os.getppid() != parent:
        os._exit(0)


def _lock(run: str) -> int:
    """The lock of this home, or -1 if another supervisor holds it. Never closed: it ends with us."""
    descriptor = os.open(os.path.join(run, "supervisor.lock"), os.O_RDWR | os.O_CREAT, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(descriptor)
        return -1
    os.ftruncate(descriptor, 0)
    os.pwrite(descriptor, f"{os.getpid()}\n".encode(), 0)
    return descriptor


def main(arguments: list[str]) -> int:
    """`HOME URL [--foreground] [--owner PID]`; the settings travel in the environment."""
    if len(arguments) < 2:
        print("usage: python -m clary.supervisor HOME URL [--foreground] [--owner PID]")
        return 64
    home, url, *options = arguments
    owner = int(options[options.index("--owner") + 1]) if "--owner" in options else 0
    for folder in (home, os.path.join(home, "run"), os.path.join(home, "logs")):
        os.makedirs(folder, mode=0o700, exist_ok=True)
        os.chmod(folder, 0o700)
    lock = _lock(os.path.join(home, "run"))
    if lock < 0:
        print(f"Clary is running already for {home}", file=sys.stderr)
        return ALREADY_RUNNING
    supervisor = Supervisor(home, url, foreground="--foreground" in options, owner=owner)
    try:
        return supervisor.serve()
    finally:
        # The lock file stays: removing it would let two supervisors lock two files of one name.
        path = os.path.join(home, "run", "server.json")
        if os.path.exists(path):
            os.unlink(path)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
