"""Application Auto Scaling at work: looks at every target by the clock, and scales those that need it."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

from clary.companions.application_autoscaling_activities import (
    begin_activity,
    end_activity,
    forget_old,
    note_not_scaled,
)
from clary.companions.application_autoscaling_capacity import Capacity, capacity_of, set_capacity
from clary.companions.application_autoscaling_decisions import (
    Bounds,
    History,
    Outcome,
    Stepping,
    Tracking,
    clamped,
    decide,
)
from clary.companions.application_autoscaling_names import POLICY, SCHEDULED_ACTION, TARGET
from clary.companions.application_autoscaling_schedules import next_time
from clary.engine.call import Parts
from clary.identity.principals import service_principal
from clary.model.errors import ApiError
from clary.store.rows import Row, RowChanged

log = logging.getLogger(__name__)

ATTEMPTS_MAX = 5
# How far back the newest value of a metric may lie: as far as the longest alarm of target tracking looks.
READ_SECONDS = 20 * 60


def scale_all(parts: Parts, now: float) -> int:
    """Evaluate every scalable target of every region; return how many capacities were changed."""
    changed = 0
    account = parts.settings.account
    for region in parts.store.rows.regions(TARGET):
        for target in parts.store.rows.every(TARGET, account=account, region=region):
            try:
                changed += Scaling(parts, target, now).run()
            except ApiError as problem:
                # One target's trouble is told and must not stop the others.
                log.warning("%s could not be scaled: %s", target.name, problem.message)
        forget_old(parts, account, region, now)
    return changed


class Scaling:
    """One look at one target."""

    def __init__(self, parts: Parts, target: Row, now: float) -> None:
        self._parts = parts
        self._target = target
        self._now = now

    def run(self) -> bool:
        capacity = self._capacity()
        if capacity is None:
            return False
        self._settle(capacity)
        scheduled = self._run_schedules()
        if not capacity.settled:
            return False  # a change is under way; the next look comes soon
        bounds = self._bounds()
        if scheduled or self._target.state.get("clamp"):
            return self._clamp(capacity.desired, bounds, scheduled)
        policies = self._policies()
        if not policies:
            return False
        outcome = decide(capacity.desired, bounds, policies, self._history(), self._now)
        if outcome.capacity is not None:
            return self._scale(capacity.desired, outcome.capacity, _cause(outcome))
        self._note(outcome, capacity.desired, bounds)
        return False

    # What is there --------------------------------------------------------------------------------

    def _capacity(self) -> Capacity | None:
        target = self._target
        return capacity_of(self._parts, target.account, target.region, target.document)

    def _bounds(self) -> Bounds:
        document = self._target.document
        suspended = document["SuspendedState"]
        return Bounds(
            document["MinCapacity"],
            document["MaxCapacity"],
            suspended["DynamicScalingOutSuspended"],
            suspended["DynamicScalingInSuspended"],
        )

    def _history(self) -> History:
        state = self._target.state
        return History(state.get("last_out", 0.0), state.get("last_in", 0.0))

    def _policies(self) -> list[Tracking | Stepping]:
        found: list[Tracking | Stepping] = []
        for row in self._children(POLICY):
            if row.document["PolicyType"] == "TargetTrackingScaling":
                found.append(self._tracking(row))
            else:
                found += self._stepping(row)
        return found

    def _tracking(self, row: Row) -> Tracking:
        names: dict[str, str] = row.state["alarms"]
        alarms = self._alarms({"AlarmNames": list(names.values())})
        states = {one["AlarmName"]: one["StateValue"] == "ALARM" for one in alarms}
        is_high, is_low = (states.get(names.get(one, ""), False) for one in ("high", "low"))
        value = self._newest(alarms[0]) if alarms and (is_high or is_low) else None
        config = row.document["TargetTrackingScalingPolicyConfiguration"]
        high, low = names["high"], names.get("low", "")
        return Tracking(row.name, config, high, low, is_high, is_low, value)

    def _stepping(self, row: Row) -> list[Stepping]:
        config = row.document["StepScalingPolicyConfiguration"]
        alarms = self._alarms({"ActionPrefix": row.arn, "StateValue": "ALARM"})
        return [
            Stepping(row.name, config, one["AlarmName"], one["Threshold"], self._breaching(one))
            for one in alarms
            if one.get("ActionsEnabled", True) and row.arn in one["AlarmActions"]
        ]

    def _breaching(self, alarm: dict[str, Any]) -> float:
        """What an alarm alarms of; one that SetAlarmState or missing data set off is at its threshold."""
        value = self._newest(alarm)
        return float(alarm["Threshold"]) if value is None else value

    def _alarms(self, request: dict[str, Any]) -> list[dict[str, Any]]:
        return self._cloudwatch("DescribeAlarms", request).get("MetricAlarms", [])

    def _newest(self, alarm: dict[str, Any]) -> float | None:
        """The newest value of what an alarm watches, of a period that is over."""
        queries = alarm.get("Metrics")
        if not queries:
            metric = {name: alarm[name] for name in ("Namespace", "MetricName", "Dimensions")}
            stat = {
                "Metric": metric,
                "Period": alarm["Period"],
                "Stat": alarm.get("Statistic") or alarm["ExtendedStatistic"],
            }
            queries = [{"Id": "value", "MetricStat": stat}]
        period = alarm.get("Period") or 60
        end = math.floor((self._now - 2) / period) * period
        request = {
            "MetricDataQueries": queries,
            "StartTime": datetime.fromtimestamp(end, UTC) - timedelta(seconds=READ_SECONDS),
            "EndTime": datetime.fromtimestamp(end, UTC),
            "ScanBy": "TimestampDescending",
        }
        for result in self._cloudwatch("GetMetricData", request).get("MetricDataResults", []):
            if result.get("Values"):
                return float(result["Values"][0])
        return None

    def _cloudwatch(self, operation: str, request: dict[str, Any]) -> dict[str, Any]:
        name = "sagemaker.application-autoscaling.amazonaws.com"
        principal = service_principal(self._target.account, name)
        region = self._target.region
        return self._parts.call(
            "cloudwatch", operation, request, principal=principal, region=region
        )

    def _children(self, kind: str) -> Sequence[Row]:
        target = self._target
        return self._parts.store.rows.every(
            kind, account=target.account, region=target.region, parent=target.name
        )

    # What is done ---------------------------------------------------------------------------------

    def _settle(self, capacity: Capacity) -> None:
        """Write down that the change of an earlier look has come about."""
        pending = self._target.state.get("pending")
        if not pending or not capacity.settled:
            return
        reached = capacity.current == pending["capacity"] == capacity.desired
        status = "Successful" if reached else "Unfulfilled"
        message = (
            f"Successfully set desired count to {pending['capacity']}. Change successfully "
            "fulfilled by sagemaker."
            if reached
            else f"The capacity is {capacity.current}; {pending['capacity']} were asked for."
        )
        end_activity(self._parts, pending["activity"], self._target, status, message, self._now)
        self._edit(lambda row: row.state.pop("pending", None))

    def _run_schedules(self) -> str:
        """Move the bounds as the actions that are due say; returns the name of the last, or nothing."""
        done = ""
        for row in self._children(SCHEDULED_ACTION):
            due = row.state.get("next")
            if due is None or due > self._now:
                continue
            row.state = {"next": next_time(row, self._now), "last": due}
            try:
                self._parts.store.rows.update(row, touch=False)
            except RowChanged:
                continue  # it was changed just now: the next look sees what it says
            if self._target.document["SuspendedState"]["ScheduledScalingSuspended"]:
                continue
            action = row.document["ScalableTargetAction"]
            self._edit(lambda target, action=action: _bound(target, action))
            done = row.name
        return done

    def _clamp(self, current: int, bounds: Bounds, scheduled: str) -> bool:
        wanted = clamped(current, bounds)
        if scheduled and wanted == current:
            return False
        if wanted == current:
            self._edit(lambda row: row.state.pop("clamp", None))
            return False
        bound = "minimum" if wanted > current else "maximum"
        cause = f"{bound} capacity was set to {wanted}"
        if scheduled:
            cause = f"scheduled action name {scheduled} was triggered; {cause}"
        changed = self._scale(current, wanted, cause)
        self._edit(lambda row: row.state.pop("clamp", None))
        return changed

    def _scale(self, current: int, wanted: int, cause: str) -> bool:
        activity = begin_activity(
            self._parts, self._target, f"Setting desired count to {wanted}.", cause, self._now
        )
        target = self._target
        try:
            set_capacity(self._parts, target.account, target.region, target.document, wanted)
        except ApiError as problem:
            message = f"Failed to set desired count to {wanted}. Reason: {problem.message}"
            end_activity(self._parts, activity.name, target, "Failed", message, self._now)
            return False
        direction = "last_out" if wanted > current else "last_in"
        pending = {"activity": activity.name, "capacity": wanted}
        self._edit(lambda row: row.state.update({direction: self._now, "pending": pending}))
        return True

    def _note(self, outcome: Outcome, current: int, bounds: Bounds) -> None:
        """Tell once why nothing is done although a policy wants something."""
        told = f"{outcome.proposal.policy}: {outcome.reason}" if outcome.proposal else ""
        if told == self._target.state.get("told", ""):
            return
        self._edit(lambda row: row.state.update({"told": told}))
        if outcome.proposal is not None and outcome.reason.startswith("Already"):
            reason: dict[str, Any] = {"Code": outcome.reason, "CurrentCapacity": current}
            at_most = outcome.reason == "AlreadyAtMaxCapacity"
            reason |= {"MaxCapacity": bounds.high} if at_most else {"MinCapacity": bounds.low}
            note_not_scaled(self._parts, self._target, _cause(outcome), reason, self._now)

    def _edit(self, change: Callable[[Row], object]) -> None:
        """Change the target's row; a user may change it at the same time."""
        for _ in range(ATTEMPTS_MAX):
            row = self._parts.store.rows.by_id(self._target.id)
            if row is None:
                return
            change(row)
            try:
                self._target = self._parts.store.rows.update(row, touch=False)
            except RowChanged:
                continue
            return


def _bound(target: Row, action: dict[str, Any]) -> None:
    target.document |= {one: action[one] for one in ("MinCapacity", "MaxCapacity") if one in action}
    low, high = target.document["MinCapacity"], target.document["MaxCapacity"]
    if low > high:
        # One bound alone was given and has passed the other, which moves along.
        target.document["MaxCapacity" if "MinCapacity" in action else "MinCapacity"] = (
            low if "MinCapacity" in action else high
        )
    target.state["clamp"] = True


def _cause(outcome: Outcome) -> str:
    return outcome.proposal.cause if outcome.proposal else ""
