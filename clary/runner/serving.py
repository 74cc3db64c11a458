"""A model server is kept up: started again when it crashes, within bounds, and given up with the reason."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any, Protocol

from clary.runner import listening, program
from clary.runner.health import HealthWatch
from clary.runner.progress import Progress
from clary.runner.results import Result, out_of_memory_text
from clary.runner.spec import HostSpec

_RESTARTS_MAX = 10  # of a server, each within a minute of the one before
_RESTARTS_BEFORE_READY_MAX = 2
_RESTART_SECONDS_MAX = 30.0
_STABLE_SECONDS = 60.0
UNHEALTHY = "The primary container did not pass the ping health check."


class Host(Protocol):
    """What a server's life needs of the host that it is on."""

    @property
    def spec(self) -> HostSpec: ...
    @property
    def progress(self) -> Progress: ...

    unhealthy: str  # with the reason, once the server was ended for it

    def run_program(
        self, composed: dict[str, Any], unwell: Callable[[], bool] = ...
    ) -> tuple[program.Ending, str]: ...
    def judge(self, ending: program.Ending, reason: str) -> Result: ...
    def pause(self, seconds: float) -> str: ...
    def tell(self, text: str) -> None: ...


class Serving:
    """A server is kept up: it is started again when it crashes, within bounds, until the host is halted."""

    def __init__(self, host: Host, composed: dict[str, Any]) -> None:
        assert host.spec.serve is not None
        self._host = host
        self._composed = composed
        self._serve = host.spec.serve
        self._was_ready = False
        self._health_deadline = time.monotonic() + self._serve.health_seconds
        self._watch = HealthWatch(
            host.spec.directory, self._serve.socket, self._serve.ping_path, self._tell
        )

    def _tell(self, ready: bool) -> None:
        self._was_ready = self._was_ready or ready
        self._host.progress.set_ready(ready)

    def _unwell(self) -> bool:
        return not self._was_ready and time.monotonic() > self._health_deadline

    def run(self) -> Result:
        restarts, host = 0, self._host
        while True:
            began = time.monotonic()
            self._watch.start()
            try:
                ending, reason = host.run_program(self._composed, self._unwell)
            finally:
                self._watch.stop()
                host.progress.set_ready(False)
            if reason == "unwell":
                return self._never_ready(ending, restarts, host.unhealthy)
            if reason:
                return host.judge(ending, reason)
            restarts = 1 if time.monotonic() - began > _STABLE_SECONDS else restarts + 1
            bound = _RESTARTS_MAX if self._was_ready else _RESTARTS_BEFORE_READY_MAX
            if restarts > bound or self._unwell() or self._cannot_load(ending):
                return self._given_up(ending, restarts)
            text = f"The server {_ended(ending)} and is started again."
            host.progress.say(text)
            host.tell(text)
            reason = host.pause(min(0.2 * 2 ** (restarts - 1), _RESTART_SECONDS_MAX))
            if reason:
                return Result(reason, ending)

    def _cannot_load(self, ending: program.Ending) -> bool:
        """A model that is too large for its memory is so every time."""
        return not self._was_ready and self._host.judge(ending, "").out_of_memory

    def _given_up(self, ending: program.Ending, deaths: int) -> Result:
        judged = self._host.judge(ending, "")
        why = f"The server {_ended(ending)}."
        if judged.out_of_memory:
            why = out_of_memory_text(self._host.spec, ending)
        if deaths > 1:
            why = f"{why} It was started {deaths} times."
        if not self._was_ready and self._unwell():
            why = f"{why} {self._late()}"
        self._host.tell(why)
        return judged._replace(result="failure", failure=f"{UNHEALTHY} {why}")

    def _never_ready(self, ending: program.Ending, deaths: int, unhealthy: str) -> Result:
        judged = self._host.judge(ending, "")
        why = self._late()
        if judged.out_of_memory:
            why = f"{out_of_memory_text(self._host.spec, ending)} {why}"
        elif deaths:
            why = f"{why} It had ended {deaths} times before and was started again."
        self._host.tell(why)
        text = f"{unhealthy} {why}"
        return Result("failure", ending, text, out_of_memory=judged.out_of_memory)

    def _late(self) -> str:
        return (
            f"GET /ping was not answered with status 200 within {self._serve.health_seconds:g} s."
        )


def _ended(ending: program.Ending) -> str:
    if ending.lost:
        return f"was lost ({ending.lost})"
    return (
        f"was killed by {ending.signal}"
        if ending.signal
        else f"ended with exit code {ending.exit_code}"
    )


def unhealthy(composed: dict[str, Any], process: int) -> str:
    """What is wrong with a server that never answered its health check, as far as its network tells."""
    if not composed["inward"]:
        return UNHEALTHY
    ours = frozenset({composed["outward"]["port"]} if composed["outward"] else ())
    own = composed["network"] == "own"
    why = listening.why_unwell(process, composed["inward"]["port"], own=own, ours=ours)
    return f"{UNHEALTHY} {why}"
