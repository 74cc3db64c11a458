"""The role that a request hands to SageMaker: the caller may pass it, and it lets SageMaker assume it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from clary.gateway.exchange import Exchange
from clary.model.errors import ValidationException

if TYPE_CHECKING:
    from clary.identity.authorise import Authoriser

MEMBERS = ("RoleArn", "ExecutionRoleArn", "ExecutionRole")
SERVICE = "sagemaker.amazonaws.com"


def check_roles(exchange: Exchange, authoriser: Authoriser) -> None:
    """Raise AccessDeniedException or SageMaker's ValidationException for a role that cannot be used."""
    if exchange.service != "sagemaker" or exchange.principal is None:
        return
    for member in MEMBERS:
        role = exchange.input.get(member)
        if not isinstance(role, str) or not role:
            continue
        authoriser.authorise(
            exchange.principal, "iam:PassRole", role, {"iam:PassedToService": SERVICE}
        )
        if not authoriser.role_trusts(role, SERVICE):
            raise ValidationException(
                f"Could not assume role {role}. Please ensure that the role exists and allows "
                f"principal '{SERVICE}' to assume the role."
            )
