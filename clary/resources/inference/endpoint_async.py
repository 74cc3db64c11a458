"""Asynchronous endpoints: the rules of their configuration, and the topics that hear of their results."""

from __future__ import annotations

import logging
from typing import Any

import orjson

from clary.engine.call import Call
from clary.identity.principals import session_principal
from clary.model.errors import ApiError, ValidationException
from clary.model.s3_uris import parse_s3_uri
from clary.store.rows import Row

log = logging.getLogger(__name__)

SESSION_NAME = "SageMaker"
TEST_NOTIFICATION = {
    "eventVersion": "1.0",
    "eventSource": "aws:sagemaker",
    "eventName": "TestNotification",
}
# SageMaker takes payloads of this size, so a model server has to as well.
PAYLOAD_MEGABYTES = "1024"


def async_is_for_instances(call: Call) -> None:
    """AsyncInferenceConfig: results go to S3, and serverless variants have no queue."""
    config = call.input.get("AsyncInferenceConfig")
    if not config:
        return
    for member in ("S3OutputPath", "S3FailurePath"):
        if config["OutputConfig"].get(member):
            parse_s3_uri(config["OutputConfig"][member])
    if any("ServerlessConfig" in variant for variant in call.input["ProductionVariants"]):
        raise ValidationException(
            "Asynchronous inference is not supported for serverless variants."
        )


def require_one_way(part: dict[str, Any]) -> None:
    """InvokeEndpointAsync has no TargetModel and no TargetContainerHostname; a pipeline needs neither."""
    if part.get("execution") == "Direct":
        raise ValidationException(
            "AsyncInferenceConfig cannot be used with a model whose InferenceExecutionConfig Mode is "
            "Direct: InvokeEndpointAsync cannot name one of its containers."
        )
    if "multi_model" in part or any("multi_model" in one for one in part["containers"]):
        raise ValidationException(
            "AsyncInferenceConfig cannot be used with multi-model containers: InvokeEndpointAsync "
            "cannot name one of their models."
        )


def async_shown(row: Row) -> dict[str, Any] | None:
    target = row.state.get("live") or row.state.get("target") or {}
    return target.get("async") or None


def with_large_payloads(target: dict[str, Any]) -> dict[str, Any]:
    """The model servers of an asynchronous endpoint take what its clients may send."""
    if target.get("async"):
        for variant in target["variants"]:
            for container in variant["containers"]:
                environment = container.get("Environment") or {}
                container["Environment"] = {
                    "SAGEMAKER_MAX_PAYLOAD_IN_MB": PAYLOAD_MEGABYTES,
                    **environment,
                }
    return target


def require_topics(call: Call, target: dict[str, Any]) -> None:
    """A topic that is not there would never be told; that shows before the endpoint is made."""
    for topic in _topics(target):
        found = call.parts.store.rows.by_arn(topic)
        if found is None or found.kind != "sns:Topic":
            raise ValidationException(
                f"Could not publish to the SNS topic {topic}: it does not exist. "
                "Create it before the endpoint."
            )


def tell_topics(call: Call, target: dict[str, Any]) -> None:
    """Whoever made or updated the endpoint sees at once whether its topics work."""
    message = orjson.dumps(TEST_NOTIFICATION).decode()
    for topic in _topics(target):
        request = {"TopicArn": topic, "Message": message}
        try:
            principal = _role_of(call, target)
            region = topic.split(":")[3]
            call.parts.call("sns", "Publish", request, principal=principal, region=region)
        except ApiError as problem:
            log.warning(
                "the topic %s could not be told of the endpoint: %s", topic, problem.message
            )


def _role_of(call: Call, target: dict[str, Any]) -> Any:
    arn = target["variants"][0]["role"]
    role = call.parts.store.rows.by_arn(arn)
    if role is None or role.kind != "iam:Role":
        raise ValidationException(f"The role {arn} does not exist.")
    return session_principal(call.account, role.arn, role.document["RoleId"], SESSION_NAME)


def _topics(target: dict[str, Any]) -> list[str]:
    output = (target.get("async") or {}).get("OutputConfig") or {}
    config = output.get("NotificationConfig") or {}
    found = [config.get("SuccessTopic"), config.get("ErrorTopic")]
    return sorted({topic for topic in found if topic})
