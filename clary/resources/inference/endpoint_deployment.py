"""How far the move of an endpoint from one fleet to another is, as its row remembers it.

    policy     the DeploymentConfig
    started    when it began; `number` the step it is at; `shifted` when that step's traffic moved
    checked    when the alarms were last looked at, and `alarmed` which of them were in ALARM
    rollback   why it goes back; `reached` the step at which it turned
Pure: whoever looks at alarms writes what he saw into the row.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

from clary.model.errors import ValidationException
from clary.resources.inference.endpoint_traffic import (
    ALL_AT_ONCE,
    Step,
    alarms_of,
    brings_back,
    steps_back,
    steps_of,
    termination_seconds,
    timeout_seconds,
)
from clary.store.rows import Row

ENDED = ("Failed", "OutOfService", "UpdateRollbackFailed")  # only deletion leads out of these
ROLLBACK_RESTARTS_MAX = 5
ROLLBACK_SECONDS_MAX = 3600.0
# Alarms are looked at by the clock; a bake is not over before they were looked at after its end.
ALARM_WAIT_SECONDS = 1.0


@dataclass(frozen=True, slots=True)
class Deployment:
    policy: dict[str, Any]
    started: float
    steps: tuple[Step, ...]
    number: int = 0
    shifted_at: float | None = None
    checked: float = 0.0
    alarmed: tuple[str, ...] = ()
    rollback: str = ""
    reached: int = 0

    @staticmethod
    def of(row: Row) -> Deployment | None:
        kept: dict[str, Any] | None = row.state.get("deployment")
        if not kept:
            return None
        policy, live, target = kept["policy"], row.state["live"], row.state["target"]
        reached = int(kept.get("reached", 0))
        rollback = kept.get("rollback", "")
        steps = (
            steps_back(policy, live, target, reached)
            if rollback
            else steps_of(policy, live, target)
        )
        return Deployment(
            policy,
            float(kept["started"]),
            steps,
            int(kept["number"]),
            kept.get("shifted"),
            float(kept.get("checked", 0.0)),
            tuple(kept.get("alarmed", ())),
            rollback,
            reached,
        )

    @property
    def step(self) -> Step:
        return self.steps[min(self.number, len(self.steps) - 1)]

    @property
    def is_last(self) -> bool:
        return self.number >= len(self.steps) - 1

    @property
    def is_shifted(self) -> bool:
        """Whether the traffic of this step has moved."""
        return self.shifted_at is not None

    @property
    def new_serves(self) -> bool:
        """Whether some traffic goes to the new fleet."""
        return self.is_shifted or self.number > 0

    @property
    def share(self) -> float:
        """Of all requests, those that go to the new fleet now."""
        if self.rollback:
            # The traffic of a step back moves when the step is done, if hosts must come up first.
            return self._before if self.waits_for_old else self.step.share
        return self.step.share if self.shifted_at is not None else self._before

    @property
    def _before(self) -> float:
        if self.number > 0:
            return self.steps[self.number - 1].share
        if not self.rollback:
            return 0.0
        fresh, kept = sum(self.step.fresh.values()), sum(self.step.kept.values())
        return fresh / max(1, fresh + kept)

    @property
    def waits_for_old(self) -> bool:
        return brings_back(self.policy)

    @property
    def alarms(self) -> tuple[str, ...]:
        return alarms_of(self.policy)

    def baking_seconds(self, now: float) -> float:
        """How long this step still has to go well; at least a look at the alarms after its end."""
        if self.shifted_at is None:
            return ALARM_WAIT_SECONDS
        over = self.shifted_at + self.step.bake_seconds
        if self.is_last:
            over += termination_seconds(self.policy)
        if now < over:
            return over - now
        return ALARM_WAIT_SECONDS if self.alarms and self.checked < over else 0.0

    def trouble(self, now: float) -> str:
        """Why the deployment must go back; empty while all is well."""
        if self.alarmed and self.new_serves:
            names = ", ".join(self.alarmed)
            return f"One or more alarms of its auto-rollback configuration are in ALARM: {names}."
        timeout = timeout_seconds(self.policy)
        if timeout is not None and now - self.started > timeout:
            return f"It did not end within its MaximumExecutionTimeoutInSeconds of {timeout:g}."
        return ""

    def is_overdue(self, now: float) -> bool:
        """On the way back: longer than anyone would wait for."""
        turned = self.shifted_at if self.shifted_at is not None else self.started
        return now - turned > ROLLBACK_SECONDS_MAX

    def shifted(self, now: float) -> dict[str, Any]:
        return _kept(replace(self, shifted_at=now))

    def next_step(self) -> dict[str, Any]:
        keeps = self.shifted_at if self.rollback else None
        return _kept(replace(self, number=self.number + 1, shifted_at=keeps))

    def turned_back(self, reason: str, now: float) -> dict[str, Any]:
        """The state of a rollback: `shifted` is from now on when it turned."""
        return _kept(replace(self, rollback=reason, reached=self.number, number=0, shifted_at=now))


def begun(policy: dict[str, Any], now: float) -> dict[str, Any]:
    """The state of a deployment that has just been asked for."""
    return {"policy": policy, "started": now, "number": 0, "shifted": None}


def require_in_service(row: Row, what: str) -> None:
    """Raise where an endpoint or a component cannot be updated; `what` names which of them it is."""
    if row.status == "InService":
        return
    if row.status in ENDED:
        # "DeleteEndpoint is the only operation that can be performed on a failed endpoint."
        raise ValidationException(
            f'Cannot update {what} "{row.arn}" with status {row.status}: it can only be deleted. Its '
            "FailureReason says what went wrong."
        )
    raise ValidationException(f'Cannot update in-progress {what} "{row.arn}".')


def begin(row: Row, target: dict[str, Any], config: dict[str, Any] | None, now: float) -> None:
    """Set a row on its way to another target, by the DeploymentConfig that is given or all at once."""
    row.state |= {
        "attempts": row.state.get("attempts", 0) + 1,
        "target": target,
        "deployment_config": config,
        "deployment": begun(config or ALL_AT_ONCE, now),
    }
    row.document["FailureReason"] = None
    row.status, row.due = "Updating", now


def next_revision(row: Row) -> int:
    """Of the next target: attempts that were rolled back have used theirs up."""
    return row.state["live"]["revision"] + 1 + row.state.get("attempts", 0)


def _kept(deployment: Deployment) -> dict[str, Any]:
    return {
        "deployment": {
            "policy": deployment.policy,
            "started": deployment.started,
            "number": deployment.number,
            "shifted": deployment.shifted_at,
            "checked": deployment.checked,
            "alarmed": list(deployment.alarmed),
            "rollback": deployment.rollback,
            "reached": deployment.reached,
        }
    }


def rolled_back_reason(reason: str) -> str:
    """FailureReason of an endpoint that serves its old configuration again."""
    return f"The update was rolled back to the previous endpoint configuration. {reason}"[:1024]
