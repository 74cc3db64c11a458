"""IAM's policy simulator: the answers of the very engine that decides every call."""

from __future__ import annotations

import re
from typing import Any

from clary.companions.iam_entities import GROUP, ROLE, USER, find, invalid_input, page
from clary.engine.call import Call, operation
from clary.identity.authorise import Authoriser, Standing
from clary.identity.decisions import Decision, Match, NamedPolicy, Policies, decide
from clary.identity.managed_policies import PREFIX
from clary.identity.patterns import Context
from clary.identity.policy_documents import parse_policy
from clary.identity.principals import Principal, session_principal
from clary.model.errors import ApiError

PAIRS_MAX = 10_000
SESSION = "simulation"

_ENTITY = re.compile(r"arn:aws[a-z-]*:iam::(\d{12}):(user|group|role)(/.*)?/([^/]+)")
_NUMERIC_TYPES = ("numericList", "stringList", "booleanList", "ipList", "binaryList", "dateList")


@operation("SimulatePrincipalPolicy", service="iam")
def simulate_principal_policy(call: Call) -> dict[str, Any]:
    principal, standing = _source(call, call.input["PolicySourceArn"])
    policies = standing.policies
    added = _input_policies(call.input.get("PolicyInputList"))
    boundary = _boundary(call) or policies.boundary
    whole = Policies((*policies.identity, *added), boundary, policies.session)
    caller = call.input.get("CallerArn")
    if caller:
        principal = _source(call, caller)[0]
    return _simulate(call, principal, whole, standing.keys)


@operation("SimulateCustomPolicy", service="iam")
def simulate_custom_policy(call: Call) -> dict[str, Any]:
    caller = call.input.get("CallerArn")
    if caller:
        principal, standing = _source(call, caller)
        keys = standing.keys
    else:
        root = f"arn:aws:iam::{call.account}:root"
        principal = Principal(call.account, root, call.account, "account", "root")
        keys = {"aws:PrincipalAccount": call.account, "aws:PrincipalArn": root}
    policies = Policies(_input_policies(call.input["PolicyInputList"]), _boundary(call))
    return _simulate(call, principal, policies, keys)


def _source(call: Call, arn: str) -> tuple[Principal, Standing]:
    """The principal that an ARN means, and what IAM holds of it; raise NoSuchEntity."""
    found = _ENTITY.fullmatch(arn)
    if found is None:
        message = f"Invalid Entity Arn: {arn} does not clearly define entity type and name."
        raise invalid_input(message)
    account, word, _, name = found.groups()
    authoriser = Authoriser(call.parts.store, call.parts.settings, call.parts.clock)
    if word == "role":
        row = find(call, ROLE, name)
        principal = session_principal(account, row.arn, row.document["RoleId"], SESSION)
        return principal, authoriser.standing(principal)
    if word == "user":
        row = find(call, USER, name)
        principal = Principal(account, row.arn, row.document["UserId"], "user", row.name)
        return principal, authoriser.standing(principal)
    row = find(call, GROUP, name)
    principal = Principal(account, row.arn, row.document["GroupId"], "group", row.name)
    return principal, Standing(Policies(tuple(authoriser.policies_of(row))), {})


def _input_policies(texts: list[str] | None) -> tuple[NamedPolicy, ...]:
    return tuple(
        NamedPolicy(f"PolicyInputList.{number}", "input", _parsed(text))
        for number, text in enumerate(texts or [], 1)
    )


def _parsed(text: str, *, resource: bool = False) -> Any:
    try:
        return parse_policy(text, "resource" if resource else "identity")
    except ApiError as problem:
        raise invalid_input(problem.message) from problem


def _boundary(call: Call) -> NamedPolicy | None:
    listed = call.input.get("PermissionsBoundaryPolicyInputList") or []
    if not listed:
        return None
    return NamedPolicy("PermissionsBoundaryPolicyInputList.1", "boundary", _parsed(listed[0]))


def _context(call: Call) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for entry in call.input.get("ContextEntries") or []:
        values = entry.get("ContextKeyValues") or []
        plural = entry.get("ContextKeyType", "string") in _NUMERIC_TYPES
        if entry.get("ContextKeyName"):
            found[entry["ContextKeyName"]] = values if plural else values[:1]
    return found


def _simulate(call: Call, principal: Principal, policies: Policies, keys: Any) -> dict[str, Any]:
    context = Context({"aws:EpochTime": str(int(call.time))}, keys, _context(call))
    attached = None
    if call.input.get("ResourcePolicy"):
        policy = _parsed(call.input["ResourcePolicy"], resource=True)
        attached = NamedPolicy("ResourcePolicy", "resource", policy)
    actions = call.input["ActionNames"]
    resources = call.input.get("ResourceArns") or ["*"]
    if len(actions) * len(resources) > PAIRS_MAX:
        raise invalid_input(f"More than {PAIRS_MAX} pairs of action and resource were asked for.")
    for action in actions:
        if ":" not in action:
            raise invalid_input(f"Invalid input: {action} is not a valid action name.")
    pairs = [(action, resource) for action in actions for resource in resources]
    numbered = list(enumerate(pairs))
    answer = page(call, "EvaluationResults", numbered, lambda pair: f"{pair[0]:08}")
    answer["EvaluationResults"] = [
        _result(
            action,
            resource,
            decide(principal, action, resource, context, policies, attached),
            policies,
        )
        for _, (action, resource) in answer["EvaluationResults"]
    ]
    return answer


def _result(action: str, resource: str, decision: Decision, policies: Policies) -> dict[str, Any]:
    result: dict[str, Any] = {
        "EvalActionName": action,
        "EvalResourceName": resource,
        "EvalDecision": decision.reason,
        "MatchedStatements": [_statement(match) for match in decision.matched],
        "MissingContextValues": [],
    }
    if policies.boundary is not None:
        denied = not decision.allowed and decision.layer == "permissions boundary"
        result["PermissionsBoundaryDecisionDetail"] = {"AllowedByPermissionsBoundary": not denied}
    return result


def _statement(match: Match) -> dict[str, Any]:
    source = match.policy.source
    managed = match.policy.name.startswith("arn:")
    aws = match.policy.name.startswith(PREFIX)
    kind = ("aws-managed" if aws else "user-managed") if managed else source
    known = ("user", "group", "role", "aws-managed", "user-managed", "resource")
    name = match.policy.name.rsplit("/", 1)[-1] if managed else match.policy.name
    return {
        "SourcePolicyId": name,
        "SourcePolicyType": kind if kind in known else "none",
    }
