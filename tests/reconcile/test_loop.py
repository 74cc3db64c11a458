"""The loop under every order of calls, outcomes, faults and crashes that hypothesis can think of."""

from __future__ import annotations

import tempfile
from pathlib import Path

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    Bundle,
    RuleBasedStateMachine,
    invariant,
    rule,
)

from clary.reconcile.jobs import JobPlan
from clary.reconcile.lifecycles import JOB
from clary.reconcile.loop import Loop, Planned
from clary.resources.training.training_job_form import TrainingJobForm
from clary.store.database import Store
from clary.store.rows import Event, Row, RowChanged
from tests.reconcile.simulated_world import SimulatedWorld

POINTS = ("leased", "observed", "planned", "written", "acted")
TERMINAL = ("Completed", "Failed", "Stopped")


class Died(BaseException):
    """The process ends here, as by kill -9: nothing after this line runs."""


class JobMachine(RuleBasedStateMachine):
    """Invariants of the architecture: legal transitions only; at most one launch per generation; no terminal row with
    running work; a stop settles without outside help; a job stopped before launch is never launched."""

    jobs = Bundle("jobs")

    def __init__(self) -> None:
        super().__init__()
        self.folder = tempfile.TemporaryDirectory()
        self.now = 1_000.0
        url = f"sqlite:///{Path(self.folder.name) / 'clary.db'}"
        self.store = Store.open(url, clock=lambda: self.now)
        self.world = SimulatedWorld()
        self.dies_at = ""
        self.stopped_before_launch: set[int] = set()
        self.new_process()

    def new_process(self) -> None:
        plan = Planned(JobPlan(TrainingJobForm()), JOB)
        self.loop = Loop(
            self.store.rows,
            {"TrainingJob": plan},
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

    @rule(target=jobs, hosts=st.integers(1, 3))
    def create(self, hosts: int) -> int:
        number = len(self.store.rows.every("TrainingJob"))
        row = Row(
            "TrainingJob",
            f"job-{number}",
            f"arn:job-{number}",
            status="InProgress",
            document={"ResourceConfig": {"InstanceCount": hosts}},
            due=self.now,
        )
        self.store.rows.insert(row)
        found = self.store.rows.get("TrainingJob", row.name)
        assert found is not None
        return found.id

    @rule(job=jobs)
    def stop(self, job: int) -> None:
        row = self.store.rows.by_id(job)
        assert row is not None
        if row.status != "InProgress":
            return
        if not row.state.get("hosts"):
            self.stopped_before_launch.add(job)
        row.status, row.due = "Stopping", self.now
        try:
            self.store.rows.update(
                row, Event("transition", {"from": "InProgress", "to": "Stopping"})
            )
        except RowChanged as changed:
            raise AssertionError("nobody else writes between the two lines") from changed

    @rule(seconds=st.sampled_from([0.1, 1.0, 30.0, 100.0]))
    def time_passes(self, seconds: float) -> None:
        self.now += seconds
        # A halted program ends by itself within its grace.
        for (row_id, key), host in self.world.hosts.items():
            if host.running and host.halted:
                self.world.end(row_id, key, "stopped", self.now)
        self.turn()

    @rule(
        job=jobs,
        result=st.sampled_from(["success", "failure", "timeout", "lost"]),
        n=st.integers(1, 3),
    )
    def host_ends(self, job: int, result: str, n: int) -> None:
        self.world.end(job, f"algo-{n}", result, self.now)

    @rule(point=st.sampled_from(POINTS))
    def die(self, point: str) -> None:
        self.dies_at = point
        self.now += 0.5
        self.turn()

    @rule(job=jobs)
    def lose_contact(self, job: int) -> None:
        self.world.unseen.add(job)

    @rule()
    def regain_contact(self) -> None:
        self.world.unseen.clear()

    @rule(refuse=st.booleans())
    def launching_fails(self, refuse: bool) -> None:
        self.world.refuses_to_launch = refuse

    @rule()
    def two_workers(self) -> None:
        """A second process looks at the same rows while the first holds nothing."""
        self.new_process()
        self.turn()

    @invariant()
    def one_launch_per_generation(self) -> None:
        for place, host in self.world.hosts.items():
            assert host.launches <= 1, place

    @invariant()
    def no_terminal_row_has_running_work(self) -> None:
        for row in self.store.rows.every("TrainingJob"):
            if row.status in TERMINAL:
                assert self.world.running(row.id) == [], row

    @invariant()
    def stopped_before_launch_is_never_launched(self) -> None:
        for (row_id, _), host in self.world.hosts.items():
            assert row_id not in self.stopped_before_launch or host.launches == 0

    @invariant()
    def transitions_are_legal(self) -> None:
        for row in self.store.rows.every("TrainingJob"):
            for happened in self.store.rows.events(row.arn):
                source, target = happened.detail["from"], happened.detail["to"]
                via_stopping = source == "InProgress" and target == "Stopped"
                assert JOB.allows(source, target) or via_stopping, happened

    def teardown(self) -> None:
        try:
            self.settle()
        finally:
            self.store.close()
            self.folder.cleanup()

    def settle(self) -> None:
        """Left alone with a world that works, everything that was stopped or has ended settles."""
        self.world.unseen.clear()
        self.world.refuses_to_launch = False
        self.dies_at = ""
        for _ in range(40):
            self.time_passes(61.0)
            for row_id, key in list(self.world.hosts):
                self.world.end(row_id, key, "success", self.now)
        for row in self.store.rows.every("TrainingJob"):
            assert row.status in TERMINAL, (row.status, row.state)
            assert row.due is None and not row.state.get("hosts"), row.state


TestJobs = JobMachine.TestCase
TestJobs.settings = settings(
    max_examples=30,
    stateful_step_count=25,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)
