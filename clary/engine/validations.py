"""Validation of what can be deployed: each profile is a chain of children, and its row's status hangs on their ends.

profile ── stage ──▶ stage ──▶ Completed        each stage is one child, made when the one before it
              └────────┴─────▶ Failed           ended; what was made for the while is deleted again
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from clary.engine.call import Parts
from clary.engine.children import Child, Children
from clary.reconcile.decisions import Become, Call, Decision, Forget, Launch, Wait
from clary.reconcile.lifecycles import Lifecycle
from clary.reconcile.observations import Absent, Exited
from clary.reconcile.seen import Seen
from clary.store.rows import Row

LIFECYCLE = Lifecycle(
    "Pending",
    {
        "Pending": frozenset({"InProgress", "Completed", "Failed"}),
        "InProgress": frozenset({"Completed", "Failed"}),
        "Completed": frozenset[str](),
        "Failed": frozenset[str](),
    },
)
ENDED = ("Completed", "Failed")
SUCCEEDED = (
    "Completed",
    "",
)  # of a job, and of what has no status because it only needs to be made
LAUNCHED_SECONDS = 0.2
RUNNING_SECONDS = 5.0
STEM_CHARACTERS_MAX = 36
TOLD = ("Name", "Status", "FailureReason")
# What a container of a package or an algorithm says that a container of a model says as well.
CONTAINER = (
    "ContainerHostname",
    "Image",
    "ModelDataUrl",
    "ModelDataSource",
    "AdditionalModelDataSources",
    "Environment",
)

Request = Callable[[Row, int, str], "dict[str, Any]"]


@dataclass(frozen=True, slots=True)
class Stages:
    """What a kind says of its stages: the noun of each, and the request that makes the child of a profile."""

    nouns: Mapping[str, str]
    request: Request
    passing: frozenset[str] = field(default_factory=frozenset[str])  # deleted when a profile ends

    def children(self) -> Children:
        def child(row: Row, key: str) -> Child:
            number, stage = _parts_of(key)
            request = self.request
            return Child(
                self.nouns[stage], child_name(row, key), lambda: request(row, number, stage)
            )

        return Children(child=child, facts=_facts)

    def plan(self, row: Row, seen: Seen) -> Sequence[Decision]:
        if row.status not in ("Pending", "InProgress"):
            left = tuple(seen.hosts)
            return [Forget(left)] if left else []
        turn = _Turn()
        validations: list[dict[str, Any]] = [dict(one) for one in row.state["validations"]]
        for number, one in enumerate(validations):
            _advance(turn, number, one, seen)
            if one["Status"] in ENDED:
                turn.ended += [f"{number}-{stage}" for stage in one["stages"]]
        left = [key for key in turn.ended if self._is_left(key, seen)]
        gone = tuple(key for key in turn.ended if key in seen.hosts and key not in left)
        status = status_of(validations) if not left else "InProgress"
        return [
            Become(status, state={"validations": validations}),
            *([Forget(gone)] if gone else []),
            *([Launch(tuple(turn.launched))] if turn.launched else []),
            *self._deletions(row, left),
            *([] if status in ENDED else [Wait(_pause(turn, left))]),
        ]

    def _is_left(self, key: str, seen: Seen) -> bool:
        """Whether what was made for the while of a profile is still there."""
        one = seen.hosts.get(key)
        if _parts_of(key)[1] not in self.passing or not isinstance(one, Exited):
            return False
        return one.result in SUCCEEDED

    def _deletions(self, row: Row, keys: Sequence[str]) -> Iterator[Call]:
        for key in keys:
            noun = self.nouns[_parts_of(key)[1]]
            yield Call(f"Delete{noun}", {f"{noun}Name": child_name(row, key)})


@dataclass(slots=True)
class _Turn:
    launched: list[str] = field(default_factory=list[str])
    ended: list[str] = field(default_factory=list[str])


def begun(profiles: Sequence[tuple[str, Sequence[str]]]) -> list[dict[str, Any]]:
    """What a row's state holds of its profiles, given by name and stages."""
    return [
        {"Name": name, "Status": "NotStarted", "stages": list(stages), "at": 0, "facts": {}}
        for name, stages in profiles
    ]


def told(row: Row) -> list[dict[str, Any]]:
    """The ValidationStatuses of a row."""
    return [
        {name: one[name] for name in TOLD if name in one}
        for one in row.state.get("validations") or []
    ]


def status_of(validations: Sequence[Mapping[str, Any]]) -> str:
    """Failed only once nothing runs any more: what a profile finds does not end the others."""
    states = {one["Status"] for one in validations}
    if states - set(ENDED):
        return "InProgress"
    return "Failed" if "Failed" in states else "Completed"


def child_name(row: Row, key: str) -> str:
    """The same each time for the same stage of the same row."""
    digest = hashlib.sha256(f"{row.arn}/{row.created}/{key}".encode()).hexdigest()[:10]
    stem = row.name.replace("/", "-")[:STEM_CHARACTERS_MAX].rstrip("-")
    return f"{stem}-validation-{digest}"


def model_request(
    row: Row, key: str, role: str, containers: Sequence[Mapping[str, Any]]
) -> dict[str, Any]:
    """What makes the model that a profile transforms with."""
    made = [{name: one[name] for name in CONTAINER if one.get(name)} for one in containers]
    given = {"PrimaryContainer": made[0]} if len(made) == 1 else {"Containers": made}
    return {"ModelName": child_name(row, key), "ExecutionRoleArn": role, **given}


def transform_request(
    row: Row, key: str, model_key: str, definition: Mapping[str, Any]
) -> dict[str, Any]:
    """What makes the transform job of a profile."""
    names = {"TransformJobName": child_name(row, key), "ModelName": child_name(row, model_key)}
    return {**definition, **names}


def _advance(turn: _Turn, number: int, one: dict[str, Any], seen: Seen) -> None:
    """Write what became of a profile's stage into it, and go on to the next."""
    if one["Status"] in ENDED:
        return
    one["Status"] = "InProgress"
    key = f"{number}-{one['stages'][one['at']]}"
    found = seen.hosts.get(key, Absent())
    if isinstance(found, Absent):
        turn.launched.append(key)
    elif isinstance(found, Exited):
        if found.result not in SUCCEEDED:
            one["Status"], one["FailureReason"] = "Failed", _reason(found)
            return
        facts = {name: value for name, value in found.outcome.items() if name != "result"}
        one["facts"], one["at"] = {**one["facts"], **facts}, one["at"] + 1
        if one["at"] < len(one["stages"]):
            turn.launched.append(f"{number}-{one['stages'][one['at']]}")
        else:
            one["Status"] = "Completed"


def _reason(found: Exited) -> str:
    failure = found.outcome.get("failure")
    return str(failure or f"The job of this profile ended as {found.result}.")


def _facts(row: Row, child: Row, parts: Parts) -> dict[str, Any]:
    document = child.document
    found = {
        "failure": document.get("FailureReason"),
        "artifacts": (document.get("ModelArtifacts") or {}).get("S3ModelArtifacts"),
    }
    return {name: value for name, value in found.items() if value}


def _parts_of(key: str) -> tuple[int, str]:
    number, _, stage = key.partition("-")
    return int(number), stage


def _pause(turn: _Turn, left: Sequence[str]) -> float:
    return LAUNCHED_SECONDS if turn.launched or left else RUNNING_SECONDS
