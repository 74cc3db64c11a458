"""ARNs are made and taken apart without loss."""

from __future__ import annotations

import pytest

from clary.model.arns import Arn, last_segment, partition_of, sagemaker_arn

TEXT = "arn:aws:sagemaker:eu-west-1:123456789012:model-package/group/3"


def test_an_arn_is_its_parts() -> None:
    arn = Arn.parse(TEXT)
    assert arn == Arn("aws", "sagemaker", "eu-west-1", "123456789012", "model-package/group/3")
    assert str(arn) == TEXT
    assert (arn.kind, arn.name) == ("model-package", "group/3")


def test_a_resource_may_hold_colons() -> None:
    arn = Arn.parse("arn:aws:logs:us-east-1:123456789012:log-group:/aws/x:*")
    assert arn is not None
    assert (arn.kind, arn.name) == ("log-group", "/aws/x:*")


def test_a_resource_without_a_kind_has_no_name() -> None:
    arn = Arn.parse("arn:aws:s3:::bucket")
    assert arn is not None and (arn.kind, arn.name) == ("bucket", "")


@pytest.mark.parametrize("text", ["", "model", "arn:aws:sagemaker:eu-west-1:1", "urn:a:b:c:d:e"])
def test_what_is_not_an_arn_is_none(text: str) -> None:
    assert Arn.parse(text) is None


@pytest.mark.parametrize(
    ("region", "partition"),
    [("us-east-1", "aws"), ("cn-north-1", "aws-cn"), ("us-gov-west-1", "aws-us-gov")],
)
def test_a_region_decides_the_partition(region: str, partition: str) -> None:
    assert partition_of(region) == partition
    made = sagemaker_arn(region, "1", "model", "m")
    assert made == f"arn:{partition}:sagemaker:{region}:1:model/m"


def test_the_last_segment_is_the_name_and_a_name_stays() -> None:
    assert last_segment("arn:aws:iam::1:role/path/name") == "name"
    assert last_segment("plain/name") == "plain/name"
