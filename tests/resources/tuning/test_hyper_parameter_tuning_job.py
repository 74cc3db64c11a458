"""Tuning jobs as a client sees them: real training jobs, lists, stops, refusals, and a control that is killed."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys

import pytest
from botocore.exceptions import ClientError

from tests.journeys.conftest import ROOT, XGBOOST, plain_environment, refusal, wait_until

pytestmark = pytest.mark.xdist_group("tuning")

RATE = {"Name": "rate", "MinValue": "0.01", "MaxValue": "1", "ScalingType": "Logarithmic"}
RATES = {"ContinuousParameterRanges": [RATE]}
KINDS = {"CategoricalParameterRanges": [{"Name": "kind", "Values": ['"gini"', '"entropy"']}]}
LOSS = "print(f'loss={(float(h[\"rate\"]) - 0.3) ** 2};')\n"


def clary(server, *words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "clary.cli", *words],
        env={**plain_environment(), "CLARY_HOME": str(server.home), "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def test_a_search_makes_training_jobs_and_tells_of_them(tuner, server):
    definition = tuner.definition(LOSS, StaticHyperParameters={"fixed": "1"})
    tags = [{"Key": "team", "Value": "search"}]
    limits = {"MaxNumberOfTrainingJobs": 7}
    name = tuner.create(
        definition, RATES, Strategy="Bayesian", limits=limits, members={"Tags": tags}
    )
    job = tuner.ended(name)
    assert job["HyperParameterTuningJobStatus"] == "Completed", job
    assert job["TrainingJobStatusCounters"]["Completed"] == 7
    assert job["ObjectiveStatusCounters"] == {"Succeeded": 7, "Pending": 0, "Failed": 0}
    assert job["HyperParameterTuningEndTime"] >= job["CreationTime"]
    assert job["HyperParameterTuningJobConfig"]["TrainingJobEarlyStoppingType"] == "Off"

    trials = tuner.trials(name)
    assert [one["TrainingJobName"][-12:-9] for one in trials] == [f"00{n}" for n in range(1, 8)]
    assert all(
        re.fullmatch(rf"{name}-\d{{3}}-[0-9a-f]{{8}}", one["TrainingJobName"]) for one in trials
    )
    by_value = tuner.trials(name, SortBy="FinalObjectiveMetricValue")
    values = [one["FinalHyperParameterTuningJobObjectiveMetric"]["Value"] for one in by_value]
    assert values == sorted(values) and len(values) == 7
    best = job["BestTrainingJob"]
    assert best["TrainingJobName"] == by_value[0]["TrainingJobName"]
    assert best["FinalHyperParameterTuningJobObjectiveMetric"] == {
        "Type": "Minimize",
        "MetricName": "loss",
        "Value": pytest.approx(values[0]),
    }

    child = tuner.sagemaker.describe_training_job(TrainingJobName=best["TrainingJobName"])
    assert child["TuningJobArn"] == job["HyperParameterTuningJobArn"]
    assert child["HyperParameters"]["fixed"] == "1"
    assert child["HyperParameters"]["rate"] == best["TunedHyperParameters"]["rate"]
    assert child["HyperParameters"]["_tuning_objective_metric"] == "loss"
    assert tuner.sagemaker.list_tags(ResourceArn=child["TrainingJobArn"])["Tags"] == tags

    first = tuner.sagemaker.list_training_jobs_for_hyper_parameter_tuning_job(
        HyperParameterTuningJobName=name, MaxResults=3, SortOrder="Descending"
    )
    rest = tuner.trials(name, SortOrder="Descending", NextToken=first["NextToken"])
    shown = [one["TrainingJobName"] for one in (*first["TrainingJobSummaries"], *rest)]
    assert shown == [one["TrainingJobName"] for one in reversed(trials)]
    with pytest.raises(ClientError) as caught:
        tuner.trials(name, SortBy="Status", NextToken=first["NextToken"])
    assert refusal(caught)[0] == "ValidationException"

    told = clary(server, "tune", name)
    assert told.returncode == 0, told.stderr
    assert f"{name}  Completed  Bayesian  7/7 trials ended" in told.stdout
    assert f"by {best['TrainingJobName']}: rate=" in told.stdout
    assert told.stdout.count("*") >= 1 and told.stdout.count(" Completed ") >= 7
    document = json.loads(clary(server, "tune", name, "--json").stdout)
    assert len(document["Trials"]) == 7
    assert document["BestTrainingJob"]["TrainingJobName"] == best["TrainingJobName"]


def test_a_warm_start_takes_over_what_its_parent_found(tuner):
    definition = tuner.definition(LOSS)
    limits = {"MaxNumberOfTrainingJobs": 2}
    parent = tuner.create(definition, RATES, limits=limits)
    found = tuner.ended(parent)["BestTrainingJob"]
    parents = [{"HyperParameterTuningJobName": parent}]

    def child(kind: str, **changes):
        config = {"WarmStartType": kind, "ParentHyperParameterTuningJobs": parents}
        return tuner.create(
            definition, RATES, limits=limits, members={"WarmStartConfig": config}, **changes
        )

    transfer = child("TransferLearning")
    identical = child("IdenticalDataAndAlgorithm", RandomSeed=5)
    job = tuner.ended(transfer)
    # The parent's best values are tried first, whatever they mean on other data.
    assert tuner.trials(transfer)[0]["TunedHyperParameters"] == found["TunedHyperParameters"]
    assert "OverallBestTrainingJob" not in job
    job = tuner.ended(identical)
    best = min(
        (job["BestTrainingJob"], found),
        key=lambda one: one["FinalHyperParameterTuningJobObjectiveMetric"]["Value"],
    )
    assert job["OverallBestTrainingJob"]["TrainingJobName"] == best["TrainingJobName"]
    with pytest.raises(ClientError) as caught:
        child("IdenticalDataAndAlgorithm", Strategy="Hyperband")
    assert "MaxResource" in refusal(caught)[1]
    with pytest.raises(ClientError) as caught:
        other = {**definition, "AlgorithmSpecification": {**definition["AlgorithmSpecification"]}}
        other["AlgorithmSpecification"]["TrainingImage"] = "somebody/else:1"
        config = {
            "WarmStartType": "IdenticalDataAndAlgorithm",
            "ParentHyperParameterTuningJobs": parents,
        }
        tuner.create(other, RATES, limits=limits, members={"WarmStartConfig": config})
    assert "Use TransferLearning" in refusal(caught)[1]
    definition["StaticHyperParameters"]["one_more"] = "1"
    with pytest.raises(ClientError, match="a warm start requires the same number"):
        child("TransferLearning")


def test_hyperband_stops_what_is_worse_at_a_rung(tuner):
    # One of the two is hopeless, and goes on until it is stopped.
    code = """
bad = h["kind"] == '"entropy"'
for epoch in range(int(h["epochs"])):
    print(f"loss={9.0 if bad else 1.0 / (epoch + 1)};", flush=True)
    if bad and epoch >= 3: time.sleep(60)
"""
    definition = tuner.definition(code, StaticHyperParameters={"epochs": "9"})
    limits = {"MaxNumberOfTrainingJobs": 2}
    name = tuner.create(definition, KINDS, Strategy="Hyperband", limits=limits, RandomSeed=4)
    job = tuner.ended(name)
    assert job["HyperParameterTuningJobStatus"] == "Completed", job
    statuses = {
        one["TunedHyperParameters"]["kind"]: one["TrainingJobStatus"] for one in tuner.trials(name)
    }
    assert statuses == {'"gini"': "Completed", '"entropy"': "Stopped"}
    best = job["BestTrainingJob"]["FinalHyperParameterTuningJobObjectiveMetric"]["Value"]
    assert best == pytest.approx(1 / 9)
    assert job["ObjectiveStatusCounters"]["Failed"] == 0


def test_several_definitions_share_the_budget_of_a_grid(tuner):
    definitions = []
    for name, loss in (("forest", "0.5"), ("boosting", "0.25")):
        definitions.append(
            {
                **tuner.definition(f"print('loss={loss};')\n"),
                "DefinitionName": name,
                "TuningObjective": {"Type": "Minimize", "MetricName": "loss"},
                "HyperParameterRanges": KINDS,
            }
        )
    name = "grid-of-two"
    tuner.sagemaker.create_hyper_parameter_tuning_job(
        HyperParameterTuningJobName=name,
        HyperParameterTuningJobConfig={
            "Strategy": "Grid",
            "ResourceLimits": {"MaxParallelTrainingJobs": 3},
        },
        TrainingJobDefinitions=definitions,
    )
    job = tuner.ended(name)
    assert job["TrainingJobStatusCounters"]["Completed"] == 4
    assert job["BestTrainingJob"]["TrainingJobDefinitionName"] == "boosting"
    tried = {
        (one["TrainingJobDefinitionName"], one["TunedHyperParameters"]["kind"])
        for one in tuner.trials(name)
    }
    assert len(tried) == 4
    tuner.sagemaker.delete_hyper_parameter_tuning_job(HyperParameterTuningJobName=name)
    with pytest.raises(ClientError) as caught:
        tuner.described(name)
    code, message = refusal(caught)
    assert code == "ResourceNotFound"
    assert message.startswith("Amazon SageMaker can't find a tuning job")


def test_a_search_whose_every_trial_fails_says_why(tuner):
    definition = tuner.definition("raise ValueError('no column named price')\n")
    name = tuner.create(definition, RATES, limits={"MaxNumberOfTrainingJobs": 2})
    job = tuner.ended(name)
    assert job["HyperParameterTuningJobStatus"] == "Failed"
    assert job["FailureReason"].startswith("All training jobs failed. Please take a look")
    assert "ValueError: no column named price" in job["FailureReason"]
    assert job["TrainingJobStatusCounters"]["NonRetryableError"] == 2
    assert "BestTrainingJob" not in job


def test_a_stop_stops_the_training_jobs_and_killed_control_goes_on_where_it_was(tuner, server):
    """The suggestions and names are written before the jobs are made, so none is lost or made twice."""
    code = LOSS + "time.sleep(1.5)\n"
    limits = {"MaxNumberOfTrainingJobs": 40, "MaxParallelTrainingJobs": 2}
    name = tuner.create(tuner.definition(code), RATES, limits=limits)
    for ended in (1, 3):
        wait_until(
            lambda ended=ended: (
                tuner.described(name)["TrainingJobStatusCounters"]["Completed"] >= ended
            )
        )
        before = [one["TrainingJobName"] for one in tuner.trials(name)]
        os.kill(server.server()["children"]["control"]["pid"], signal.SIGKILL)
        wait_until(lambda: server.health()[0] == 200)
        assert [one["TrainingJobName"] for one in tuner.trials(name)][: len(before)] == before
    tuner.sagemaker.stop_hyper_parameter_tuning_job(HyperParameterTuningJobName=name)
    assert tuner.described(name)["HyperParameterTuningJobStatus"] in ("Stopping", "Stopped")
    job = tuner.ended(name)
    assert job["HyperParameterTuningJobStatus"] == "Stopped"
    trials = tuner.trials(name)
    numbers = [int(one["TrainingJobName"][-12:-9]) for one in trials]
    assert numbers == list(range(1, len(trials) + 1))
    made = tuner.sagemaker.list_training_jobs(NameContains=name, MaxResults=100)
    assert {one["TrainingJobName"] for one in made["TrainingJobSummaries"]} == {
        one["TrainingJobName"] for one in trials
    }
    assert all(one["TrainingJobStatus"] in ("Completed", "Stopped") for one in trials)
    with pytest.raises(ClientError) as caught:
        tuner.sagemaker.stop_hyper_parameter_tuning_job(HyperParameterTuningJobName=name)
    assert refusal(caught)[0] == "ValidationException"


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"limits": {}}, "MaxNumberOfTrainingJobs or MaxRuntimeInSeconds"),
        ({"limits": {"MaxNumberOfTrainingJobs": 1}}, "MaxParallelTrainingJobs cannot be greater"),
        ({"limits": {"MaxNumberOfTrainingJobs": 9_999}}, "is 750 training jobs"),
        ({"Strategy": "Grid"}, "categorical hyperparameters only"),
        ({"Strategy": "Hyperband"}, "MaxResource is required"),
        (
            {"StrategyConfig": {"HyperbandStrategyConfig": {"MaxResource": 9}}},
            "only with the strategy Hyperband",
        ),
        (
            {
                "Strategy": "Hyperband",
                "TrainingJobEarlyStoppingType": "Auto",
                "StrategyConfig": {"HyperbandStrategyConfig": {"MaxResource": 9}},
            },
            "must be Off with the strategy Hyperband",
        ),
        (
            {"HyperParameterTuningJobObjective": {"Type": "Minimize", "MetricName": "rmse"}},
            "objective metric 'rmse' is not defined",
        ),
    ],
)
def test_a_request_that_makes_no_sense_is_refused(tuner, changes, words):
    definition = tuner.definition(LOSS)
    with pytest.raises(ClientError) as caught:
        tuner.create(definition, RATES, **{"limits": {"MaxNumberOfTrainingJobs": 4}, **changes})
    assert words in refusal(caught)[1]


def test_a_role_that_may_not_be_assumed_is_refused(tuner):
    definition = tuner.definition(LOSS, RoleArn="arn:aws:iam::123456789012:role/nobody")
    with pytest.raises(ClientError) as caught:
        tuner.create(definition, RATES, limits={"MaxNumberOfTrainingJobs": 4})
    assert "Could not assume role arn:aws:iam::123456789012:role/nobody" in refusal(caught)[1]


def test_an_algorithm_with_more_metrics_than_a_request_may_name_is_tuned(tuner):
    """The built-in XGBoost logs 66 metrics; a training job takes 40 definitions."""
    rows = "".join(f"{n % 2},{n % 2 + n / 1000},{n % 7}\n" for n in range(80))
    tuner.s3.put_object(Bucket=tuner.bucket, Key="tuning/rows/train.csv", Body=rows)
    source = {
        "S3DataType": "S3Prefix",
        "S3Uri": f"s3://{tuner.bucket}/tuning/rows/",
        "S3DataDistributionType": "FullyReplicated",
    }
    channels = [
        {"ChannelName": name, "DataSource": {"S3DataSource": source}, "ContentType": "text/csv"}
        for name in ("train", "validation")
    ]
    definition = tuner.definition("", InputDataConfig=channels)
    definition["StaticHyperParameters"] = {"objective": "binary:logistic", "num_round": "3"}
    definition["AlgorithmSpecification"] = {"TrainingImage": XGBOOST, "TrainingInputMode": "File"}
    depth = {"Name": "max_depth", "MinValue": "1", "MaxValue": "3"}
    name = tuner.create(
        definition,
        {"IntegerParameterRanges": [depth]},
        limits={"MaxNumberOfTrainingJobs": 2},
        HyperParameterTuningJobObjective={"Type": "Maximize", "MetricName": "validation:auc"},
    )
    job = tuner.ended(name)
    assert job["HyperParameterTuningJobStatus"] == "Completed", job
    best = job["BestTrainingJob"]
    assert best["FinalHyperParameterTuningJobObjectiveMetric"] == {
        "Type": "Maximize",
        "MetricName": "validation:auc",
        "Value": 1.0,
    }
    trained = tuner.sagemaker.describe_training_job(TrainingJobName=best["TrainingJobName"])
    defined = {one["Name"] for one in trained["AlgorithmSpecification"]["MetricDefinitions"]}
    assert {"train:auc", "validation:auc", "ObjectiveMetric"} < defined
