"""What a call acts on, as IAM sees it: the action, the resource's ARN, and the condition keys of the request."""

from __future__ import annotations

from typing import Any

from clary.engine.naming import name_in, parent_in
from clary.engine.registry import Answer
from clary.gateway.exchange import Exchange
from clary.model.arns import sagemaker_arn

# Services whose IAM prefix is not the name they sign with.
_PREFIXES = {
    "cloudwatch": "cloudwatch",
    "sagemaker-runtime": "sagemaker",
    "sagemaker-featurestore-runtime": "sagemaker",
    "sagemaker-metrics": "sagemaker",
    "sagemaker-a2i-runtime": "sagemaker",
    "stepfunctions": "states",
    "resourcegroupstaggingapi": "tag",
    "service-quotas": "servicequotas",
}
# Condition keys of SageMaker that are plain members of a create request, by where they stand in it.
_CONDITIONS = {
    "sagemaker:InstanceTypes": (
        "ResourceConfig.InstanceType",
        "ProcessingResources.ClusterConfig.InstanceType",
        "TransformResources.InstanceType",
        "ProductionVariants.InstanceType",
        "InstanceType",
    ),
    "sagemaker:NetworkIsolation": (
        "EnableNetworkIsolation",
        "NetworkConfig.EnableNetworkIsolation",
    ),
    "sagemaker:OutputKmsKey": (
        "OutputDataConfig.KmsKeyId",
        "ProcessingOutputConfig.KmsKeyId",
        "TransformOutput.KmsKeyId",
    ),
    "sagemaker:VolumeKmsKey": (
        "ResourceConfig.VolumeKmsKeyId",
        "ProcessingResources.ClusterConfig.VolumeKmsKeyId",
        "KmsKeyId",
    ),
    "sagemaker:VpcSubnets": ("VpcConfig.Subnets", "NetworkConfig.VpcConfig.Subnets"),
    "sagemaker:VpcSecurityGroupIds": (
        "VpcConfig.SecurityGroupIds",
        "NetworkConfig.VpcConfig.SecurityGroupIds",
    ),
    "sagemaker:InterContainerTrafficEncryption": (
        "EnableInterContainerTrafficEncryption",
        "NetworkConfig.EnableInterContainerTrafficEncryption",
    ),
    "sagemaker:MaxRuntimeInSeconds": ("StoppingCondition.MaxRuntimeInSeconds",),
    "sagemaker:ModelApprovalStatus": ("ModelApprovalStatus",),
    "sagemaker:ModelArn": ("ModelName",),
    "sagemaker:DirectInternetAccess": ("DirectInternetAccess",),
    "sagemaker:RootAccess": ("RootAccess",),
}


_CONDITION_PATHS = tuple(
    (key, tuple(tuple(path.split(".")) for path in paths)) for key, paths in _CONDITIONS.items()
)
# The entity first that an operation acts upon, where it names several.
_IAM_ENTITIES = {
    "UserName": "user",
    "RoleName": "role",
    "GroupName": "group",
    "InstanceProfileName": "instance-profile",
    "PolicyArn": "policy",
}


def action_of(service: str, operation: str) -> str:
    return f"{_PREFIXES.get(service, service)}:{operation}"


def resource_of(exchange: Exchange, answer: Answer | None) -> str:
    """The ARN a call acts on; "*" where it names none, as lists do."""
    bound = answer.resource if answer is not None else None
    for member in ("ResourceArn", f"{bound.noun}Arn" if bound else "ResourceArn"):
        if str(exchange.input.get(member, "")).startswith("arn:"):
            return str(exchange.input[member])
    if exchange.service == "iam":
        return _iam_entity(exchange)
    if exchange.service == "logs" and exchange.input.get("logGroupName"):
        name = exchange.input["logGroupName"]
        return f"arn:aws:logs:{exchange.region}:{exchange.account}:log-group:{name}:*"
    if bound is None or not name_in(bound, exchange.input):
        return "*"
    parent, name = parent_in(bound, exchange.input), name_in(bound, exchange.input)
    path = bound.resource.arn_name(f"{parent}/{name}" if parent else name)
    return sagemaker_arn(exchange.region, exchange.account, bound.kind.arn_segment, path)


def _iam_entity(exchange: Exchange) -> str:
    for member, entity in _IAM_ENTITIES.items():
        name = exchange.input.get(member)
        if isinstance(name, str) and name:
            return (
                name
                if name.startswith("arn:")
                else f"arn:aws:iam::{exchange.account}:{entity}/{name}"
            )
    return "*"


def conditions_of(exchange: Exchange) -> dict[str, Any]:
    """Condition keys of the request itself; those of the caller are added by the decision."""
    context: dict[str, Any] = {
        "aws:RequestedRegion": exchange.region,
        "aws:SourceIp": exchange.request.peer,
        "aws:UserAgent": exchange.request.headers.get("user-agent", ""),
    }
    tags = exchange.input.get("Tags")
    if isinstance(tags, list):
        pairs = [tag for tag in tags if isinstance(tag, dict) and "Key" in tag]
        context["aws:TagKeys"] = [tag["Key"] for tag in pairs]
        for tag in pairs:
            context[f"aws:RequestTag/{tag['Key']}"] = str(tag.get("Value", ""))
    for key, paths in _CONDITION_PATHS:
        values = [
            str(value)
            for path in paths
            if path[0] in exchange.input
            for value in _at(exchange.input, path)
        ]
        if values:
            context[key] = values if len(values) > 1 else values[0]
    return context


def _at(value: Any, path: tuple[str, ...]) -> list[Any]:
    if isinstance(value, list):
        return [found for one in value for found in _at(one, path)]
    if not path:
        return (
            []
            if value is None or isinstance(value, dict)
            else [str(value).lower() if isinstance(value, bool) else value]
        )
    return _at(value[path[0]], path[1:]) if isinstance(value, dict) and path[0] in value else []
