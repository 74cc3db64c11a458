"""Algorithm resources, and training with them by AlgorithmName."""

from __future__ import annotations

import json
import uuid
from typing import Any

import pytest
from botocore.exceptions import ClientError

from tests.journeys.conftest import archive
from tests.resources.training.conftest import ROLE, SKLEARN, channel, resources, wait_until

PROGRAM = """
import json
values = json.load(open("/opt/ml/input/config/hyperparameters.json"))
print("depth =", values["depth"], flush=True)
"""

# The model that it makes: a script that answers with what was trained.
SAVING = '''
import os
os.makedirs("/opt/ml/model/code")
with open("/opt/ml/model/code/inference.py", "w") as file:
    file.write("""
def model_fn(folder):
    return 7

def transform_fn(model, body, content_type, accept):
    return str(model) + " rows", "text/csv"
""")
'''


def hyperparameter(name: str, kind: str, range_: dict[str, Any], **members: Any) -> dict[str, Any]:
    member = {"Integer": "Integer", "Continuous": "Continuous", "Categorical": "Categorical"}[kind]
    ranges = {f"{member}ParameterRangeSpecification": range_}
    return {"Name": name, "Type": kind, "Range": ranges, **members}


def specification(**members: Any) -> dict[str, Any]:
    known = {
        "TrainingImage": SKLEARN,
        "SupportedTrainingInstanceTypes": ["ml.m5.large"],
        "TrainingChannels": [
            {
                "Name": "train",
                "IsRequired": True,
                "SupportedContentTypes": ["text/csv"],
                "SupportedInputModes": ["File"],
            }
        ],
        "SupportedHyperParameters": [
            hyperparameter(
                "depth", "Integer", {"MinValue": "1", "MaxValue": "9"}, DefaultValue="3"
            ),
            hyperparameter("rate", "Continuous", {"MinValue": "0.0", "MaxValue": "1.0"}),
            hyperparameter("kind", "Categorical", {"Values": ["a", "b"]}),
        ],
        "MetricDefinitions": [{"Name": "depth", "Regex": "depth = ([0-9]+)"}],
    }
    return {**known, **members}


@pytest.fixture
def algorithm(training):
    name = f"algorithm-{uuid.uuid4().hex[:8]}"
    arn = training.sagemaker.create_algorithm(
        AlgorithmName=name, TrainingSpecification=specification()
    )["AlgorithmArn"]
    assert arn.endswith(f":algorithm/{name}")
    yield name
    training.sagemaker.delete_algorithm(AlgorithmName=name)


def job_of(training, algorithm: str, **changes: Any) -> dict[str, Any]:
    folder = changes.pop("folder", None) or training.put({"a.csv": "1,2"})
    request = {
        "AlgorithmSpecification": {"AlgorithmName": algorithm, "TrainingInputMode": "File"},
        "InputDataConfig": [channel("train", folder)],
        "HyperParameters": {
            "sagemaker_program": json.dumps("train.py"),
            "sagemaker_submit_directory": json.dumps(f"{source(training)}"),
        },
    }
    return {**request, **changes}


def source(training) -> str:
    folder = training.put({"source.tar.gz": archive({"train.py": PROGRAM})})
    return f"{folder}/source.tar.gz"


def test_an_algorithm_trains_with_its_image_defaults_and_metrics(training, algorithm):
    described = training.sagemaker.describe_algorithm(AlgorithmName=algorithm)
    assert described["AlgorithmStatus"] == "Completed"
    assert described["AlgorithmStatusDetails"] == {
        "ValidationStatuses": [],
        "ImageScanStatuses": [],
    }
    listed = training.sagemaker.list_algorithms(NameContains=algorithm)["AlgorithmSummaryList"]
    assert [one["AlgorithmName"] for one in listed] == [algorithm]

    job = training.run("pass", **job_of(training, algorithm))
    assert job["TrainingJobStatus"] == "Completed", job["FailureReason"]
    assert job["AlgorithmSpecification"] == {
        "AlgorithmName": algorithm,
        "TrainingInputMode": "File",
    }
    assert job["HyperParameters"]["depth"] == "3"
    assert [(one["MetricName"], one["Value"]) for one in job["FinalMetricDataList"]] == [
        ("depth", 3.0)
    ]


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({"HyperParameters": {"depth": "10"}}, "10 is not between 1 and 9"),
        ({"HyperParameters": {"depth": "1.5"}}, "'1.5' is not an integer"),
        ({"HyperParameters": {"rate": "nan"}}, "nan is not between 0.0 and 1.0"),
        ({"HyperParameters": {"kind": "c"}}, "'c' is not one of a, b"),
        ({"HyperParameters": {"width": "1"}}, "'width' is not a hyperparameter"),
        ({"InputDataConfig": []}, "Channel 'train' is required"),
        (
            {"ResourceConfig": resources(InstanceType="ml.m5.xlarge")},
            "ml.m5.xlarge is not supported",
        ),
        ({"ResourceConfig": resources(2)}, "does not support distributed training"),
    ],
)
def test_what_an_algorithm_does_not_support_is_refused(training, algorithm, changes, text):
    request = job_of(training, algorithm, **changes)
    if not request["InputDataConfig"]:
        del request["InputDataConfig"]
    with pytest.raises(ClientError, match=text):
        training.start("pass", **request)


def test_an_algorithm_that_is_not_there_is_named(training):
    with pytest.raises(ClientError, match=r"Could not find algorithm .*:algorithm/nobody"):
        training.start("pass", **job_of(training, "nobody"))


def test_an_algorithm_is_validated_by_a_training_job_and_a_transform_job_with_its_model(training):
    name = f"validated-{uuid.uuid4().hex[:8]}"
    folder = training.put({"a.csv": "1,2"})
    code = training.put({"source.tar.gz": archive({"train.py": PROGRAM + SAVING})})
    definition = {
        "TrainingInputMode": "File",
        "InputDataConfig": [channel("train", folder)],
        "OutputDataConfig": {"S3OutputPath": f"s3://{training.bucket}/validation"},
        "ResourceConfig": resources(),
        "StoppingCondition": {"MaxRuntimeInSeconds": 60},
        "HyperParameters": {
            "sagemaker_program": json.dumps("train.py"),
            "sagemaker_submit_directory": json.dumps(f"{code}/source.tar.gz"),
        },
    }
    transform = {
        "TransformInput": {
            "DataSource": {"S3DataSource": {"S3DataType": "S3Prefix", "S3Uri": folder}},
            "ContentType": "text/csv",
        },
        "TransformOutput": {"S3OutputPath": f"s3://{training.bucket}/{name}/transformed"},
        "TransformResources": {"InstanceType": "ml.m5.large", "InstanceCount": 1},
    }
    profile = {
        "ProfileName": "first",
        "TrainingJobDefinition": definition,
        "TransformJobDefinition": transform,
    }
    request = {
        "AlgorithmName": name,
        "TrainingSpecification": specification(),
        "ValidationSpecification": {"ValidationRole": ROLE, "ValidationProfiles": [profile]},
    }
    with pytest.raises(ClientError, match="needs the InferenceSpecification of the algorithm"):
        training.sagemaker.create_algorithm(**request)
    variables = {
        "SAGEMAKER_PROGRAM": "inference.py",
        "SAGEMAKER_SUBMIT_DIRECTORY": "/opt/ml/model/code",
    }
    serving = {
        "Containers": [{"Image": SKLEARN, "Environment": variables}],
        "SupportedTransformInstanceTypes": ["ml.m5.large"],
        "SupportedContentTypes": ["text/csv"],
        "SupportedResponseMIMETypes": ["text/csv"],
    }
    training.sagemaker.create_algorithm(**request, InferenceSpecification=serving)

    def described() -> dict[str, Any] | None:
        found = training.sagemaker.describe_algorithm(AlgorithmName=name)
        return found if found["AlgorithmStatus"] in ("Completed", "Failed") else None

    found = wait_until(described)
    assert found["AlgorithmStatus"] == "Completed", found["AlgorithmStatusDetails"]
    assert found["AlgorithmStatusDetails"]["ValidationStatuses"] == [
        {"Name": "first", "Status": "Completed"}
    ]
    jobs = training.sagemaker.list_transform_jobs(NameContains=name)["TransformJobSummaries"]
    assert [one["TransformJobStatus"] for one in jobs] == ["Completed"]
    transformed = f"s3://{training.bucket}/{name}/transformed"
    assert training.get(f"{transformed}/a.csv.out") == b"7 rows"
    models = training.sagemaker.list_models(NameContains=name)["Models"]
    assert models == []  # it was there for the while of the validation
    training.sagemaker.delete_algorithm(AlgorithmName=name)


def test_a_specification_that_contradicts_itself_is_refused(training):
    wrong = hyperparameter("depth", "Integer", {"MinValue": "1", "MaxValue": "9"}, DefaultValue="x")
    objective = [{"Type": "Maximize", "MetricName": "accuracy"}]
    for changes, text in (
        ({"SupportedHyperParameters": [wrong]}, "'x' is not an integer"),
        ({"SupportedHyperParameters": [wrong, wrong]}, "Duplicate name 'depth'"),
        ({"SupportedTuningJobObjectiveMetrics": objective}, "holds 'accuracy'"),
    ):
        with pytest.raises(ClientError, match=text):
            training.sagemaker.create_algorithm(
                AlgorithmName="wrong", TrainingSpecification=specification(**changes)
            )
