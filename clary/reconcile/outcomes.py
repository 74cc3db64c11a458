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

    @property
    def runtime_seconds(self) -> int:
        return max(1, math.ceil(self.ended - self.started))


def verdict_of(exits: Mapping[str, Exited], log_place: str) -> Verdict:
    """Join the outcomes of every host; a failure of one is the failure of all, and the first one names the reason."""
    outcomes = [exits[host].outcome for host in sorted(exits)]
    leader = outcomes[0]
    failed = sorted(
        (one for one in outcomes if one.get("result") in ("failure", "lost")),
        key=lambda one: float(one.get("ended") or 0.0),
    )
    results = {str(one.get("result", "lost")) for one in outcomes}
    if failed:
        result, reason = "failure", failure_reason(failed[0], log_place)
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
    )


def failure_reason(outcome: Mapping[str, Any], log_place: str) -> str:
    """FailureReason of one host's outcome, at most 1,024 characters."""
    text = str(outcome.get("failure") or "").strip()
    code = outcome.get("exit_code")
    told = text if code is None or "exit code:" in text else f"{text}, exit code: {code}"
    if outcome.get("result") == "lost":
        reason = f"{_INTERNAL} The process that watched over the job ended without a trace. {text}"
    elif outcome.get("out_of_memory"):
        reason = f"{_OUT_OF_MEMORY} The job was ended by the memory limit of its instance. {text}"
    elif outcome.get("failure_source") == "client":
        reason = text if text.startswith("ClientError:") else f"ClientError: {text}"
    elif outcome.get("failure_source") == "internal":
        reason = f"{_INTERNAL} {text}"
    elif outcome.get("signal"):
        reason = f"AlgorithmError: {told} ({outcome['signal']})"
    else:
        reason = f"AlgorithmError: {told}"
    reason = reason.strip()
    return reason if len(reason) > 300 else f"{reason}. Log: {log_place}"[:REASON_CHARACTERS_MAX]


def _times(outcomes: Sequence[Mapping[str, Any]], name: str) -> list[float]:
    return [float(one[name]) for one in outcomes if one.get(name)]
