"""Children: resources of other kinds that a row makes through the API, stops, and waits for, as others do with hosts.

A plan launches and halts a child by its key and is shown Absent, Running or Exited of it, exactly as with hosts.
A child's row holds its owner's ARN from the moment it exists, so a launch that is done twice makes one child.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from clary.engine.call import Parts
from clary.identity.principals import Principal, service_principal
from clary.model.errors import ApiError
from clary.reconcile.observations import Absent, Exited, Observation, Running
from clary.store.rows import Row

log = logging.getLogger(__name__)

REFUSALS_MAX = 10_000
SERVICE = "sagemaker.amazonaws.com"
# Refusals that say nothing about the request: the same call may be granted later.
_PASSING = ("ThrottlingException", "ConflictException", "ServiceUnavailable", "InternalFailure")


@dataclass(frozen=True, slots=True)
class Child:
    """One child by key: its kind, its name, and the request that makes it."""

    noun: str
    name: str
    request: Callable[[], dict[str, Any]]


@dataclass(frozen=True, slots=True)
class Children:
    """What a kind declares of its children: `child(row, key)`, and `facts(row, child's row, parts)` for its plan."""

    child: Callable[[Row, str], Child]
    facts: Callable[[Row, Row, Parts], dict[str, Any]]


@dataclass(frozen=True, slots=True)
class _Refusal:
    code: str
    message: str


class Nursery:
    """Makes, observes and stops the children of rows. What it remembers it can learn again by asking."""

    def __init__(self, parts: Parts) -> None:
        self._parts = parts
        self._refused: dict[tuple[int, str], _Refusal] = {}
        self._woken: set[int] = set()
        self._guard = threading.Lock()

    def observe(self, row: Row, children: Children, keys: Iterable[str]) -> dict[str, Observation]:
        return {key: self._observe(row, children, key) for key in keys}

    def launch(self, row: Row, children: Children, keys: Iterable[str]) -> None:
        for key in keys:
            child = children.child(row, key)
            try:
                self._call(row, f"Create{child.noun}", child.request())
            except ApiError as problem:
                if self._row_of(row, child) is not None:
                    continue  # it was made before; whose it is shows when it is observed
                if problem.status >= 500 or problem.code in _PASSING:
                    raise
                self._refuse(row, key, _Refusal(problem.code, problem.message))

    def halt(self, row: Row, children: Children, keys: Iterable[str]) -> None:
        for key in keys:
            child = children.child(row, key)
            found = self._row_of(row, child)
            if found is None or found.state.get("owner") != row.arn:
                continue
            member = self._parts.bound(child.noun).kind.name_member
            try:
                self._call(row, f"Stop{child.noun}", {member: child.name})
            except ApiError as problem:
                if problem.status >= 500 or problem.code in _PASSING:
                    raise
                log.info("%s had ended before it was stopped: %s", child.name, problem.message)

    def forget(self, row: Row, keys: Iterable[str]) -> None:
        """The children stay, as SageMaker's do; only what was remembered of their making goes."""
        with self._guard:
            for key in keys:
                self._refused.pop((row.id, key), None)

    def written(self, row: Row) -> None:
        """A child that ended lets its owner be looked at."""
        owner = row.state.get("owner")
        if not owner or not self._parts.bound(row.kind).resource.lifecycle.is_terminal(row.status):
            return
        found = self._parts.store.rows.by_arn(owner)
        if found is not None:
            self.wake(found.id)

    def wake(self, row_id: int) -> None:
        with self._guard:
            self._woken.add(row_id)
        self._parts.wake()

    def woken(self) -> list[int]:
        """The rows to look at since last asked."""
        with self._guard:
            found = list(self._woken)
            self._woken.clear()
        return found

    def _observe(self, row: Row, children: Children, key: str) -> Observation:
        child = children.child(row, key)
        found = self._row_of(row, child)
        refused = self._refused.get((row.id, key))
        if found is None and refused is not None:
            return Exited({"result": "refused", "code": refused.code, "failure": refused.message})
        if found is None:
            return Absent()
        if found.state.get("owner") != row.arn:
            told = f"{found.arn} exists already and does not belong to {row.arn}."
            return Exited({"result": "refused", "code": "ResourceInUse", "failure": told})
        facts = children.facts(row, found, self._parts)
        if self._parts.bound(child.noun).resource.lifecycle.is_terminal(found.status):
            return Exited({"result": found.status, **facts})
        return Running(found.status, facts=facts)

    def _row_of(self, row: Row, child: Child) -> Row | None:
        return self._parts.store.rows.get(
            child.noun, child.name, account=row.account, region=row.region
        )

    def _refuse(self, row: Row, key: str, refusal: _Refusal) -> None:
        with self._guard:
            if len(self._refused) >= REFUSALS_MAX:
                self._refused.clear()
            self._refused[row.id, key] = refusal
        self.wake(row.id)

    def _call(self, row: Row, operation: str, request: Mapping[str, Any]) -> None:
        self._parts.call(
            "sagemaker", operation, dict(request), principal=acting_for(row), region=row.region
        )


def acting_for(row: Row) -> Principal:
    """SageMaker itself, on behalf of a resource, which becomes the owner of what is made."""
    return replace(service_principal(row.account, SERVICE), acts_for=row.arn)


def owner_in(segment: str) -> Callable[[Row], str | None]:
    """The member of a child that names its owner, where that is of a kind: `TuningJobArn` and its like."""

    def owner(row: Row) -> str | None:
        arn = row.state.get("owner") or ""
        return arn if f":{segment}/" in arn else None

    return owner
