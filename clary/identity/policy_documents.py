"""Policy documents: checked in IAM's words, and compiled to statements once."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Literal

from clary.identity.conditions import Condition, parse_conditions
from clary.identity.patterns import Context, Pattern, any_of, pattern_of
from clary.identity.policy_principals import Principals, parse_principals
from clary.model.errors import ApiError

PolicyKind = Literal["identity", "resource", "trust"]

CHARACTERS_MAX = 131_072
VERSIONS = ("2008-10-17", "2012-10-17")

_SYNTAX = "Syntax errors in policy."
_STATEMENT_MEMBERS = frozenset(
    (
        *("Sid", "Effect", "Action", "NotAction", "Resource", "NotResource"),
        *("Principal", "NotPrincipal", "Condition"),
    )
)
_ACTION = re.compile(r"\*|([a-zA-Z0-9-]+|\*):[a-zA-Z0-9*?_.-]+")
_SID = re.compile(r"[A-Za-z0-9 ]*")
_TRUST_ACTIONS = re.compile(
    r"(?i)\*|sts:(assumerole\w*|tagsession|setsourceidentity|setcontext|[*?a-z]*[*?][*?a-z]*)"
)


@dataclass(frozen=True, slots=True)
class Actions:
    """Action or NotAction: names ignore case."""

    names: frozenset[str]
    wildcards: re.Pattern[str] | None  # all patterns in one: a policy may list a hundred
    everything: bool
    inverted: bool

    def include(self, action: str) -> bool:
        """Whether a lower-case action is meant."""
        if self.everything:
            return not self.inverted
        found = action in self.names or (
            self.wildcards is not None and self.wildcards.match(action) is not None
        )
        return found != self.inverted


@dataclass(frozen=True, slots=True)
class Resources:
    """Resource or NotResource."""

    patterns: tuple[Pattern, ...]
    everything: bool
    inverted: bool

    def include(self, resource: str, context: Context) -> bool:
        if self.everything:
            return not self.inverted
        # SageMaker lower-cases names within the ARNs of several kinds, so its ARNs ignore case.
        fold = resource.startswith("arn:") and resource.split(":", 3)[2] == "sagemaker"
        found = any(pattern.matches(resource, context, fold=fold) for pattern in self.patterns)
        return found != self.inverted


@dataclass(frozen=True, slots=True)
class Statement:
    sid: str
    index: int  # from 1, as IAM counts them in SimulatePolicy
    allow: bool
    actions: Actions
    resources: Resources | None  # None in trust policies: the role itself
    principals: Principals | None  # None in identity policies: whoever they are attached to
    conditions: tuple[Condition, ...]

    def applies(self, action: str, resource: str, context: Context) -> bool:
        """Whether a lower-case action on a resource meets the statement, whoever asks."""
        if not self.actions.include(action):
            return False
        if self.resources is not None and not self.resources.include(resource, context):
            return False
        return all(condition.holds(context) for condition in self.conditions)


@dataclass(frozen=True, slots=True)
class Policy:
    statements: tuple[Statement, ...]


def malformed(message: str) -> ApiError:
    return ApiError(message, code="MalformedPolicyDocument", status=400)


@lru_cache(4096)
def parse_policy(text: str, kind: PolicyKind = "identity") -> Policy:
    """Check and compile a document; raise MalformedPolicyDocument. The latest ones are
    remembered.
    """
    if len(text) > CHARACTERS_MAX:
        raise malformed("The policy document is too long.")
    try:
        document = json.loads(text, object_pairs_hook=_without_duplicates)
        return _policy(document, kind)
    except RecursionError as problem:
        raise malformed("This policy contains invalid Json") from problem
    except json.JSONDecodeError as problem:
        raise malformed("This policy contains invalid Json") from problem
    except ValueError as problem:
        raise malformed(str(problem)) from problem


def _without_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError(_SYNTAX)
    return found


def _policy(document: Any, kind: PolicyKind) -> Policy:
    if not isinstance(document, dict) or set(document) - {"Version", "Id", "Statement"}:
        raise ValueError(_SYNTAX)
    version = document.get("Version", VERSIONS[0])
    if version not in VERSIONS:
        raise ValueError("Policy document must be version 2012-10-17 or greater.")
    listed = document.get("Statement")
    statements: list[Any] = listed if isinstance(listed, list) else [listed]
    if not statements or not all(isinstance(one, dict) for one in statements):
        raise ValueError(_SYNTAX)
    variables = version == VERSIONS[1]
    compiled = tuple(
        _statement(one, number, kind, variables=variables)
        for number, one in enumerate(statements, 1)
    )
    sids = [statement.sid for statement in compiled if statement.sid]
    if len(set(sids)) != len(sids):
        raise ValueError("Statement IDs (SID) in a single policy must be unique.")
    return Policy(compiled)


def _statement(
    statement: dict[str, Any], index: int, kind: PolicyKind, *, variables: bool
) -> Statement:
    if set(statement) - _STATEMENT_MEMBERS or statement.get("Effect") not in ("Allow", "Deny"):
        raise ValueError(_SYNTAX)
    sid = statement.get("Sid", "")
    if not isinstance(sid, str) or (kind == "identity" and not _SID.fullmatch(sid)):
        raise ValueError("Statement IDs (SID) must be alpha-numeric. Check that your input satisfies the regular expression [0-9A-Za-z]*")  # fmt: skip  # noqa: E501
    return Statement(
        sid=sid,
        index=index,
        allow=statement["Effect"] == "Allow",
        actions=_actions(statement, kind),
        resources=_resources(statement, kind, variables=variables),
        principals=_principals(statement, kind),
        conditions=parse_conditions(statement.get("Condition", {}), variables=variables),
    )


def _either(statement: dict[str, Any], name: str) -> tuple[Any, bool]:
    """The member or its Not form, and whether it is the latter."""
    if name in statement and f"Not{name}" in statement:
        raise ValueError(_SYNTAX)
    return statement.get(name, statement.get(f"Not{name}")), f"Not{name}" in statement


def _texts(value: Any, name: str) -> list[str]:
    listed = value if isinstance(value, list) else [value]
    if value is None or not listed:
        raise ValueError(f"Policy statement must contain {name.lower()}s.")
    if not all(isinstance(one, str) for one in listed):
        raise ValueError(_SYNTAX)
    return listed


def _actions(statement: dict[str, Any], kind: PolicyKind) -> Actions:
    value, inverted = _either(statement, "Action")
    names: set[str] = set()
    patterns: list[Pattern] = []
    for action in _texts(value, "Action"):
        if not _ACTION.fullmatch(action):
            raise ValueError(
                "Actions/Conditions must be prefaced by a vendor, e.g., iam, sdb, ec2, etc."
            )
        if kind == "trust" and not _TRUST_ACTIONS.fullmatch(action):
            raise ValueError("AssumeRole policy may only specify STS AssumeRole actions.")
        folded = action.lower()
        if "*" in folded or "?" in folded:
            patterns.append(pattern_of(folded, False))
        else:
            names.add(folded)
    everything = any(pattern.text in ("*", "*:*") for pattern in patterns)
    wildcards = any_of(patterns) if patterns else None
    return Actions(frozenset(names), wildcards, everything, inverted)


def _resources(statement: dict[str, Any], kind: PolicyKind, *, variables: bool) -> Resources | None:
    value, inverted = _either(statement, "Resource")
    if kind == "trust":
        if value is not None:
            raise ValueError("Has prohibited field Resource")
        return None
    listed = _texts(value, "Resource")
    for resource in listed:
        if resource != "*" and not resource.startswith(("arn:", "${")):
            raise ValueError(f'Resource {resource} must be in ARN format or "*".')
        if resource.startswith("arn:") and resource.count(":") < 5 and "*" not in resource:
            raise ValueError("The policy failed legacy parsing")
    patterns = tuple(pattern_of(resource, variables) for resource in listed)
    return Resources(patterns, any(resource == "*" for resource in listed), inverted)


def _principals(statement: dict[str, Any], kind: PolicyKind) -> Principals | None:
    value, inverted = _either(statement, "Principal")
    if kind == "identity":
        if value is not None:
            raise ValueError("Policy document should not specify a principal.")
        return None
    if value is None:
        raise ValueError("Missing required field Principal")
    return parse_principals(value, inverted=inverted)
