"""How a training job tells its progress: secondary statuses, transitions, metrics and times."""

from __future__ import annotations

from typing import Any

from clary.reconcile.observations import Running
from clary.reconcile.outcomes import Verdict
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
        return self._moved(row, [(status, now)], message)

    def progress(self, row: Row, running: Running) -> dict[str, Any]:
        fields = self._moved(row, [*running.phases], "")
        if running.metrics:
            fields["FinalMetricDataList"] = _metrics(running.metrics)
        started = [at for phase, at in running.phases if phase == "Downloading"]
        if started:
            fields["TrainingStartTime"] = started[0]
        return fields

    def stopping(self, row: Row, now: float) -> dict[str, Any]:
        return self._moved(row, [("Stopping", now)], "")

    def ended(self, row: Row, verdict: Verdict) -> dict[str, Any]:
        last = {
            "success": "Completed",
            "failure": "Failed",
            "stopped": "Stopped",
            "timeout": "MaxRuntimeExceeded",
        }[verdict.result]
        fields = self._moved(row, [*verdict.phases, (last, verdict.ended)], "")
        fields["SecondaryStatusTransitions"][-1]["EndTime"] = verdict.ended
        if verdict.reason:
            fields["FailureReason"] = verdict.reason
        if verdict.started:
            fields["TrainingStartTime"] = verdict.started
            fields["TrainingEndTime"] = verdict.ended
            fields["TrainingTimeInSeconds"] = verdict.runtime_seconds
            fields["BillableTimeInSeconds"] = verdict.runtime_seconds
        if verdict.metrics:
            fields["FinalMetricDataList"] = _metrics(verdict.metrics)
        model = verdict.outputs.get("model")
        if model:
            fields["ModelArtifacts"] = {"S3ModelArtifacts": model["uri"]}
        return fields

    def _moved(self, row: Row, phases: list[tuple[str, float]], message: str) -> dict[str, Any]:
        """Append the phases that are new; each transition ends where the next begins."""
        transitions = [dict(one) for one in row.document.get("SecondaryStatusTransitions", [])]
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
