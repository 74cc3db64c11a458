"""What a call acts on, as policies name it."""

from __future__ import annotations

from typing import Any

import pytest

from clary.engine.registry import Registry, discover
from clary.gateway.exchange import Exchange
from clary.gateway.targets import action_of, conditions_of, resource_of
from clary.model.service import Services
from clary.server import PACKAGES
from clary.wire.http import Request

PREFIX = "arn:aws:sagemaker:eu-west-1:1:"


@pytest.fixture(scope="module")
def registry() -> Registry:
    return discover(Services(), PACKAGES)


def exchange(service: str = "sagemaker", **members: Any) -> Exchange:
    request = Request("POST", "/", "", {"user-agent": "agent"}, peer="10.0.0.1")
    return Exchange(request, "r", 0.0, "1", "eu-west-1", service, input=members)


@pytest.mark.parametrize(
    ("service", "action"),
    [
        ("sagemaker", "sagemaker:Do"),
        ("sagemaker-runtime", "sagemaker:Do"),
        ("sagemaker-featurestore-runtime", "sagemaker:Do"),
        ("stepfunctions", "states:Do"),
        ("cloudwatch", "cloudwatch:Do"),
        ("iam", "iam:Do"),
    ],
)
def test_an_action_has_the_prefix_of_iam(service: str, action: str) -> None:
    assert action_of(service, "Do") == action


@pytest.mark.parametrize(
    ("operation", "members", "resource"),
    [
        ("DescribeModel", {"ModelName": "M"}, f"{PREFIX}model/M"),
        ("CreateExperiment", {"ExperimentName": "E"}, f"{PREFIX}experiment/e"),
        ("DeleteArtifact", {"ArtifactArn": f"{PREFIX}artifact/a"}, f"{PREFIX}artifact/a"),
        ("AddTags", {"ResourceArn": f"{PREFIX}model/m"}, f"{PREFIX}model/m"),
        ("ListModels", {}, "*"),
        ("CreateArtifact", {"ArtifactName": "a"}, "*"),
    ],
)
def test_a_call_names_the_arn_it_acts_on(
    operation: str, members: dict[str, Any], resource: str, registry: Registry
) -> None:
    answer = registry.find("sagemaker", operation)
    assert resource_of(exchange(**members), answer) == resource


def test_log_groups_are_named_with_their_streams() -> None:
    found = resource_of(exchange("logs", logGroupName="/aws/g"), None)
    assert found == "arn:aws:logs:eu-west-1:1:log-group:/aws/g:*"


def test_members_become_condition_keys() -> None:
    found = conditions_of(
        exchange(
            Tags=[{"Key": "team", "Value": "blue"}],
            ProductionVariants=[{"InstanceType": "ml.m5.large"}, {"InstanceType": "ml.p3.2xlarge"}],
            EnableNetworkIsolation=True,
            VpcConfig={"Subnets": ["s-1"]},
            StoppingCondition={"MaxRuntimeInSeconds": 60},
        )
    )
    assert found == {
        "aws:RequestedRegion": "eu-west-1",
        "aws:SourceIp": "10.0.0.1",
        "aws:UserAgent": "agent",
        "aws:TagKeys": ["team"],
        "aws:RequestTag/team": "blue",
        "sagemaker:InstanceTypes": ["ml.m5.large", "ml.p3.2xlarge"],
        "sagemaker:NetworkIsolation": "true",
        "sagemaker:VpcSubnets": "s-1",
        "sagemaker:MaxRuntimeInSeconds": "60",
    }


@pytest.mark.parametrize("odd", ["text", 5, None, [], [5], {"Subnets": {"a": 1}}])
def test_members_of_other_types_are_left_to_validation(odd: Any) -> None:
    """Authorisation comes first, so it must not stumble over what validation would refuse."""
    found = conditions_of(exchange(VpcConfig=odd, Tags=odd))
    assert "sagemaker:VpcSubnets" not in found
