"""How a training job tells its progress: secondary statuses, transitions, metrics and times."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from clary.reconcile.observations import Running
from clary.reconcile.outcomes import Verdict
from clary.resources.training import debug_rules, warm_pool
from clary.store.rows import Row

LOG_GROUP = "/aws/sagemaker/TrainingJobs"
TRANSITIONS_MAX = 100
MESSAGES = {
    "Starting": "Starting the training job",
    "Pending": "Waiting for capacity on this installation",
    "Downloading": "Downloading input data",
    "Training": "Training image download completed. Training in progress.",
    "Uploading": "Uploading generated training model",
    "Completed": "Training job completed",
    "Failed": "Training job failed",
    "Stopping": "Stopping the training job",
    "Stopped": "Training job stopped",
    "MaxRuntimeExceeded": "Training job runtime exceeded MaxRuntimeInSeconds provided",
    "MaxWaitTimeExceeded": "Training job wait time exceeded MaxWaitTimeInSeconds provided",
}
# How a job that Clary itself stopped tells it: the secondary status, and its message.
ENDED_AS = {
    "MaxWaitTimeExceeded": ("MaxWaitTimeExceeded", MESSAGES["MaxWaitTimeExceeded"]),
    "MaxPendingTimeExceeded": (
        "Stopped",
        "Training job pending time exceeded MaxPendingTimeInSeconds provided",
    ),
}


class TrainingJobForm:
    def hosts(self, row: Row) -> tuple[str, ...]:
        config = row.document["ResourceConfig"]
        groups = config.get("InstanceGroups") or []
        count = config.get("InstanceCount") or sum(one["InstanceCount"] for one in groups) or 1
        return tuple(f"algo-{number}" for number in range(1, count + 1))

    def log_place(self, row: Row) -> str:
        return f"{LOG_GROUP}, streams {row.name}/"

    def waiting(self, row: Row, now: float, message: str) -> dict[str, Any]:
        status = "Pending" if message.startswith("Waiting for capacity") else "Starting"
        return self.moved(row, [(status, now)], message)

    def progress(self, row: Row, running: Running) -> dict[str, Any]:
        # Before a host runs it may wait for a node, or for its environment to be built there.
        message = running.message if running.phase in ("Pending", "Starting") else ""
        fields = self.moved(row, [*running.phases], message)
        if running.metrics:
            fields["FinalMetricDataList"] = _metrics(running.metrics)
        started = [at for phase, at in running.phases if phase == "Downloading"]
        if started and "TrainingStartTime" not in row.document:
            fields["TrainingStartTime"] = started[0]
        return fields

    def stopping(self, row: Row, now: float) -> dict[str, Any]:
        return self.moved(row, [("Stopping", now)], "")

    def ended(self, row: Row, verdict: Verdict) -> dict[str, Any]:
        last = {
            "success": "Completed",
            "failure": "Failed",
            "stopped": "Stopped",
            "timeout": "MaxRuntimeExceeded",
        }[verdict.result]
        text, ended_as = "", row.state.get("ended_as")
        if last == "Stopped" and ended_as:
            last, text = ENDED_AS[ended_as]
        fields = self.moved(row, [*verdict.phases], "")
        fields = self.moved(row, [(last, verdict.ended)], text, fields)
        fields["SecondaryStatusTransitions"][-1]["EndTime"] = verdict.ended
        if verdict.reason:
            fields["FailureReason"] = self._reason(row, verdict)
        fields.update(self._times(row, verdict))
        if verdict.metrics:
            fields["FinalMetricDataList"] = _metrics(verdict.metrics)
        model = verdict.outputs.get("model")
        if model:
            fields["ModelArtifacts"] = {"S3ModelArtifacts": model["uri"]}
        fields.update(debug_rules.after_the_end(row, verdict))
        fields.update(warm_pool.after_the_end(row, verdict))
        return fields

    def _reason(self, row: Row, verdict: Verdict) -> str:
        retries = int(row.state.get("retries") or 0)
        told = f" The job was retried {retries} times." if retries else ""
        return f"{verdict.reason[: 1_024 - len(told)]}{told}"

    def _times(self, row: Row, verdict: Verdict) -> dict[str, Any]:
        """TrainingTimeInSeconds adds up all attempts; the waits between them cost nothing."""
        before = float(row.state.get("seconds_spent") or 0.0)
        if not verdict.started and not before:
            return {}
        seconds = max(1, math.ceil(before + self.attempt_seconds(verdict)))
        share = float(row.state.get("spot_price") or 1.0)
        spot = row.document.get("EnableManagedSpotTraining")
        return {
            "TrainingStartTime": row.document.get("TrainingStartTime") or verdict.started,
            "TrainingEndTime": verdict.ended,
            "TrainingTimeInSeconds": seconds,
            "BillableTimeInSeconds": max(1, math.ceil(seconds * share)) if spot else seconds,
        }

    def attempt_seconds(self, verdict: Verdict) -> float:
        return max(0.0, verdict.ended - verdict.started) if verdict.started else 0.0

    def moved(
        self,
        row: Row,
        phases: list[tuple[str, float]],
        message: str,
        fields: Mapping[str, Any] | None = None,
    ) -> dict[str, Any]:
        """Append the phases that are new; each transition ends where the next begins."""
        known = (fields or row.document).get("SecondaryStatusTransitions", [])
        transitions = [dict(one) for one in known]
        seen = {(one["Status"], one["StartTime"]) for one in transitions}
        for status, at in phases:
            text = message or MESSAGES.get(status, status)
            if (status, at) in seen or (status == "Starting" and transitions and not message):
                continue
            last = transitions[-1] if transitions else None
            if last is not None and last["Status"] == status and last["StatusMessage"] == text:
                continue
            if last is not None:
                last["EndTime"] = at
            transitions.append({"Status": status, "StartTime": at, "StatusMessage": text})
        transitions = transitions[-TRANSITIONS_MAX:]
        current = transitions[-1]["Status"] if transitions else "Starting"
        return {"SecondaryStatus": current, "SecondaryStatusTransitions": transitions}


def _metrics(metrics: Any) -> list[dict[str, Any]]:
    return [
        {"MetricName": name, "Value": value, "Timestamp": at}
        for name, (value, at) in sorted(metrics.items())
    ]
