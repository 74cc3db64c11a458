"""How a processing job tells its progress and its end."""

from __future__ import annotations

from typing import Any

from clary.reconcile.observations import Running
from clary.reconcile.outcomes import Verdict
from clary.store.rows import Row

LOG_GROUP = "/aws/sagemaker/ProcessingJobs"


class ProcessingJobForm:
    def hosts(self, row: Row) -> tuple[str, ...]:
        count = row.document["ProcessingResources"]["ClusterConfig"]["InstanceCount"]
        return tuple(f"algo-{number}" for number in range(1, count + 1))

    def log_place(self, row: Row) -> str:
        return f"{LOG_GROUP}, streams {row.name}/"

    def waiting(self, row: Row, now: float, message: str) -> dict[str, Any]:
        return {}  # the API shows nothing of a processing job that waits

    def progress(self, row: Row, running: Running) -> dict[str, Any]:
        started = [at for phase, at in running.phases if phase == "Downloading"]
        return {"ProcessingStartTime": started[0]} if started else {}

    def stopping(self, row: Row, now: float) -> dict[str, Any]:
        return {}

    def ended(self, row: Row, verdict: Verdict) -> dict[str, Any]:
        fields: dict[str, Any] = {"ProcessingEndTime": verdict.ended}
        if verdict.started:
            fields["ProcessingStartTime"] = verdict.started
        if verdict.reason:
            fields["FailureReason"] = verdict.reason
        if verdict.message:
            fields["ExitMessage"] = verdict.message
        return fields
