"""Model packages: versions of a group, their approval, and packages with a name of their own."""

from __future__ import annotations

import json
import uuid
from collections.abc import Callable
from typing import Any

import pytest
from botocore.exceptions import ClientError

from tests.journeys.conftest import ROLE, SKLEARN, archive, bucket_of, refusal, wait_until

SPECIFICATION = {
    "Containers": [{"Image": SKLEARN, "Environment": {"MODE": "a"}}],
    "SupportedContentTypes": ["text/csv"],
    "SupportedResponseMIMETypes": ["text/csv"],
}


class Registry:
    """One group and what it holds."""

    def __init__(self, sagemaker: Any) -> None:
        self.sagemaker = sagemaker
        self.group = f"churn-{uuid.uuid4().hex[:8]}"
        sagemaker.create_model_package_group(ModelPackageGroupName=self.group)

    def version(self, **members: Any) -> str:
        answer = self.sagemaker.create_model_package(
            ModelPackageGroupName=self.group, InferenceSpecification=SPECIFICATION, **members
        )
        return answer["ModelPackageArn"]

    def shown(self, name: str) -> dict[str, Any]:
        return self.sagemaker.describe_model_package(ModelPackageName=name)

    def listed(self, **members: Any) -> list[str]:
        answer = self.sagemaker.list_model_packages(**members)
        return [one["ModelPackageArn"] for one in answer["ModelPackageSummaryList"]]

    def refused(self, operation: str, **members: Any) -> tuple[str, str]:
        with pytest.raises(ClientError) as caught:
            getattr(self.sagemaker, operation)(**members)
        return refusal(caught)


@pytest.fixture
def registry(client: Callable[..., Any]) -> Registry:
    return Registry(client("sagemaker"))


def test_versions_are_numbered_and_no_number_comes_twice(registry):
    first, second = registry.version(), registry.version(ModelApprovalStatus="Approved")
    assert [one.rpartition("/")[2] for one in (first, second)] == ["1", "2"]
    assert registry.listed(ModelPackageGroupName=registry.group) == [first, second]
    assert registry.listed(
        ModelPackageGroupName=registry.group, ModelApprovalStatus="Approved"
    ) == [second]
    assert first not in registry.listed()
    found = registry.shown(f"{registry.group}/1")
    assert (found["ModelPackageVersion"], found["ModelApprovalStatus"]) == (
        1,
        "PendingManualApproval",
    )
    assert found["ModelPackageStatus"] == "Completed"
    code, message = registry.refused(
        "delete_model_package_group", ModelPackageGroupName=registry.group
    )
    assert code == "ValidationException" and "still contains Model Packages" in message
    for arn in (first, second):
        registry.sagemaker.delete_model_package(ModelPackageName=arn)
    assert registry.version().endswith("/3")
    assert registry.version(ClientToken="once") == registry.version(ClientToken="once")
    for version in (3, 4):
        name = f"{registry.group}/{version}"
        registry.sagemaker.delete_model_package(ModelPackageName=name)
    registry.sagemaker.delete_model_package_group(ModelPackageGroupName=registry.group)
    assert "does not exist" in registry.refused("describe_model_package", ModelPackageName=first)[1]


def test_an_update_approves_a_version_and_merges_its_metadata(registry):
    arn = registry.version(CustomerMetadataProperties={"team": "a", "stage": "b"})
    registry.sagemaker.update_model_package(
        ModelPackageArn=arn,
        ModelApprovalStatus="Approved",
        ApprovalDescription="good",
        CustomerMetadataProperties={"owner": "ada"},
        CustomerMetadataPropertiesToRemove=["stage"],
        AdditionalInferenceSpecificationsToAdd=[
            {"Name": "small", "Containers": [{"Image": SKLEARN}]}
        ],
    )
    found = registry.shown(arn)
    assert found["ModelApprovalStatus"] == "Approved" and found["ApprovalDescription"] == "good"
    assert found["CustomerMetadataProperties"] == {"team": "a", "owner": "ada"}
    assert [one["Name"] for one in found["AdditionalInferenceSpecifications"]] == ["small"]
    nobody = f"{arn.rpartition('/')[0]}/9"
    answer = registry.sagemaker.batch_describe_model_package(ModelPackageArnList=[arn, nobody])
    assert answer["ModelPackageSummaries"][arn]["ModelPackageVersion"] == 1
    assert answer["BatchDescribeModelPackageErrorMap"][nobody]["ErrorCode"] == "ValidationException"


SCRIPT = """
def model_fn(folder):
    return None

def transform_fn(model, body, content_type, accept):
    if "refuse" in body:
        raise ValueError("this row is refused")
    return body.upper(), "text/csv"
"""


def validated(registry: Registry, bucket: str, key: str, body: bytes, s3: Any) -> dict[str, Any]:
    """CreateModelPackage's members for a package that is validated with these rows."""
    packed = archive({"code/inference.py": SCRIPT})
    s3.put_object(Bucket=bucket, Key=f"{key}/model.tar.gz", Body=packed)
    s3.put_object(Bucket=bucket, Key=f"{key}/in/rows.csv", Body=body)
    container = {
        "Image": SKLEARN,
        "ModelDataUrl": f"s3://{bucket}/{key}/model.tar.gz",
        "Environment": {
            "SAGEMAKER_PROGRAM": "inference.py",
            "SAGEMAKER_SUBMIT_DIRECTORY": "/opt/ml/model/code",
        },
    }
    source = {"S3DataType": "S3Prefix", "S3Uri": f"s3://{bucket}/{key}/in"}
    definition = {
        "TransformInput": {"DataSource": {"S3DataSource": source}, "ContentType": "text/csv"},
        "TransformOutput": {"S3OutputPath": f"s3://{bucket}/{key}/out"},
        "TransformResources": {"InstanceType": "ml.m5.large", "InstanceCount": 1},
    }
    profile = {"ProfileName": f"of-{key}", "TransformJobDefinition": definition}
    return {
        "ModelPackageGroupName": registry.group,
        "ModelApprovalStatus": "Approved",
        "InferenceSpecification": {
            **SPECIFICATION,
            "Containers": [container],
            "SupportedTransformInstanceTypes": ["ml.m5.large"],
        },
        "ValidationSpecification": {"ValidationRole": ROLE, "ValidationProfiles": [profile]},
    }


def test_a_package_is_validated_by_its_transform_jobs_before_it_is_deployed(registry, client):
    s3 = client("s3")
    bucket = bucket_of(s3)
    good = validated(registry, bucket, "good", b"a,b\n", s3)
    bad = validated(registry, bucket, "bad", b"refuse\n", s3)
    arns = [
        registry.sagemaker.create_model_package(**one)["ModelPackageArn"] for one in (good, bad)
    ]
    assert registry.shown(arns[0])["ModelPackageStatus"] in ("Pending", "InProgress")
    container = {"ModelPackageName": arns[0]}
    request = {"ModelName": registry.group, "ExecutionRoleArn": ROLE, "PrimaryContainer": container}
    assert "ModelPackageStatus is" in registry.refused("create_model", **request)[1]
    assert (
        "is being validated"
        in registry.refused("delete_model_package", ModelPackageName=arns[0])[1]
    )

    def ended(arn: str) -> dict[str, Any] | None:
        found = registry.shown(arn)
        return found if found["ModelPackageStatus"] in ("Completed", "Failed") else None

    passed = wait_until(lambda: ended(arns[0]))
    assert passed["ModelPackageStatusDetails"]["ValidationStatuses"] == [
        {"Name": "of-good", "Status": "Completed"}
    ]
    answer = s3.get_object(Bucket=bucket, Key="good/out/rows.csv.out")["Body"].read()
    assert answer == b"A,B\n"
    registry.sagemaker.create_model(**request)
    failed = wait_until(lambda: ended(arns[1]))
    assert failed["ModelPackageStatus"] == "Failed"
    (told,) = failed["ModelPackageStatusDetails"]["ValidationStatuses"]
    assert told["Status"] == "Failed" and "/aws/sagemaker/TransformJobs" in told["FailureReason"]
    listed = registry.sagemaker.list_model_packages(ModelPackageGroupName=registry.group)
    assert [one["ModelPackageStatus"] for one in listed["ModelPackageSummaryList"]] == [
        "Completed", "Failed",
    ]  # fmt: skip
    assert registry.sagemaker.list_models(NameContains=f"{registry.group}-")["Models"] == []
    skipped = registry.sagemaker.create_model_package(**bad, SkipModelValidation="All")
    assert registry.shown(skipped["ModelPackageArn"])["ModelPackageStatus"] == "Completed"


def test_validation_asks_for_containers_and_a_supported_instance_type(registry, client):
    s3 = client("s3")
    request = validated(registry, bucket_of(s3), "checks", b"a\n", s3)
    small = {
        **request["InferenceSpecification"],
        "SupportedTransformInstanceTypes": ["ml.m4.xlarge"],
    }
    code, message = registry.refused(
        "create_model_package", **{**request, "InferenceSpecification": small}
    )
    assert code == "ValidationException" and "asks for instance type ml.m5.large" in message
    del request["InferenceSpecification"]
    assert (
        "needs an InferenceSpecification" in registry.refused("create_model_package", **request)[1]
    )


def test_only_an_approved_version_becomes_a_model(registry):
    arn = registry.version()
    request = {"ModelName": registry.group, "ExecutionRoleArn": ROLE}
    request |= {"PrimaryContainer": {"ModelPackageName": arn, "Environment": {"MORE": "b"}}}
    code, message = registry.refused("create_model", **request)
    assert code == "ValidationException" and "ModelApprovalStatus is Pending" in message
    registry.sagemaker.update_model_package(ModelPackageArn=arn, ModelApprovalStatus="Approved")
    registry.sagemaker.create_model(**request)
    found = registry.sagemaker.describe_model(ModelName=registry.group)["PrimaryContainer"]
    assert found["ModelPackageName"] == arn and found["Environment"] == {"MORE": "b"}
    request["PrimaryContainer"] = {"ModelPackageName": f"{registry.group}/7"}
    assert "does not exist" in registry.refused("create_model", **request)[1]


def test_a_group_keeps_one_policy(registry):
    name = {"ModelPackageGroupName": registry.group}
    assert "Cannot find" in registry.refused("get_model_package_group_policy", **name)[1]
    policy = json.dumps({"Version": "2012-10-17", "Statement": [{"Effect": "Allow"}]})
    registry.sagemaker.put_model_package_group_policy(**name, ResourcePolicy=policy)
    assert registry.sagemaker.get_model_package_group_policy(**name)["ResourcePolicy"] == policy
    registry.sagemaker.delete_model_package_group_policy(**name)
    assert "Cannot find" in registry.refused("get_model_package_group_policy", **name)[1]
    refused = registry.refused("put_model_package_group_policy", **name, ResourcePolicy="{")
    assert refused == ("ValidationException", "ResourcePolicy is not a valid JSON policy.")
