"""What the outcomes of a job's hosts mean together, in SageMaker's words."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from clary.reconcile.observations import Exited

REASON_CHARACTERS_MAX = 1_024
_INTERNAL = "InternalServerError: We encountered an internal error. Please try again."
_OUT_OF_MEMORY = (
    "ClientError: Please use an instance type with more memory, or reduce the size of job data "
    "processed on an instance."
)


@dataclass(frozen=True, slots=True)
class Verdict:
    """How a job ended. Times are epoch seconds; `outputs` are the leading host's, by name."""

    result: str  # "success" | "failure" | "stopped" | "timeout"
    reason: str = ""
    started: float = 0.0
    ended: float = 0.0
    phases: tuple[tuple[str, float], ...] = ()
    metrics: Mapping[str, tuple[float, float]] = field(
        default_factory=dict[str, tuple[float, float]]
    )
    outputs: Mapping[str, Mapping[str, Any]] = field(default_factory=dict[str, Mapping[str, Any]])
    message: str = ""
    internal: bool = False  # a failure that is not the user's: another attempt may do better

    @property
    def runtime_seconds(self) -> int:
        return max(1, math.ceil(self.ended - self.started))


def verdict_of(exits: Mapping[str, Exited], log_place: str) -> Verdict:
    """Join the outcomes of every host; a failure of one is the failure of all, and the first one names the reason."""
    outcomes = [{**exits[host].outcome, "host": host} for host in sorted(exits, key=_number)]
    leader = outcomes[0]
    failed = sorted(
        (one for one in outcomes if one.get("result") in ("failure", "lost")),
        key=lambda one: float(one.get("ended") or 0.0),
    )
    internal = bool(failed) and (
        failed[0].get("result") == "lost" or failed[0].get("failure_source") == "internal"
    )
    results = {str(one.get("result", "lost")) for one in outcomes}
    if failed:
        several = len(outcomes) > 1
        result, reason = "failure", failure_reason(failed[0], log_place, names_host=several)
    elif "timeout" in results:
        result, reason = "timeout", ""
    elif "stopped" in results:
        result, reason = "stopped", ""
    else:
        result, reason = "success", ""
    metrics: dict[str, tuple[float, float]] = {}
    for outcome in outcomes:
        for name, value in (outcome.get("metrics") or {}).items():
            if name not in metrics or value[1] >= metrics[name][1]:
                metrics[name] = (float(value[0]), float(value[1]))
    message = "".join(str(one.get("message") or "") for one in outcomes)
    return Verdict(
        result=result,
        reason=reason,
        started=min(_times(outcomes, "started"), default=0.0),
        ended=max(_times(outcomes, "ended"), default=0.0),
        phases=tuple((str(name), float(at)) for name, at in leader.get("phases") or ()),
        metrics=metrics,
        outputs=leader.get("outputs") or {},
        message=message[:1_024],
        internal=internal,
    )


def failure_reason(outcome: Mapping[str, Any], log_place: str, *, names_host: bool = False) -> str:
    """FailureReason of one host's outcome, at most 1,024 characters."""
    text = str(outcome.get("failure") or "").strip()
    code = outcome.get("exit_code")
    told = text if code is None or "exit code:" in text else f"{text}, exit code: {code}"
    if outcome.get("result") == "lost":
        where = f"host {outcome.get('host')} of the job" if names_host else "the job"
        reason = f"{_INTERNAL} The process that watched over {where} ended without a trace. {text}"
    elif outcome.get("out_of_memory") or _says_memory_error(outcome, text):
        reason = _out_of_memory(outcome, text)
    elif outcome.get("failure_source") == "client":
        reason = text if text.startswith("ClientError:") else f"ClientError: {text}"
    elif outcome.get("failure_source") == "internal":
        reason = f"{_INTERNAL} {text}"
    elif outcome.get("signal"):
        reason = _blamed(_with_signal(told, str(outcome["signal"])))
    else:
        reason = _blamed(told)
    reason = reason.strip()
    if names_host and outcome.get("result") != "lost":
        where = f" (host {outcome.get('host')})"
        reason = f"{reason[: REASON_CHARACTERS_MAX - len(where)]}{where}"
    return reason if len(reason) > 300 else f"{reason}. Log: {log_place}"[:REASON_CHARACTERS_MAX]


def _blamed(text: str) -> str:
    """A built-in algorithm says itself whose fault a failure is; nothing else does."""
    known = text.startswith(("ClientError: ", "AlgorithmError: "))
    return text if known else f"AlgorithmError: {text}"


def _with_signal(text: str, signal: str) -> str:
    return text if signal in text else f"{text} ({signal})"


def _says_memory_error(outcome: Mapping[str, Any], text: str) -> bool:
    """Python says so in its last line; a script that left words of its own is quoted instead."""
    lines = [line for line in outcome.get("log_tail") or () if line.strip()]
    ended_badly = bool(outcome.get("exit_code")) and text.startswith(", exit code:")
    return ended_badly and bool(lines) and lines[-1].startswith("MemoryError")


def _out_of_memory(outcome: Mapping[str, Any], text: str) -> str:
    """The verdict, the signal, and the last traceback: what a user needs to choose between code and instance."""
    ended = outcome.get("signal") or f"exit code {outcome.get('exit_code')}"
    if outcome.get("out_of_memory"):
        verdict = f"The job was ended by the memory limit of its instance ({ended})."
    else:
        verdict = f"The script ran out of memory ({ended})."
    told = "" if text.startswith(", exit code:") else text
    traceback = _last_traceback(outcome.get("log_tail") or ())
    room = REASON_CHARACTERS_MAX - len(_OUT_OF_MEMORY) - len(verdict) - len(told) - 3
    if len(traceback) > room:
        traceback = traceback[-max(room, 1) :]  # its end names the error
    return f"{_OUT_OF_MEMORY} {verdict} {told} {traceback}"


def _last_traceback(tail: Sequence[str]) -> str:
    for index in range(len(tail) - 1, -1, -1):
        if tail[index].startswith("Traceback (most recent call last)"):
            return "\n".join(tail[index:])
    return ""


def _number(host: str) -> tuple[int, str]:
    """`algo-10` comes after `algo-9`."""
    return len(host), host


def _times(outcomes: Sequence[Mapping[str, Any]], name: str) -> list[float]:
    return [float(one[name]) for one in outcomes if one.get(name)]
