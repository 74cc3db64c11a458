"""The plan of a training job, turn by turn, with nothing but a clock that the test holds."""

from __future__ import annotations

from typing import Any

from clary.reconcile.decisions import Become, Decision, Forget, Halt, Launch, Wait
from clary.reconcile.loop import apply
from clary.reconcile.observations import Absent, Exited, Observation, Running
from clary.reconcile.seen import Seen
from clary.resources.training.training_job import LIFECYCLE, plan
from clary.store.rows import Row

BEGAN = 1_000.0


class Job:
    """One row, and what its plan is shown."""

    def __init__(self, **document: Any) -> None:
        known = {"ResourceConfig": {"InstanceCount": 1}, "StoppingCondition": {}}
        self.row = Row(
            "TrainingJob",
            "job",
            "arn:job",
            status="InProgress",
            document={**known, **document},
            created=BEGAN,
        )
        self.now = BEGAN

    def turn(self, **hosts: Observation) -> list[Decision]:
        shown = {key.replace("_", "-"): one for key, one in hosts.items()}
        seen = Seen(self.now, hosts=shown, slots=2, slots_free=2)
        decisions = list(plan(self.row, seen))
        apply(self.row, decisions, LIFECYCLE)
        return decisions

    def launched(self) -> Job:
        assert Launch(("algo-1",)) in self.turn()
        return self

    @property
    def statuses(self) -> list[str]:
        return [one["Status"] for one in self.row.document.get("SecondaryStatusTransitions", [])]


def ended(result: str, started: float, at: float, **members: Any) -> Exited:
    known = {"result": result, "started": started, "ended": at, "failure": "it broke"}
    return Exited({**known, "failure_source": "algorithm", **members})


RUNNING = Running("Training", (("Downloading", BEGAN), ("Training", BEGAN + 1)))


def spot(most: int = 600, wait: int = 900) -> Job:
    condition = {"MaxRuntimeInSeconds": most, "MaxWaitTimeInSeconds": wait}
    job = Job(EnableManagedSpotTraining=True, StoppingCondition=condition)
    job.row.state["spot_price"] = 0.3
    return job.launched()


def interrupted(job: Job, at: float) -> None:
    """Through the interruption, until nothing of the attempt is left."""
    job.now = at
    job.row.tags = [{"Key": "clary:interrupt", "Value": str(at)}]
    assert Halt(("algo-1",)) in job.turn(algo_1=RUNNING)
    job.now += 10
    job.turn(algo_1=ended("stopped", at - 100, job.now))
    assert Forget(("algo-1",)) in job.turn(algo_1=ended("stopped", at - 100, job.now))


def test_an_interruption_begins_a_new_generation_after_a_pause():
    job = spot()
    interrupted(job, BEGAN + 100)
    assert job.row.document["SecondaryStatus"] == "Interrupted"
    (wait,) = job.turn()
    assert wait == Wait(1.0)
    job.now += 1.0
    assert Launch(("algo-1",)) in job.turn()
    assert job.row.state["hosts"] == {"algo-1": {"generation": 2}}
    assert job.row.document["SecondaryStatus"] == "Starting"


def test_a_program_that_ends_by_itself_before_it_is_taken_away_has_completed():
    job = spot()
    job.turn(algo_1=RUNNING)
    job.row.tags = [{"Key": "clary:interrupt", "Value": "now"}]
    assert Halt(("algo-1",)) in job.turn(algo_1=RUNNING)
    phases = [("Downloading", BEGAN), ("Training", BEGAN + 1), ("Uploading", BEGAN + 2)]
    job.turn(algo_1=ended("success", BEGAN, BEGAN + 3, phases=phases))
    assert job.row.status == "Completed"
    assert job.statuses == ["Downloading", "Training", "Uploading", "Completed"]


def test_one_tag_interrupts_once():
    job = spot()
    interrupted(job, BEGAN + 100)
    job.now += 2
    job.turn()
    assert Halt(("algo-1",)) not in job.turn(algo_1=RUNNING)


def test_spot_bills_all_attempts_at_its_price_and_not_the_waits():
    job = spot()
    interrupted(job, BEGAN + 100)  # an attempt of 110 seconds
    job.now += 50
    job.turn()
    job.now += 90
    job.turn(algo_1=ended("success", job.now - 90, job.now))
    assert job.row.status == "Completed"
    assert job.row.document["TrainingTimeInSeconds"] == 200
    assert job.row.document["BillableTimeInSeconds"] == 60


def test_a_spot_job_is_stopped_when_its_wait_is_over():
    job = spot(wait=120)
    interrupted(job, BEGAN + 100)
    job.now = BEGAN + 121
    job.turn()
    assert job.row.status == "Stopping"
    job.turn()
    assert job.row.status == "Stopped"
    assert job.row.document["SecondaryStatus"] == "MaxWaitTimeExceeded"
    assert job.row.document["TrainingTimeInSeconds"] == 110


def test_a_running_spot_job_is_halted_when_its_wait_is_over():
    job = spot(most=600, wait=600)
    job.now = BEGAN + 601
    job.turn(algo_1=RUNNING)
    assert Halt(("algo-1",)) in job.turn(algo_1=RUNNING)
    job.turn(algo_1=ended("stopped", BEGAN, job.now))
    assert (job.row.status, job.row.document["SecondaryStatus"]) == (
        "Stopped",
        "MaxWaitTimeExceeded",
    )


def test_a_job_stopped_between_two_attempts_is_never_launched_again():
    job = spot()
    interrupted(job, BEGAN + 100)
    job.row.status = "Stopping"
    job.now += 10
    decisions = job.turn()
    assert job.row.status == "Stopped"
    assert not any(isinstance(one, Launch) for one in decisions)


def test_interrupted_attempts_count_towards_the_longest_runtime():
    job = spot(most=105)
    job.now = BEGAN + 100
    job.row.tags = [{"Key": "clary:interrupt", "Value": "1"}]
    job.turn(algo_1=RUNNING)
    job.turn(algo_1=ended("stopped", BEGAN, BEGAN + 110))
    assert job.row.status == "Stopped"


def test_random_interruptions_are_the_same_at_every_look():
    job = spot()
    job.row.state["spot_interruption_seconds"] = 10.0
    job.now = BEGAN + 10_000  # certain by then
    job.row.document["StoppingCondition"] = {}
    assert Halt(("algo-1",)) in job.turn(algo_1=RUNNING)


def test_a_lost_host_is_retried_as_often_as_asked_and_then_fails_with_the_count():
    job = Job(RetryStrategy={"MaximumRetryAttempts": 2}).launched()
    for attempt in (1, 2):
        lost = ended("lost", job.now, job.now + 5, failure="gone")
        job.now += 5
        job.turn(algo_1=lost)
        assert job.row.document["SecondaryStatus"] == "Restarting"
        job.turn(algo_1=lost)
        job.now += 100
        assert Launch(("algo-1",)) in job.turn(), attempt
    job.turn(algo_1=ended("lost", job.now, job.now + 5, failure="gone"))
    assert job.row.status == "Failed"
    assert job.row.document["FailureReason"].startswith("InternalServerError: ")
    assert job.row.document["FailureReason"].endswith("The job was retried 2 times.")
    assert job.row.document["TrainingTimeInSeconds"] == 15


def test_an_algorithm_error_is_not_retried():
    job = Job(RetryStrategy={"MaximumRetryAttempts": 2}).launched()
    job.turn(algo_1=ended("failure", BEGAN, BEGAN + 5, exit_code=1))
    assert job.row.status == "Failed"


def test_a_dead_host_halts_the_others_and_names_itself():
    job = Job(ResourceConfig={"InstanceCount": 2})
    job.turn()
    lost = ended("lost", BEGAN, BEGAN + 5, failure="gone")
    assert Halt(("algo-2",)) in job.turn(algo_1=lost, algo_2=RUNNING)
    job.turn(algo_1=lost, algo_2=ended("stopped", BEGAN, BEGAN + 6))
    assert "host algo-1 of the job" in job.row.document["FailureReason"]


def test_a_job_that_waits_for_capacity_too_long_is_stopped():
    job = Job(StoppingCondition={"MaxPendingTimeInSeconds": 7_200})
    job.now = BEGAN + 7_201
    job.turn()
    job.turn()
    assert job.row.status == "Stopped"
    last = job.row.document["SecondaryStatusTransitions"][-1]
    assert last["StatusMessage"] == (
        "Training job pending time exceeded MaxPendingTimeInSeconds provided"
    )


def test_a_crash_between_forgetting_and_writing_launches_no_old_generation():
    job = Job(RetryStrategy={"MaximumRetryAttempts": 1}).launched()
    lost = ended("lost", BEGAN, BEGAN + 5)
    job.turn(algo_1=lost)
    # The files are gone, the row does not say so yet: the host looks as if it had never been there.
    decisions = job.turn(algo_1=Absent())
    assert Forget(("algo-1",)) in decisions
    assert not any(isinstance(one, Launch) for one in decisions)


def pooled(seconds: int = 600) -> Job:
    config = {"InstanceCount": 1, "KeepAlivePeriodInSeconds": seconds}
    job = Job(ResourceConfig=config, WarmPoolStatus={"Status": "InUse"}).launched()
    job.turn(algo_1=ended("success", BEGAN, BEGAN + 50))
    return job


def test_a_warm_pool_stays_until_its_time_is_over():
    job = pooled()
    assert job.row.document["WarmPoolStatus"]["Status"] == "Available"
    job.now = BEGAN + 100
    assert job.turn(algo_1=ended("success", BEGAN, BEGAN + 50)) == [Wait(550.0)]
    job.now = BEGAN + 660
    job.turn(algo_1=ended("success", BEGAN, BEGAN + 50))
    pool = {"Status": "Terminated", "ResourceRetainedBillableTimeInSeconds": 600}
    assert job.row.document["WarmPoolStatus"] == pool
    assert job.turn(algo_1=ended("success", BEGAN, BEGAN + 50)) == [Forget(("algo-1",))]


def test_a_failure_of_the_platform_retains_no_warm_pool():
    config = {"InstanceCount": 1, "KeepAlivePeriodInSeconds": 600}
    job = Job(ResourceConfig=config, WarmPoolStatus={"Status": "InUse"}).launched()
    job.turn(algo_1=ended("lost", BEGAN, BEGAN + 50))
    assert job.row.document["WarmPoolStatus"]["Status"] == "Terminated"


def test_a_failed_algorithm_retains_its_warm_pool():
    config = {"InstanceCount": 1, "KeepAlivePeriodInSeconds": 600}
    job = Job(ResourceConfig=config, WarmPoolStatus={"Status": "InUse"}).launched()
    job.turn(algo_1=ended("failure", BEGAN, BEGAN + 50, exit_code=1))
    assert job.row.document["WarmPoolStatus"]["Status"] == "Available"


def test_decisions_of_restarts_are_written_down_before_hosts_go():
    job = spot()
    job.row.tags = [{"Key": "clary:interrupt", "Value": "now"}]
    decisions = job.turn(algo_1=RUNNING)
    assert isinstance(decisions[0], Become)
    assert isinstance(decisions[1], Halt)
