"""Image references: every form of URI that SageMaker's users write."""

from __future__ import annotations

import pytest

from clary.images.reference import parse

ACCOUNT = "246618743249"


@pytest.mark.parametrize(
    ("uri", "repository", "tag", "region"),
    [
        (f"{ACCOUNT}.dkr.ecr.us-west-2.amazonaws.com/a-b:1.2-1-cpu-py3", "a-b", "1.2-1-cpu-py3", "us-west-2"),
        (f"{ACCOUNT}.dkr.ecr.cn-north-1.amazonaws.com.cn/a", "a", "", "cn-north-1"),
        (f"{ACCOUNT}.dkr.ecr-fips.us-gov-west-1.amazonaws.com/team/a:1", "team/a", "1", "us-gov-west-1"),
        (f"{ACCOUNT}.dkr-ecr.eu-west-1.on.aws/a:1", "a", "1", "eu-west-1"),
        ("localhost:5000/team/a:v1", "team/a", "v1", ""),
        ("registry.example.com/a", "a", "", ""),
        ("library/python:3.11", "library/python", "3.11", ""),
        ("python", "python", "", ""),
    ],
)  # fmt: skip
def test_the_parts_of_a_uri_are_told_apart(uri, repository, tag, region):
    reference = parse(uri)
    assert (reference.repository, reference.tag, reference.region) == (repository, tag, region)
    assert reference.account == (ACCOUNT if region else "")


def test_a_digest_is_kept_apart_from_the_tag():
    reference = parse("a:1@sha256:" + "0" * 64)
    assert (reference.tag, reference.digest) == ("1", "sha256:" + "0" * 64)


@pytest.mark.parametrize(
    "uri", ["", "a:", "a:b:c", "a@", "a@sha256:xyz", "/a", "a/", "a b", "../a", "a:-x", "a" * 2000]
)
def test_a_text_that_is_no_image_is_refused(uri):
    with pytest.raises(ValueError):
        parse(uri)
