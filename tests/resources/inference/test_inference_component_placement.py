"""Copies of inference components fit on their variant's instances, or are told what is missing."""

from __future__ import annotations

from typing import Any

import pytest

from clary.engine.instance_types import accelerators_of
from clary.reconcile.decisions import Become
from clary.reconcile.observations import Running
from clary.reconcile.seen import Seen
from clary.resources.inference.endpoint_plan import plan_endpoint
from clary.resources.inference.inference_component_placement import held_by, refusal
from clary.store.rows import Row

CPUS, DEVICES = "NumberOfCpuCoresRequired", "NumberOfAcceleratorDevicesRequired"
MEMORY = "MinMemoryRequiredInMb"


def instances(kind: str = "ml.m5.xlarge", count: int = 1, **more: Any) -> dict[str, Any]:
    return {"VariantName": "A", "InstanceType": kind, "instances": count, **more}


def asks(copies: int = 1, **needs: Any) -> dict[str, Any]:
    return {"VariantName": "A", "count": copies, "needs": {MEMORY: 128, **needs}}


def fits(variant: dict[str, Any], asked: dict[str, Any], *others: dict[str, Any]) -> bool:
    return refusal(variant, asked, others) is None


@pytest.mark.parametrize(
    ("needs", "room"),
    [
        ({CPUS: 4}, True),
        ({CPUS: 64}, False),
        ({CPUS: 4.25}, False),
        ({MEMORY: 16384}, True),
        ({MEMORY: 1_000_000}, False),
        ({DEVICES: 4}, False),
        ({DEVICES: 1, "AcceleratorPartitionType": "mig-3g.40gb"}, True),
    ],
)
def test_a_copy_needs_what_one_instance_has(needs: dict[str, Any], room: bool) -> None:
    assert fits(instances(), asks(**needs)) is room


def test_copies_share_instances_and_no_copy_is_cut_in_two() -> None:
    assert not fits(instances(), asks(**{CPUS: 3}), asks(**{CPUS: 3}))
    assert fits(instances(count=2), asks(**{CPUS: 3}), asks(**{CPUS: 3}))
    assert fits(instances(count=2), asks(2, **{CPUS: 1}), asks(2, **{CPUS: 3}))
    assert not fits(instances(count=2), asks(**{CPUS: 2}), asks(2, **{CPUS: 3}))
    assert fits(instances(), asks(20, **{CPUS: 0.2}))
    assert not fits(instances(), asks(21, **{CPUS: 0.2}))


def test_managed_scaling_may_bring_the_instances_that_are_missing() -> None:
    scaling = {"Status": "ENABLED", "MinInstanceCount": 1, "MaxInstanceCount": 3}
    assert fits(instances(ManagedInstanceScaling=scaling), asks(3, **{CPUS: 4}))
    assert not fits(instances(ManagedInstanceScaling=scaling), asks(4, **{CPUS: 4}))
    stopped = {**scaling, "Status": "DISABLED"}
    assert not fits(instances(ManagedInstanceScaling=stopped), asks(3, **{CPUS: 4}))


def test_a_type_that_is_not_known_is_not_checked_and_no_instance_has_no_room() -> None:
    assert fits(instances("ml.p6-b200.48xlarge"), asks(9, **{CPUS: 999}))
    assert not fits(instances(count=0), asks())
    assert fits(instances(count=0), asks(0))


def test_counts_of_any_size_are_answered_at_once() -> None:
    assert not fits(instances(), asks(10**12))
    assert fits(instances(count=3), {**asks(10**6), "needs": {}})


def test_the_reason_says_what_is_asked_and_what_is_free() -> None:
    told = refusal(instances(), asks(2, **{CPUS: 1.5, MEMORY: 512}), [asks(**{CPUS: 2})])
    assert told is not None
    assert told.startswith(
        "There is not enough hardware resources on the instances for this endpoint to create a copy "
        "of the inference component. 2 copies were asked for and 1 fit: "
    )
    assert "each needs 1.5 CPU cores, 0 accelerators and 512 MB of memory." in told
    assert "A has 1 ml.m5.xlarge instances, each with 4 CPU cores, 0 accelerators" in told
    assert "at most 2 CPU cores, 0 accelerators and 16256 MB of memory are free" in told


@pytest.mark.parametrize(
    ("name", "devices"),
    [
        ("ml.c7i.48xlarge", 0),
        ("ml.g5.xlarge", 1),
        ("ml.g5.12xlarge", 4),
        ("ml.g6e.48xlarge", 8),
        ("ml.inf2.48xlarge", 12),
        ("ml.p5.4xlarge", 1),
        ("ml.p4d.24xlarge", 8),
        ("ml.x9.large", None),
    ],
)
def test_a_type_has_the_accelerators_that_aws_publishes(name: str, devices: int | None) -> None:
    assert accelerators_of(name) == devices


def component(number: int, status: str = "InService", **state: Any) -> Row:
    run = {"revision": 1, "config": "r1", "variants": [asks(number)]}
    state = {"endpoint": "arn:e", "target": run, "live": run, **state}
    row = Row("InferenceComponent", f"c{number}", f"arn:c{number}", status=status, state=state)
    row.id = number
    return row


def test_what_serves_or_comes_up_holds_its_room_and_what_failed_does_not() -> None:
    fresh = {"revision": 1, "config": "r1", "variants": [asks(9)]}
    rows = [
        component(5, "Updating", target=fresh),
        component(4, "Updating", target=fresh, refused="no room"),
        component(3, "Creating", target=fresh, live=None, refused="no room"),
        component(2, "Failed"),
        component(1, "Deleting"),
        component(6, endpoint="arn:another"),
    ]
    assert [one["count"] for one in held_by(rows, "arn:e", "A")] == [4, 9]
    assert held_by(rows, "arn:e", "B") == []


def test_a_component_without_room_fails_and_one_that_serves_goes_on_as_it_was() -> None:
    new = component(1, "Creating", live=None, refused="no room")
    (become, *_) = plan_endpoint(new, Seen(1_000.0, {}))
    assert isinstance(become, Become)
    assert (become.status, become.fields) == ("Failed", {"FailureReason": "no room"})
    fresh = {"revision": 2, "config": "r2", "variants": [asks(9)]}
    old = component(1, "Updating", target=fresh, refused="no room")
    (become, *_) = plan_endpoint(old, Seen(1_000.0, {"A-r1-i0": Running(ready=True)}))
    assert isinstance(become, Become)
    assert (become.status, become.fields["FailureReason"]) == ("InService", "no room")
    assert become.state["target"] == become.state["live"] == old.state["live"]
