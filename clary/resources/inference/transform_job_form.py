"""How a transform job tells its progress and its end."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from clary.reconcile.decisions import Decision, Halt, Wait
from clary.reconcile.jobs import JobPlan
from clary.reconcile.observations import Absent, Exited, Observation, Running
from clary.reconcile.outcomes import Verdict
from clary.reconcile.seen import Seen
from clary.store.rows import Row

LOG_GROUP = "/aws/sagemaker/TransformJobs"
REASON_CHARACTERS_MAX = 1_024
FOLLOWING_SECONDS = 1.0


def containers_of_job(row: Row) -> list[dict[str, Any]]:
    """Those of its model when it was made; jobs of an earlier version kept the only one."""
    model = row.state["model"]
    return model.get("containers") or [model["container"]]


def transforming_hosts(row: Row) -> tuple[str, ...]:
    """The host of each instance that reads its share of the input and writes the outputs."""
    count = row.document["TransformResources"]["InstanceCount"]
    return tuple(f"algo-{number}" for number in range(1, count + 1))


def instance_keys(row: Row, key: str) -> tuple[str, ...]:
    """All hosts of an instance: `algo-1`, and `algo-1c1` and so on where containers follow the first."""
    leader = key.partition("-")[0] + "-" + key.partition("-")[2].partition("c")[0]
    following = range(1, len(containers_of_job(row)))
    return (leader, *(f"{leader}c{number}" for number in following))


def leads(key: str) -> bool:
    return "c" not in key.partition("-")[2]


def container_of(row: Row, key: str) -> dict[str, Any]:
    return containers_of_job(row)[instance_keys(row, key).index(key)]


class TransformJobForm:
    def hosts(self, row: Row) -> tuple[str, ...]:
        return tuple(key for one in transforming_hosts(row) for key in instance_keys(row, one))

    def log_place(self, row: Row) -> str:
        return f"{LOG_GROUP}, streams {row.name}/"

    def waiting(self, row: Row, now: float, message: str) -> dict[str, Any]:
        return {}  # the API shows nothing of a transform job that waits

    def progress(self, row: Row, running: Running) -> dict[str, Any]:
        started = [at for phase, at in running.phases if phase == "Downloading"]
        return {"TransformStartTime": started[0]} if started else {}

    def stopping(self, row: Row, now: float) -> dict[str, Any]:
        return {}

    def ended(self, row: Row, verdict: Verdict) -> dict[str, Any]:
        fields: dict[str, Any] = {"TransformEndTime": verdict.ended}
        if verdict.started:
            fields["TransformStartTime"] = verdict.started
        if verdict.reason:
            # A request that the model refuses is no exit of its server, so there is no code to tell.
            reason = verdict.reason.replace(", exit code: None", "")
            fields["FailureReason"] = reason[:REASON_CHARACTERS_MAX]
        return fields


@dataclass(frozen=True, slots=True)
class TransformPlan:
    """The plan of every job, but that files which fail on one instance do not end the others.

    "When your dataset has multiple input files, a transform job continues to process input files
    even if it fails to process one" (developer guide, batch transform errors).
    """

    plan: JobPlan

    def __call__(self, row: Row, seen: Seen) -> Sequence[Decision]:
        leaders = {key: one for key, one in seen.hosts.items() if leads(key)}
        if not leaders or not all(isinstance(one, Exited) for one in leaders.values()):
            patient = {key: _not_yet_failed(one) for key, one in seen.hosts.items()}
            return self.plan(row, replace(seen, hosts=patient))
        following = {key: one for key, one in seen.hosts.items() if not leads(key)}
        # The containers that follow serve until they are told that nobody asks them any more.
        left = tuple(key for key, one in following.items() if not isinstance(one, Exited | Absent))
        if left:
            return [Halt(left), Wait(FOLLOWING_SECONDS)]
        if row.status in ("Completed", "Failed", "Stopped"):
            return self.plan(row, seen)
        failed = {key: one for key, one in following.items() if _has_failed(one)}
        return self.plan(row, replace(seen, hosts={**leaders, **failed}))


def _has_failed(one: Observation) -> bool:
    return isinstance(one, Exited) and one.result != "stopped"


def _not_yet_failed(one: Observation) -> Observation:
    """A host that went through all of its files counts as done until the others are as well."""
    if not isinstance(one, Exited):
        return one
    told = (one.outcome.get("outputs") or {}).get("transform") or {}
    if one.result == "failure" and told.get("failed"):
        return replace(one, outcome={**one.outcome, "result": "success"})
    return one
