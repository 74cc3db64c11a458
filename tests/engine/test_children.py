"""Children are made once, belong to their owner, and let it know when they end."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from clary.engine.call import Call
from clary.engine.children import Child, Children, Nursery, owner_in
from clary.engine.resource import Resource
from clary.identity.principals import Principal
from clary.model.errors import ServiceUnavailable, ValidationException
from clary.reconcile.decisions import Wait
from clary.reconcile.lifecycles import JOB
from clary.reconcile.observations import Absent, Exited, Running
from clary.store.rows import Row
from tests.engine.small_parts import ACCOUNT, REGION, SmallParts

OWNER = f"arn:aws:sagemaker:{REGION}:{ACCOUNT}:automl-job/parent"


def polite(call: Call) -> None:
    if "damn" in call.input["TransformJobName"]:
        raise ValidationException("Names are polite.")


KIND = Resource("TransformJob", lifecycle=JOB, admits=(polite,), plan=lambda row, seen: [Wait(1.0)])
CHILDREN = Children(
    child=lambda row, key: Child("TransformJob", key, lambda: {"TransformJobName": key}),
    facts=lambda row, job, parts: {"model": job.document.get("ModelName")},
)


class CallingParts(SmallParts):
    """Calls in process reach the declared kinds; `broken` makes them fail as a part that restarts does."""

    broken = False

    def call(
        self,
        service: str,
        operation: str,
        request: dict[str, Any],
        *,
        principal: Principal,
        region: str,
    ) -> dict[str, Any]:
        if self.broken:
            raise ServiceUnavailable("later")
        call = Call(
            service, operation, request, principal.account, region, principal, "r", self.now, self
        )
        return self._handler(operation)(call) or {}


@pytest.fixture
def parts(tmp_path: Path) -> Iterator[CallingParts]:
    made = CallingParts(tmp_path, KIND)
    yield made
    made.store.close()


@pytest.fixture
def owner(parts: CallingParts) -> Row:
    row = Row("AutoMLJob", "parent", OWNER, account=ACCOUNT, region=REGION, due=1.0)
    parts.store.rows.insert(row)
    found = parts.store.rows.by_arn(OWNER)
    assert found is not None
    return found


def job(parts: SmallParts, name: str) -> Row:
    found = parts.store.rows.get("TransformJob", name, account=ACCOUNT, region=REGION)
    assert found is not None
    return found


def test_a_child_is_made_once_and_knows_its_owner(parts, owner):
    nursery = Nursery(parts)
    assert nursery.observe(owner, CHILDREN, ["one"]) == {"one": Absent()}
    for _ in range(2):
        nursery.launch(owner, CHILDREN, ["one"])
    assert job(parts, "one").state["owner"] == OWNER
    assert isinstance(nursery.observe(owner, CHILDREN, ["one"])["one"], Running)
    assert owner_in("automl-job")(job(parts, "one")) == OWNER
    assert owner_in("hyper-parameter-tuning-job")(job(parts, "one")) is None


def test_the_end_of_a_child_wakes_its_owner(parts, owner):
    nursery = Nursery(parts)
    nursery.launch(owner, CHILDREN, ["one"])
    row = job(parts, "one")
    nursery.written(row)
    assert nursery.woken() == []
    row.status = "Completed"
    parts.store.rows.update(row)
    nursery.written(row)
    assert nursery.woken() == [owner.id] and nursery.woken() == []
    (seen,) = nursery.observe(owner, CHILDREN, ["one"]).values()
    assert isinstance(seen, Exited) and seen.result == "Completed"


def test_a_child_that_is_refused_ends_with_the_reason(parts, owner):
    nursery = Nursery(parts)
    nursery.launch(owner, CHILDREN, ["damn"])
    assert nursery.woken() == [owner.id]
    (seen,) = nursery.observe(owner, CHILDREN, ["damn"]).values()
    assert isinstance(seen, Exited) and seen.outcome == {
        "result": "refused",
        "code": "ValidationException",
        "failure": "Names are polite.",
    }
    # Another process has not heard of it, and asks again.
    assert Nursery(parts).observe(owner, CHILDREN, ["damn"]) == {"damn": Absent()}


def test_a_passing_fault_is_left_to_the_next_look(parts, owner):
    nursery = Nursery(parts)
    parts.broken = True
    with pytest.raises(ServiceUnavailable):
        nursery.launch(owner, CHILDREN, ["one"])
    parts.broken = False
    assert nursery.observe(owner, CHILDREN, ["one"]) == {"one": Absent()}


def test_a_resource_of_somebody_else_is_neither_taken_nor_stopped(parts, owner):
    parts.ask("CreateTransformJob", TransformJobName="one")
    nursery = Nursery(parts)
    nursery.launch(owner, CHILDREN, ["one"])
    (seen,) = nursery.observe(owner, CHILDREN, ["one"]).values()
    assert isinstance(seen, Exited) and "does not belong to" in seen.outcome["failure"]
    nursery.halt(owner, CHILDREN, ["one"])
    assert job(parts, "one").status == "InProgress"


def test_a_child_is_stopped_by_its_own_operation_and_may_have_ended_before(parts, owner):
    nursery = Nursery(parts)
    nursery.launch(owner, CHILDREN, ["one"])
    nursery.halt(owner, CHILDREN, ["one", "never-made"])
    row = job(parts, "one")
    assert row.status == "Stopping"
    row.status = "Stopped"
    parts.store.rows.update(row)
    nursery.halt(owner, CHILDREN, ["one"])
    assert job(parts, "one").status == "Stopped"
