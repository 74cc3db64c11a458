"""The errors of the SageMaker runtime, worded as the service words them.

ValidationError 400 · ModelError 424 · ThrottlingException 429 · ServiceUnavailable 503
"""

from __future__ import annotations

from clary.dataplane.routes import EndpointRoute
from clary.model.errors import ApiError

ORIGINAL_MESSAGE_CHARACTERS_MAX = 10_000
TIMED_OUT = (
    "Your invocation timed out while waiting for a response from container {container}. "
    "Review the latency metrics for each container in Amazon CloudWatch, resolve the issue, and "
    "try again."
)
CONNECTION_CLOSED = (
    "The connection to container {container} closed before it had answered. "
    "Look for a crash in the logs of the endpoint, resolve the issue, and try again."
)
ANSWER_TOO_LARGE = "The response of container {container} exceeds the limit of {limit} bytes."


def validation_error(message: str, *, status: int = 400) -> ApiError:
    return ApiError(message, code="ValidationError", status=status)


def endpoint_not_found(name: str, account: str) -> ApiError:
    return validation_error(f"Endpoint {name} of account {account} not found.")


def endpoint_not_in_service(route: EndpointRoute) -> ApiError:
    return validation_error(
        f"Endpoint {route.name} of account {route.account} is not in service: its status is "
        f"{route.status}."
    )


def variant_not_found(variant: str) -> ApiError:
    return validation_error(f"Variant {variant} not found for Request")


def no_capacity(route: EndpointRoute) -> ApiError:
    return ApiError(
        f"Endpoint {route.name} has no instance that can take this request. Please try again.",
        code="ServiceUnavailable",
        status=503,
    )


def model_error(
    route: EndpointRoute, status: int, message: str, *, container: str = "primary"
) -> ApiError:
    """What the container said or failed to say; `status` 0 means that it gave no answer."""
    message = message[:ORIGINAL_MESSAGE_CHARACTERS_MAX]
    kind = "client" if 400 <= status < 500 else "server"
    region, account, group = route.region, route.account, route.log_group
    text = (
        f'Received {kind} error ({status}) from {container} with message "{message}". '
        f"See https://{region}.console.aws.amazon.com/cloudwatch/home?region={region}"
        f"#logEventViewer:group={group} in account {account} for more information."
    )
    return ApiError(
        text,
        code="ModelError",
        status=424,
        OriginalStatusCode=status,
        OriginalMessage=message,
        LogStreamArn=f"arn:aws:logs:{region}:{account}:log-group:{group}",
    )
