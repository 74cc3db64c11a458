"""The role that a request hands to SageMaker: the caller may pass it, and it lets SageMaker assume it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from clary.gateway.exchange import Exchange
from clary.model.errors import ValidationException

if TYPE_CHECKING:
    from clary.identity.authorise import Authoriser

MEMBERS = ("RoleArn", "ExecutionRoleArn", "ExecutionRole", "ValidationRole")
# Members that hold the definitions of other requests, with roles of their own.
HOLDERS = ("TrainingJobDefinition", "TrainingJobDefinitions", "ValidationSpecification")
SERVICE = "sagemaker.amazonaws.com"


def check_roles(exchange: Exchange, authoriser: Authoriser) -> None:
    """Raise AccessDeniedException or SageMaker's ValidationException for a role that cannot be used."""
    if exchange.service != "sagemaker" or exchange.principal is None:
        return
    for role in _roles(exchange.input):
        authoriser.authorise(
            exchange.principal, "iam:PassRole", role, lambda: {"iam:PassedToService": SERVICE}
        )
        if not authoriser.role_trusts(role, SERVICE):
            raise ValidationException(
                f"Could not assume role {role}. Please ensure that the role exists and allows "
                f"principal '{SERVICE}' to assume the role."
            )


def _roles(request: dict[str, Any]) -> list[str]:
    """Every role that a request hands over, each once."""
    holders: list[dict[str, Any]] = [request]
    for member in HOLDERS:
        held = request.get(member) or []
        holders += [held] if isinstance(held, dict) else held
    found = [one.get(member) for one in holders for member in MEMBERS]
    return list(dict.fromkeys(role for role in found if isinstance(role, str) and role))
