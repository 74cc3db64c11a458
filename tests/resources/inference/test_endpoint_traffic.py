"""The steps of each policy, and what of a DeploymentConfig cannot be carried out."""

from __future__ import annotations

from typing import Any

import pytest

from clary.model.errors import ValidationException
from clary.resources.inference.endpoint_traffic import check_policy, steps_back, steps_of


def fleet(revision: int, **counts: int) -> dict[str, Any]:
    variants = [{"VariantName": name, "count": count} for name, count in counts.items()]
    return {"revision": revision, "config": f"c{revision}", "variants": variants}


def blue_green(kind: str, wait: int = 60, **sizes: Any) -> dict[str, Any]:
    traffic = {"Type": kind, "WaitIntervalInSeconds": wait, **sizes}
    return {"BlueGreenUpdatePolicy": {"TrafficRoutingConfiguration": traffic}}


def rolling(value: int, kind: str = "INSTANCE_COUNT", **more: Any) -> dict[str, Any]:
    size = {"Type": kind, "Value": value}
    return {"RollingUpdatePolicy": {"MaximumBatchSize": size, "WaitIntervalInSeconds": 30, **more}}


def percent(value: int) -> dict[str, Any]:
    return {"Type": "CAPACITY_PERCENT", "Value": value}


def instances(value: int) -> dict[str, Any]:
    return {"Type": "INSTANCE_COUNT", "Value": value}


OLD, NEW = fleet(1, A=4), fleet(2, A=4)


@pytest.mark.parametrize(
    ("config", "shares"),
    [
        (blue_green("ALL_AT_ONCE"), [1.0]),
        (blue_green("CANARY", CanarySize=percent(30)), [0.3, 1.0]),
        (blue_green("CANARY", CanarySize=instances(1)), [0.25, 1.0]),
        (blue_green("LINEAR", LinearStepSize=percent(33)), [0.33, 0.66, 0.99, 1.0]),
        (blue_green("LINEAR", LinearStepSize=instances(2)), [0.5, 1.0]),
        ({}, [1.0]),
    ],
)
def test_blue_green_moves_traffic_between_two_whole_fleets(config, shares):
    steps = steps_of(config, OLD, NEW)
    assert [step.share for step in steps] == shares
    assert all((step.fresh, step.kept) == ({"A": 4}, {"A": 4}) for step in steps)
    (back,) = steps_back(config, OLD, NEW, 0)
    assert (back.share, back.kept) == (0.0, {"A": 4})


def test_rolling_replaces_a_batch_after_another():
    steps = steps_of(rolling(2), OLD, NEW)
    told = [(step.share, step.fresh["A"], step.kept["A"], step.bake_seconds) for step in steps]
    assert told == [(0.5, 2, 4, 30.0), (1.0, 4, 2, 30.0)]
    # 20 percent of four instances are less than one: a batch is one instance at least.
    assert len(steps_of(rolling(20, "CAPACITY_PERCENT"), OLD, NEW)) == 4


def test_rolling_back_brings_the_old_instances_up_before_the_new_ones_go():
    config = rolling(1, RollbackMaximumBatchSize=instances(2))
    steps = steps_back(config, OLD, NEW, 2)
    assert [(step.share, step.fresh["A"], step.kept["A"]) for step in steps] == [
        (0.25, 3, 3),
        (0.0, 1, 4),
    ]
    at_once = steps_back(rolling(1), OLD, NEW, 2)
    assert [(step.share, step.kept["A"]) for step in at_once] == [(0.0, 4)]


@pytest.mark.parametrize(
    ("config", "words"),
    [
        (blue_green("CANARY"), "CanarySize is required"),
        (blue_green("CANARY", CanarySize=percent(60)), "not between 1 and 50"),
        (blue_green("CANARY", CanarySize=instances(3)), "more than 50 percent of the 4 instances"),
        (blue_green("LINEAR", LinearStepSize=percent(5)), "not between 10 and 50"),
        (blue_green("ALL_AT_ONCE", CanarySize=percent(5)), "cannot be given"),
        (rolling(60, "CAPACITY_PERCENT"), "not between 5 and 50"),
        ({**rolling(1), **blue_green("ALL_AT_ONCE")}, "but not both"),
        (rolling(1, MaximumExecutionTimeoutInSeconds=100), "must be greater than the sum"),
    ],
)
def test_a_policy_that_cannot_be_carried_out_is_refused(config, words):
    with pytest.raises(ValidationException, match=words):
        check_policy(config, OLD, NEW)
