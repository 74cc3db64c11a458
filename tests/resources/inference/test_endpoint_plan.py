"""Endpoints under every order of updates, alarms, crashes and lost contact that hypothesis can think of."""

from __future__ import annotations

import tempfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from clary.reconcile.lifecycles import ENDPOINT
from clary.reconcile.loop import Loop, Planned
from clary.reconcile.observations import Absent, Exited, Observation, Running, Unknown
from clary.resources.inference.endpoint_deployment import Deployment, begun
from clary.resources.inference.endpoint_fleets import serving_variants
from clary.resources.inference.endpoint_hosts import host_keys, variant_of
from clary.resources.inference.endpoint_plan import plan_endpoint
from clary.resources.inference.endpoint_traffic import ALL_AT_ONCE
from clary.store.database import Store
from clary.store.rows import Row
from tests.reconcile.simulated_world import Host, SimulatedWorld

POINTS = ("leased", "observed", "planned", "written", "acted")


def blue_green(traffic: dict[str, Any], wait: int = 30) -> dict[str, Any]:
    return {
        "BlueGreenUpdatePolicy": {
            "TrafficRoutingConfiguration": {**traffic, "WaitIntervalInSeconds": wait},
            "TerminationWaitInSeconds": 10,
            "MaximumExecutionTimeoutInSeconds": 600,
        },
        "AutoRollbackConfiguration": {"Alarms": [{"AlarmName": "errors"}]},
    }


def percent(value: int) -> dict[str, Any]:
    return {"Type": "CAPACITY_PERCENT", "Value": value}


POLICIES: dict[str, dict[str, Any]] = {
    "all at once": ALL_AT_ONCE,
    "canary": blue_green({"Type": "CANARY", "CanarySize": percent(25)}),
    "linear": blue_green({"Type": "LINEAR", "LinearStepSize": percent(34)}),
    "rolling": {
        "RollingUpdatePolicy": {
            "MaximumBatchSize": {"Type": "INSTANCE_COUNT", "Value": 1},
            "WaitIntervalInSeconds": 20,
            "MaximumExecutionTimeoutInSeconds": 600,
            "RollbackMaximumBatchSize": {"Type": "INSTANCE_COUNT", "Value": 1},
        },
        "AutoRollbackConfiguration": {"Alarms": [{"AlarmName": "errors"}]},
    },
}


class Died(BaseException):
    """The process ends here, as by kill -9: nothing after this line runs."""


@dataclass
class ServingWorld(SimulatedWorld):
    """Hosts that become ready some time after they were launched, and may be launched again once forgotten."""

    ready: set[tuple[int, str]] = field(default_factory=set)
    broken: set[int] = field(default_factory=set)  # revisions that never pass their health check
    refuses_to_forget: bool = False

    def _observe(self, row_id: int, key: str) -> Observation:
        if row_id in self.unseen:
            return Unknown("the node does not answer")
        host = self.host(row_id, key)
        if host.outcome is not None:
            return Exited(host.outcome)
        ready = (row_id, key) in self.ready
        return Running("Training", ready=ready) if host.running else Absent()

    def forget(self, row: Row, hosts: tuple[str, ...]) -> None:
        if self.refuses_to_forget:
            raise RuntimeError("its work still runs")
        super().forget(row, hosts)
        for key in hosts:
            self.hosts[row.id, key] = Host()
            self.ready.discard((row.id, key))

    def time_passes(self, now: float) -> None:
        for (row_id, key), host in self.hosts.items():
            if not host.running:
                continue
            if host.halted:
                self.end(row_id, key, "stopped", now)
            elif variant_of(key)[1] in self.broken:
                self.end(row_id, key, "failure", now)
            else:
                self.ready.add((row_id, key))


class EndpointMachine(RuleBasedStateMachine):
    """Invariants: a ready host is always in the routes; no halted host is; every update settles; no host is left."""

    def __init__(self) -> None:
        super().__init__()
        self.folder = tempfile.TemporaryDirectory()
        self.now = 1_000.0
        url = f"sqlite:///{Path(self.folder.name) / 'clary.db'}"
        self.store = Store.open(url, clock=lambda: self.now)
        self.world = ServingWorld()
        self.dies_at = ""
        self.disturbed = False  # a host of the old fleet has crashed: less than all may serve
        self.alarm = False
        self.expected = (
            ""  # the configuration that serves in the end, as long as nothing goes wrong
        )
        self.new_process()

    def new_process(self) -> None:
        self.loop = Loop(
            self.store.rows,
            {"Endpoint": Planned(plan_endpoint, ENDPOINT)},
            self.world,
            lambda: self.now,
            checkpoint=self.checkpoint,
        )

    def checkpoint(self, point: str) -> None:
        if point == self.dies_at:
            self.dies_at = ""
            raise Died(point)

    def turn(self) -> None:
        try:
            self.loop.step()
        except Died:
            self.new_process()

    @property
    def row(self) -> Row | None:
        return self.store.rows.get("Endpoint", "e")

    @initialize(counts=st.tuples(st.integers(1, 3), st.integers(1, 2)))
    def create(self, counts: tuple[int, int]) -> None:
        target = self.target(1, counts)
        self.store.rows.insert(
            Row("Endpoint", "e", "arn:e", status="Creating", state={"target": target}, due=self.now)
        )
        for _ in range(6):
            self.time_passes(1.0)
        assert self.row is not None and self.row.status == "InService"

    def target(self, revision: int, counts: tuple[int, ...]) -> dict[str, Any]:
        names = ("A", "B-2")
        variants = [
            {"VariantName": name, "count": count, "weight": 1.0}
            for name, count in zip(names, counts, strict=False)
        ]
        return {"revision": revision, "config": f"config-{revision}", "variants": variants}

    @rule(
        policy=st.sampled_from(sorted(POLICIES)),
        counts=st.tuples(st.integers(1, 3), st.integers(1, 2)),
        breaks=st.sampled_from([False, False, True]),
    )
    def update(self, policy: str, counts: tuple[int, int], breaks: bool) -> None:
        row = self.row
        if row is None or row.status != "InService":
            return
        live = set(host_keys(row.state["live"]))
        self.disturbed = not live <= {key for _, key in self.world.ready}
        attempts = row.state.get("attempts", 0)
        revision = row.state["live"]["revision"] + 1 + attempts
        if breaks:
            self.world.broken.add(revision)
        self.expected = "" if breaks or self.alarm else f"config-{revision}"
        row.state |= {
            "attempts": attempts + 1,
            "target": self.target(revision, counts),
            "deployment": begun(POLICIES[policy], self.now),
        }
        row.status, row.due = "Updating", self.now
        self.store.rows.update(row)

    @rule(counts=st.tuples(st.integers(0, 3), st.integers(1, 2)))
    def resize(self, counts: tuple[int, int]) -> None:
        row = self.row
        if row is None or row.status != "InService":
            return
        live = row.state["live"]
        row.state["target"] = {**live, "variants": self.target(0, counts)["variants"]}
        row.status, row.due = "Updating", self.now
        self.store.rows.update(row)

    @rule(alarm=st.sampled_from([False, False, True]))
    def alarm_changes(self, alarm: bool) -> None:
        self.alarm = alarm
        self.expected = "" if alarm else self.expected
        self.look_at_alarms()

    def look_at_alarms(self) -> None:
        """What watch_deployments writes."""
        row = self.row
        deployment = Deployment.of(row) if row is not None else None
        if row is None or deployment is None or deployment.rollback or not deployment.alarms:
            return
        alarmed = ["errors"] if self.alarm else []
        kept = row.state["deployment"]
        row.state["deployment"] = {**kept, "checked": self.now, "alarmed": alarmed}
        row.due = self.now
        self.store.rows.update(row, touch=False)

    @rule(seconds=st.sampled_from([1.0, 11.0, 31.0]))
    def more_time_passes(self, seconds: float) -> None:
        for _ in range(4):
            self.time_passes(seconds)

    @rule(seconds=st.sampled_from([0.1, 1.0, 11.0, 61.0]))
    def time_passes(self, seconds: float) -> None:
        self.now += seconds
        self.world.time_passes(self.now)
        self.look_at_alarms()
        self.turn()

    @rule(number=st.integers(0, 30))
    def host_crashes(self, number: int) -> None:
        if number > 9:
            return
        running = sorted(key for (_, key), host in self.world.hosts.items() if host.running)
        row = self.row
        if row is None or not running:
            return
        key = running[number % len(running)]
        self.expected = ""
        self.disturbed = self.disturbed or key in host_keys(row.state.get("live"))
        self.world.end(row.id, key, "failure", self.now)

    @rule(point=st.sampled_from(POINTS))
    def die(self, point: str) -> None:
        self.dies_at = point
        self.now += 0.5
        self.turn()

    @rule(lost=st.sampled_from([False, False, True]))
    def lose_contact(self, lost: bool) -> None:
        if lost and self.row is not None:
            self.world.unseen.add(self.row.id)
            self.expected = ""  # it may take longer than it is given

    @rule()
    def regain_contact(self) -> None:
        self.world.unseen.clear()

    @rule(refuse=st.sampled_from([False, False, True]))
    def launching_fails(self, refuse: bool) -> None:
        self.world.refuses_to_launch = refuse
        self.expected = "" if refuse else self.expected

    @rule(refuse=st.booleans())
    def forgetting_fails(self, refuse: bool) -> None:
        self.world.refuses_to_forget = refuse

    @rule(go=st.sampled_from([False, False, False, True]))
    def delete(self, go: bool) -> None:
        row = self.row
        if go and row is not None and row.status in ("InService", "UpdateRollbackFailed"):
            row.status, row.due = "Deleting", self.now
            self.store.rows.update(row)

    @invariant()
    def a_ready_host_is_always_in_the_routes(self) -> None:
        row = self.row
        if row is None or not row.state.get("live") or row.status == "Deleting" or self.disturbed:
            return
        instances = [keys for one in serving_variants(row) for keys in one.instances]
        assert instances, (row.status, row.state)
        deployment = row.state.get("deployment")
        if deployment:
            assert sum(one.weight for one in serving_variants(row)) > 0

    @invariant()
    def no_halted_host_is_in_the_routes(self) -> None:
        row = self.row
        if row is None:
            return
        for one in serving_variants(row):
            for keys in one.instances:
                for key in keys:
                    assert not self.world.host(row.id, key).halted, (key, row.state)

    @invariant()
    def no_host_is_launched_twice_while_it_lives(self) -> None:
        for place, host in self.world.hosts.items():
            assert host.launches <= 1, place

    @invariant()
    def transitions_are_legal(self) -> None:
        for happened in self.store.rows.events("arn:e"):
            source, target = happened.detail["from"], happened.detail["to"]
            assert ENDPOINT.allows(source, target) or target == "Deleted", happened

    def teardown(self) -> None:
        try:
            self.settle()
        finally:
            self.store.close()
            self.folder.cleanup()

    def settle(self) -> None:
        """Left alone with a world that works, an update ends, and only the hosts that serve are left."""
        self.world.unseen.clear()
        self.world.refuses_to_launch = self.world.refuses_to_forget = False
        self.dies_at, self.alarm = "", False
        for _ in range(80):
            self.time_passes(13.0)
        row = self.row
        running = sorted(key for (_, key), host in self.world.hosts.items() if host.running)
        if row is None:
            assert running == []
            return
        assert row.status == "InService", (row.status, row.state)
        assert self.expected in ("", row.state["live"]["config"]), row.document
        assert running == sorted(host_keys(row.state["live"])), row.state
        assert row.state["ready"] == running and not row.state.get("leaving"), row.state
        assert sorted(row.state["hosts"]) == running
        left = [key for (_, key), host in self.world.hosts.items() if host.outcome]
        assert left == [], "the files of hosts that have ended are left behind"


TestEndpoints = EndpointMachine.TestCase
TestEndpoints.settings = settings(
    max_examples=30,
    stateful_step_count=25,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)


class Alone:
    """One endpoint in a world where a test decides what happens, told turn by turn."""

    def __init__(self, counts: tuple[int, int] = (2, 1)) -> None:
        self.machine = EndpointMachine()
        self.machine.create(counts)

    def told(self, seconds: float) -> tuple[str, dict[str, float], list[str]]:
        """Status, traffic by revision and the hosts that run, after some seconds in steps of one."""
        for _ in range(int(seconds)):
            self.machine.time_passes(1.0)
        row = self.machine.row
        assert row is not None
        traffic: dict[str, float] = {}
        for one in serving_variants(row):
            traffic[one.config] = round(traffic.get(one.config, 0.0) + one.weight, 6)
        hosts = self.machine.world.hosts.items()
        return row.status, traffic, sorted(key for (_, key), host in hosts if host.running)


@pytest.fixture
def alone():
    made: list[Alone] = []

    def make(counts: tuple[int, int] = (2, 1)) -> Alone:
        made.append(Alone(counts))
        return made[-1]

    yield make
    for one in made:
        one.machine.teardown()


OLD = ["A-r1-i0", "A-r1-i1", "B-2-r1-i0"]
NEW = ["A-r2-i0", "A-r2-i1", "B-2-r2-i0"]


def test_a_canary_takes_its_part_first_and_the_old_fleet_goes_last(alone):
    endpoint = alone()
    endpoint.machine.update("canary", (2, 1), False)
    status, traffic, running = endpoint.told(6)
    assert (status, traffic) == ("Updating", {"config-1": 0.75, "config-2": 0.25})
    assert running == sorted(OLD + NEW)
    status, traffic, running = endpoint.told(33)
    assert (status, traffic) == ("Updating", {"config-1": 0.0, "config-2": 1.0})
    assert running == sorted(OLD + NEW)
    status, traffic, running = endpoint.told(45)
    assert (status, traffic, running) == ("InService", {"config-2": 2.0}, NEW)


def test_an_alarm_while_baking_sends_all_traffic_back(alone):
    endpoint = alone()
    endpoint.machine.update("canary", (2, 1), False)
    endpoint.told(10)
    endpoint.machine.alarm_changes(True)
    status, traffic, _ = endpoint.told(2)
    assert (status, traffic) == ("InService", {"config-1": 2.0})
    assert "in ALARM: errors" in endpoint.machine.row.document["FailureReason"]
    endpoint.machine.alarm_changes(False)
    assert endpoint.told(10)[2] == OLD


def test_rolling_never_has_less_than_the_old_fleet(alone):
    endpoint = alone((3, 1))
    endpoint.machine.update("rolling", (3, 1), False)
    least = 4
    for _ in range(200):
        status, _, _ = endpoint.told(1)
        row = endpoint.machine.row
        least = min(least, sum(len(one.instances) for one in serving_variants(row)))
        if status == "InService":
            break
    assert status == "InService" and row.state["live"]["config"] == "config-2"
    assert least >= 4


def test_a_fleet_that_does_not_come_up_leaves_the_old_one_serving(alone):
    endpoint = alone()
    endpoint.machine.update("all at once", (2, 1), True)
    status, traffic, _ = endpoint.told(8)
    assert (status, traffic) == ("InService", {"config-1": 2.0})
    assert "did not pass the ping health check" in endpoint.machine.row.document["FailureReason"]
    assert endpoint.told(5)[2] == OLD


def test_an_instance_that_is_wanted_again_while_it_leaves_is_started_anew(alone):
    endpoint = alone()
    endpoint.machine.resize((1, 1))
    endpoint.told(2)
    endpoint.machine.resize((2, 1))
    assert endpoint.machine.row.status == "Updating"
    status, _, running = endpoint.told(12)
    assert (status, running) == ("InService", OLD)
    assert sum(len(one.instances) for one in serving_variants(endpoint.machine.row)) == 3


def test_the_files_of_an_earlier_host_do_not_fail_the_next_one_of_its_key(alone):
    endpoint = alone()
    machine = endpoint.machine
    machine.resize((1, 1))
    endpoint.told(2)
    row = machine.row
    machine.world.end(row.id, "A-r1-i1", "stopped", machine.now)
    endpoint.told(1)
    # The row has struck it, and the process died before its files were removed.
    host = machine.world.host(row.id, "A-r1-i1")
    host.outcome = {"result": "stopped"}
    machine.resize((2, 1))
    status, _, running = endpoint.told(8)
    assert (status, running) == ("InService", OLD)
    assert machine.row.document["FailureReason"] is None


def test_files_that_could_not_be_removed_at_first_are_removed_later(alone):
    endpoint = alone()
    machine = endpoint.machine
    machine.world.refuses_to_forget = True
    machine.resize((1, 1))
    endpoint.told(12)
    host = machine.world.host(machine.row.id, "A-r1-i1")
    assert host.outcome is not None and "A-r1-i1" in machine.row.state["hosts"]
    machine.world.refuses_to_forget = False
    endpoint.told(45)  # the loop comes back to a row with a fault after half a minute
    assert machine.world.host(machine.row.id, "A-r1-i1").outcome is None
    assert sorted(machine.row.state["hosts"]) == ["A-r1-i0", "B-2-r1-i0"]
