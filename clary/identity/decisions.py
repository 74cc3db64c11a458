"""Whether a caller may act, by IAM's rules over all policies that concern it.

    1. an explicit deny anywhere                                     -> explicitDeny
    2. the resource's policy names the user or session itself        -> allowed
    3. ... names its role or everyone, and boundary and session agree -> allowed
    4. an identity policy allows, and boundary and session agree     -> allowed
    5. otherwise                                                     -> implicitDeny

A trust policy (and a KMS key's) is stricter: without its consent nothing is allowed, and where it
only names the account, an identity policy must allow too.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from clary.identity.patterns import Context
from clary.identity.policy_documents import Policy
from clary.identity.policy_principals import Grade
from clary.identity.principals import Principal

Reason = Literal["allowed", "explicitDeny", "implicitDeny"]
Layer = Literal["identity-based policy", "permissions boundary", "session policy", "resource-based policy"]  # fmt: skip

IDENTITY: Layer = "identity-based policy"
BOUNDARY: Layer = "permissions boundary"
SESSION: Layer = "session policy"
RESOURCE: Layer = "resource-based policy"


@dataclass(frozen=True, slots=True)
class NamedPolicy:
    """A compiled policy, its name or ARN, and where it comes from ("user", "group", "role",
    ...).
    """

    name: str
    source: str
    policy: Policy


@dataclass(frozen=True, slots=True)
class Policies:
    """All policies of one principal; None means that there is no such limit."""

    identity: tuple[NamedPolicy, ...] = ()
    boundary: NamedPolicy | None = None
    session: tuple[NamedPolicy, ...] | None = None


@dataclass(frozen=True, slots=True)
class Match:
    policy: NamedPolicy
    statement: int  # from 1
    layer: Layer
    allow: bool


@dataclass(frozen=True, slots=True)
class Decision:
    allowed: bool
    reason: Reason
    matched: tuple[Match, ...] = ()
    layer: Layer = IDENTITY  # which layer denied, or failed to allow

    def __bool__(self) -> bool:
        return self.allowed


def decide(
    principal: Principal,
    action: str,
    resource: str,
    context: Context,
    policies: Policies,
    resource_policy: NamedPolicy | None = None,
    *,
    consent_required: bool = False,
) -> Decision:
    """Decide; `consent_required` is for trust and key policies, whose resource decides for
    itself.
    """
    folded = action.lower()
    boundary = None if policies.boundary is None else (policies.boundary,)
    by_identity = _matches(policies.identity, IDENTITY, folded, resource, context)
    by_boundary = _matches(boundary or (), BOUNDARY, folded, resource, context)
    by_session = _matches(policies.session or (), SESSION, folded, resource, context)
    by_resource, grade = _resource_matches(principal, resource_policy, folded, resource, context)
    matched = (*by_identity, *by_boundary, *by_session, *by_resource)
    for match in matched:
        if not match.allow:
            denials = tuple(one for one in matched if not one.allow)
            return Decision(False, "explicitDeny", denials, match.layer)
    within_boundary = boundary is None or bool(by_boundary)
    within_session = policies.session is None or bool(by_session)
    if consent_required and grade is Grade.NONE:
        return Decision(False, "implicitDeny", matched, RESOURCE)
    if grade is Grade.SELF:
        return Decision(True, "allowed", matched)
    if not (by_identity or grade is Grade.ROLE):
        return Decision(False, "implicitDeny", matched, IDENTITY)
    if not within_boundary:
        return Decision(False, "implicitDeny", matched, BOUNDARY)
    if not within_session:
        return Decision(False, "implicitDeny", matched, SESSION)
    return Decision(True, "allowed", matched)


def _matches(
    policies: Sequence[NamedPolicy], layer: Layer, action: str, resource: str, context: Context
) -> list[Match]:
    return [
        Match(policy, statement.index, layer, statement.allow)
        for policy in policies
        for statement in policy.policy.statements
        if statement.applies(action, resource, context)
    ]


def _resource_matches(
    principal: Principal, policy: NamedPolicy | None, action: str, resource: str, context: Context
) -> tuple[list[Match], Grade]:
    """The statements of a resource's policy that name the caller, and the most direct grant."""
    if policy is None:
        return [], Grade.NONE
    found: list[Match] = []
    best = Grade.NONE
    for statement in policy.policy.statements:
        if statement.principals is None:
            continue
        grade = statement.principals.grade(principal)
        if grade is Grade.NONE or not statement.applies(action, resource, context):
            continue
        found.append(Match(policy, statement.index, RESOURCE, statement.allow))
        if statement.allow:
            best = max(best, grade)
    return found, best


def is_unconditional(policies: Policies) -> bool:
    """Whether no policy asks for anything that differs between the requests of a principal."""
    return not any(
        statement.conditions
        or (
            statement.resources is not None
            and any(p.variable for p in statement.resources.patterns)
        )
        for policy in _every(policies)
        for statement in policy.policy.statements
    )


def is_unlimited(policies: Policies) -> bool:
    """Whether the policies allow every action on every resource, as AdministratorAccess alone does."""
    if not policies.identity or policies.session is not None:
        return False
    return all(
        statement.allow
        and not statement.conditions
        and statement.actions.everything
        and not statement.actions.inverted
        and statement.resources is not None
        and statement.resources.everything
        and not statement.resources.inverted
        for policy in _every(policies)
        for statement in policy.policy.statements
    )


def _every(policies: Policies) -> list[NamedPolicy]:
    boundary = [] if policies.boundary is None else [policies.boundary]
    return [*policies.identity, *boundary, *(policies.session or ())]


def denial_message(principal: Principal, action: str, resource: str, decision: Decision) -> str:
    """How AWS words a denial; clients show it and some match on its beginning."""
    who = "Anonymous" if principal.kind == "anonymous" else principal.arn
    message = f"User: {who} is not authorized to perform: {action} on resource: {resource}"
    article = "an" if decision.layer == IDENTITY else "a"
    if decision.reason == "explicitDeny":
        return f"{message} with an explicit deny in {article} {decision.layer}"
    return f"{message} because no {decision.layer} allows the {action} action"
