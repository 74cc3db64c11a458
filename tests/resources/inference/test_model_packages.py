"""Models made of model packages, on real endpoints: alone, in a chain, and each by its name."""

from __future__ import annotations

import pytest

from tests.resources.inference.conftest import unique, variant

pytestmark = pytest.mark.xdist_group("endpoints")


def package(hosting, says: str, group: str) -> str:
    answer = hosting.sagemaker.create_model_package(
        ModelPackageGroupName=group,
        InferenceSpecification={
            "Containers": [hosting.container(says)],
            "SupportedContentTypes": ["text/plain"],
            "SupportedResponseMIMETypes": ["text/plain"],
        },
        ModelApprovalStatus="Approved",
    )
    return answer["ModelPackageArn"]


def test_an_endpoint_serves_what_its_packages_were_when_the_model_was_made(hosting):
    group = unique("group")
    hosting.sagemaker.create_model_package_group(ModelPackageGroupName=group)
    first, second = (package(hosting, says, group) for says in ("one", "two"))
    containers = [{"ModelPackageName": first}, {"ModelPackageName": second}]
    chain = hosting.model("chain", Containers=containers)
    named = [{**one, "ContainerHostname": f"box{n}"} for n, one in enumerate(containers)]
    direct = hosting.model("direct", Containers=named, InferenceExecutionConfig={"Mode": "Direct"})
    for arn in (first, second):
        hosting.sagemaker.delete_model_package(ModelPackageName=arn)
    name = hosting.endpoint(hosting.config(variant(chain, "A"), variant(direct, "B")))
    assert hosting.invoke(name, TargetVariant="A") == "two(one(x))"
    told = hosting.invoke(name, TargetVariant="B", TargetContainerHostname="box1")
    assert told == "two(x)"
