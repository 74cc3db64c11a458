"""A tuning job under every order of outcomes, stops and crashes that hypothesis can think of."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from clary.reconcile.decisions import Become, Halt, Launch, Prepare
from clary.reconcile.lifecycles import JOB
from clary.reconcile.loop import Loop, Planned, apply
from clary.reconcile.observations import Absent, Exited, Observation, Running
from clary.reconcile.seen import READY, Preparation, Seen
from clary.resources.tuning.summaries import best, counters, counters_of_objectives
from clary.resources.tuning.tuning_plan import WARM_UP, Tuning, plan_tuning, question_of
from clary.store.database import Store
from clary.store.rows import Row
from tests.reconcile.simulated_world import SimulatedWorld
from tests.resources.tuning.tuning_rows import names_of, tuning_row

KIND = "HyperParameterTuningJob"
POINTS = ("leased", "observed", "planned", "written", "acted")
TERMINAL = ("Completed", "Failed", "Stopped")


def turn(row: Row, hosts: Mapping[str, Observation] | None = None, **seen: Any) -> list[Any]:
    """One plan, applied; returns the decisions."""
    decisions = plan_tuning(row, Seen(now=1_010.0, hosts=hosts or {}, **seen))
    apply(row, decisions, JOB)
    return list(decisions)


def launched(decisions: list[Any]) -> tuple[str, ...]:
    return next((one.hosts for one in decisions if isinstance(one, Launch)), ())


def ended(value: float | None, status: str = "Completed") -> Exited:
    facts = {"result": status, "created": 1_001.0, "ended": 1_009.0}
    return Exited({**facts, **({"value": value} if value is not None else {})})


def test_as_many_jobs_run_as_may_and_their_names_are_written_down_first():
    row = tuning_row(trials=3, parallel=2)
    first = launched(turn(row))
    assert [name.rsplit("-", 1)[0] for name in first] == ["tune-001", "tune-002"]
    assert all(len(name.rsplit("-", 1)[1]) == 8 for name in first)
    assert names_of(row) == list(first)
    # The same row plans the same names and values: nothing is drawn anew after a crash.
    again = tuning_row(trials=3, parallel=2)
    assert launched(turn(again)) == first and again.state["trials"] == row.state["trials"]


def test_a_free_place_is_taken_by_the_next_trial_until_the_budget_is_spent():
    row = tuning_row(trials=3, parallel=2)
    one, two = launched(turn(row))
    (three,) = launched(turn(row, {one: ended(0.5), two: Running("InProgress")}))
    assert set(row.state["hosts"]) == {two, three}
    assert launched(turn(row, {two: ended(0.2), three: Running("InProgress")})) == ()
    assert row.status == "InProgress"
    turn(row, {three: ended(0.3)})
    assert row.status == "Completed"
    found = best(row)
    assert found is not None and found["TrainingJobName"] == two
    assert found["FinalHyperParameterTuningJobObjectiveMetric"] == {
        "Type": "Minimize",
        "MetricName": "loss",
        "Value": 0.2,
    }
    assert counters(row)["Completed"] == 3
    assert counters_of_objectives(row) == {"Succeeded": 3, "Pending": 0, "Failed": 0}


def test_a_refused_training_job_is_a_failed_trial_with_the_reason():
    row = tuning_row(trials=1, parallel=1)
    (name,) = launched(turn(row))
    turn(row, {name: Exited({"result": "refused", "code": "Denied", "failure": "no role"})})
    turn(row)
    assert row.status == "Failed"
    assert row.document["FailureReason"].endswith(f"{name}: Denied: no role")
    assert counters(row)["NonRetryableError"] == 1


def test_a_bayesian_search_asks_the_adviser_once_it_knows_enough():
    row = tuning_row("Bayesian", trials=9, parallel=5)
    first = launched(turn(row))
    # A sequence of its own begins the search, while the adviser starts.
    assert len(first) == 5 and question_of(row) == WARM_UP
    running = {name: Running("InProgress") for name in first[2:]}
    decisions = turn(row, {first[0]: ended(1.0), first[1]: ended(0.5), **running})
    assert launched(decisions) == () and Prepare() in decisions
    asked = question_of(row)
    assert asked is not None and len(asked["pending"]) == 3
    answer = Preparation("ready", answer={"point": [1.0, 0.0]})
    (name,) = launched(turn(row, running, preparation=answer))
    values = Tuning.of(row).trials[-1].values
    assert values == {"rate": "1.0", "kind": "gini"}
    # The answer was to one question: the second free place asks again.
    assert names_of(row)[-1] == name and len(names_of(row)) == 6


def test_a_search_goes_on_without_its_adviser():
    row = tuning_row("Bayesian", trials=9, parallel=5)
    first = launched(turn(row))
    seen = {name: ended(1.0) for name in first}
    assert len(launched(turn(row, seen, preparation=Preparation("failed", "gone")))) == 1


def test_a_stop_stops_the_jobs_that_run_and_forgets_those_that_were_never_made():
    row = tuning_row(trials=6, parallel=3)
    one, two, three = launched(turn(row))
    row.status = "Stopping"
    decisions = turn(row, {one: Running("InProgress"), two: ended(1.0), three: Absent()})
    assert [one_.hosts for one_ in decisions if isinstance(one_, Halt)] == [(one,)]
    assert names_of(row) == [one, two]
    turn(row, {one: ended(None, "Stopped")})
    assert row.status == "Stopped"
    assert counters(row) == {
        "Completed": 1,
        "InProgress": 0,
        "RetryableError": 0,
        "NonRetryableError": 0,
        "Stopped": 1,
    }


def test_early_stopping_halts_a_hopeless_job_and_keeps_its_value():
    row = tuning_row(trials=5, parallel=5, config={"TrainingJobEarlyStoppingType": "Auto"})
    *good, bad = launched(turn(row))
    facts = {"result": "Completed", "created": 1.0, "value": 0.1, "curve": [0.3, 0.2, 0.1]}
    seen: dict[str, Observation] = {name: Exited(facts) for name in good}
    running = Running("InProgress", facts={"created": 1.0, "value": 0.9, "curve": [0.9, 0.9]})
    decisions = turn(row, {**seen, bad: running})
    assert Halt((bad,)) in decisions
    stopped = {"result": "Stopped", "created": 1.0, "value": 0.9, "ended": 5.0}
    turn(row, {bad: Exited(stopped)})
    assert row.status == "Completed"
    assert counters(row)["Stopped"] == 1 and counters_of_objectives(row)["Succeeded"] == 5


def test_a_plan_that_learns_nothing_changes_nothing():
    row = tuning_row(trials=3, parallel=2)
    names = launched(turn(row))
    seen = {name: Running("InProgress", facts={"created": 1_001.0}) for name in names}
    turn(row, seen)
    before = dict(row.state)
    decisions = turn(row, seen)
    assert row.state == before
    assert all(isinstance(one, Become) or type(one).__name__ == "Wait" for one in decisions)


class Died(BaseException):
    """The process ends here, as by kill -9."""


class ChildrenWorld(SimulatedWorld):
    """Training jobs in place of hosts, and an adviser that answers at once."""

    def end(self, row_id: int, key: str, result: str, at: float) -> None:
        host = self.host(row_id, key)
        if host.running:
            host.running = False
            facts: dict[str, Any] = {"result": result, "created": at - 1, "ended": at}
            if result == "Completed":
                facts["value"] = float(int(key[-8:], 16) % 97)
            host.outcome = facts

    def preparation(self, row: Row) -> Preparation:
        asked = question_of(row)
        if asked is None or asked == WARM_UP:
            return READY
        number = len(asked["points"]) + len(asked["pending"])
        return Preparation("ready", answer={"point": [(number * 0.37) % 1, (number * 0.61) % 1]})


class TuningMachine(RuleBasedStateMachine):
    """No training job twice, none beyond the limits, none forgotten, and none running after the end."""

    def __init__(self) -> None:
        super().__init__()
        self.folder = tempfile.TemporaryDirectory()
        self.now = 1_000.0
        url = f"sqlite:///{Path(self.folder.name) / 'clary.db'}"
        self.store = Store.open(url, clock=lambda: self.now)
        self.world = ChildrenWorld()
        self.dies_at = ""
        self.new_process()

    @initialize(
        strategy=st.sampled_from(["Random", "Bayesian", "Grid"]), parallel=st.integers(1, 3)
    )
    def create(self, strategy: str, parallel: int) -> None:
        self.parallel = parallel
        values = [{"Name": f"h{n}", "Values": ["a", "b", "c"]} for n in range(2)]
        ranges = {"CategoricalParameterRanges": values} if strategy == "Grid" else None
        trials = 9 if strategy == "Grid" else 7
        self.trials_max = trials
        row = tuning_row(strategy, trials=trials, parallel=parallel, ranges=ranges)
        self.store.rows.insert(row)
        self.row_id = self.row().id

    def new_process(self) -> None:
        self.loop = Loop(
            self.store.rows,
            {KIND: Planned(plan_tuning, JOB)},
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

    def row(self) -> Row:
        (row,) = self.rows()
        return row

    def rows(self) -> list[Row]:
        return self.store.rows.every(KIND, account="1", region="us-east-1")

    @rule(seconds=st.sampled_from([1.0, 11.0, 61.0]))
    def time_passes(self, seconds: float) -> None:
        self.now += seconds
        for (row_id, key), host in self.world.hosts.items():
            if host.running and host.halted:
                self.world.end(row_id, key, "Stopped", self.now)
        self.turn()

    @rule(result=st.sampled_from(["Completed", "Completed", "Failed"]), which=st.integers(0, 2))
    def a_job_ends(self, result: str, which: int) -> None:
        running = self.world.running(self.row_id)
        if running:
            self.world.end(self.row_id, running[which % len(running)], result, self.now)

    @rule(point=st.sampled_from(POINTS))
    def die(self, point: str) -> None:
        self.dies_at = point
        self.now += 61.0
        self.turn()

    @rule()
    def stop(self) -> None:
        row = self.row()
        if row.status == "InProgress" and row.state["trials"]:
            row.status, row.due = "Stopping", self.now
            self.store.rows.update(row)

    @rule(refuse=st.booleans())
    def making_fails(self, refuse: bool) -> None:
        self.world.refuses_to_launch = refuse

    @invariant()
    def no_job_is_made_twice_or_beyond_the_limits(self) -> None:
        if not self.world.hosts:
            return
        assert all(host.launches <= 1 for host in self.world.hosts.values())
        assert len(self.world.running(self.row_id)) <= self.parallel
        made = [key for (_, key), host in self.world.hosts.items() if host.launches]
        assert len(made) <= self.trials_max
        assert len({name.split("-")[1] for name in made}) == len(made)

    @invariant()
    def every_job_that_was_made_is_written_down(self) -> None:
        for row in self.rows():
            names = names_of(row)
            made = [key for (_, key), host in self.world.hosts.items() if host.launches]
            assert set(made) <= set(names)
            if row.status in TERMINAL:
                assert self.world.running(row.id) == []

    def teardown(self) -> None:
        try:
            if self.rows():
                self.settle()
        finally:
            self.store.close()
            self.folder.cleanup()

    def settle(self) -> None:
        """Left alone with a world that works, the search comes to its end with all its trials told."""
        self.world.refuses_to_launch = False
        self.dies_at = ""
        for _ in range(60):
            self.time_passes(61.0)
            for name in self.world.running(self.row_id):
                self.world.end(self.row_id, name, "Completed", self.now)
        row = self.row()
        assert row.status in TERMINAL and row.due is None and not row.state.get("hosts"), row
        trials = Tuning.of(row).trials
        assert not any(one.is_open for one in trials)
        tried = [tuple(sorted(one.values.items())) for one in trials]
        assert len(set(tried)) == len(tried)
        for trial in trials:
            outcome = self.world.host(row.id, trial.name).outcome
            assert outcome is not None and trial.status == outcome["result"]
            assert trial.objective == outcome.get("value")
        if row.status == "Completed":
            assert len(trials) == self.trials_max


TestTuning = TuningMachine.TestCase
TestTuning.settings = settings(
    max_examples=20,
    stateful_step_count=30,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)
