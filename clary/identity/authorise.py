"""Whether a principal may act, by the policies that IAM holds of it."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from clary.identity.decisions import (
    Decision,
    NamedPolicy,
    Policies,
    decide,
    denial_message,
    is_unconditional,
    is_unlimited,
)
from clary.identity.managed_policies import aws_managed_policies
from clary.identity.patterns import Context
from clary.identity.policy_documents import Policy, parse_policy
from clary.identity.principals import Principal
from clary.model.errors import AccessDeniedException
from clary.settings import Settings
from clary.store.database import Store
from clary.store.rows import Row
from clary.wire.signature_errors import Style

CACHED_PRINCIPALS_MAX = 4096
REMEMBERED_MAX = 4096  # decisions of one principal

Values = Mapping[str, Any]  # of condition keys: texts, numbers, booleans, or lists of them

_ALWAYS = Decision(True, "allowed")


@dataclass(frozen=True, slots=True)
class Standing:
    """What IAM holds of a principal: its policies and the condition keys that describe it."""

    policies: Policies
    keys: Values
    # What was decided, where no policy asks for anything that differs between requests.
    allowed: set[tuple[str, str]] | None = None
    unlimited: bool = False  # every action on every resource, unconditionally


class Authoriser:
    """Decides by cached, compiled policies; dropped whenever anything of IAM was written.

    One per process, safe from many threads.
    """

    def __init__(self, store: Store, settings: Settings, clock: Callable[[], float]) -> None:
        self._store = store
        self._account = settings.account
        self._clock = clock
        # One tuple, replaced as a whole, so that threads see standings only with their generation.
        self._cache: tuple[int, dict[Principal, Standing]] = (-1, {})
        self._trust: tuple[int, dict[tuple[str, str], bool]] = (-1, {})

    def authorise(
        self,
        principal: Principal,
        action: str,
        resource: str,
        context: Callable[[], Values] | None = None,
        resource_policy: str | None = None,
        *,
        status: int = 400,
        style: Style = "json",
    ) -> None:
        """Raise AccessDeniedException unless `principal` may; `resource` is an ARN or "*".

        `context` tells the condition keys of the request, which most decisions do not need.
        `resource_policy` is the JSON of a bucket's or another resource's policy. The style of the
        service decides the wire form: JSON services answer 400, all others 403, and S3 and the
        query services call it AccessDenied. `status` sets the status of the plain form alone.
        """
        allowed = None
        if not resource_policy and principal.kind != "service":
            standing = self.standing(principal)
            allowed = standing.allowed
            if standing.unlimited or (allowed is not None and (action, resource) in allowed):
                return
        values = context() if context is not None else None
        decision = self.allows(principal, action, resource, values, resource_policy)
        if decision.allowed and allowed is not None and len(allowed) < REMEMBERED_MAX:
            allowed.add((action, resource))
        if not decision.allowed:
            message = denial_message(principal, action, resource, decision)
            if style in ("query", "s3"):
                raise access_denied(message)
            raise AccessDeniedException(message, status=403 if style == "rest" else status)

    def allows(
        self,
        principal: Principal,
        action: str,
        resource: str,
        context: Values | None = None,
        resource_policy: str | None = None,
        *,
        consent_required: bool = False,
    ) -> Decision:
        """The decision; `consent_required` where the resource's own policy must allow as well, as
        with KMS keys."""
        if principal.kind == "service":
            return _ALWAYS
        standing = self.standing(principal)
        now = self._clock()
        moment = _Moment(now)
        whole = Context(moment, standing.keys, context or {})
        attached = None
        if resource_policy:
            policy = parse_policy(resource_policy, "resource")
            attached = NamedPolicy("resource", "resource", policy)
        return decide(
            principal,
            action,
            resource,
            whole,
            standing.policies,
            attached,
            consent_required=consent_required,
        )

    def may_pass(self, principal: Principal, role_arn: str, service: str) -> bool:
        """Whether iam:PassRole lets `principal` hand the role to a service (its host name)."""
        context = {"iam:PassedToService": service}
        return self.allows(principal, "iam:PassRole", role_arn, context).allowed

    def pass_role(self, principal: Principal, role_arn: str, service: str) -> None:
        """Raise AccessDeniedException unless `may_pass`."""
        self.authorise(
            principal, "iam:PassRole", role_arn, lambda: {"iam:PassedToService": service}
        )

    def role_trusts(self, role_arn: str, service: str) -> bool:
        """Whether a role exists and lets a service, such as sagemaker.amazonaws.com, assume it."""
        generation = self._store.rows.generation("iam")
        if generation != self._trust[0]:
            self._trust = (generation, {})
        known = self._trust[1]
        decided = known.get((role_arn, service))
        if decided is not None:
            return decided
        role = self.role(role_arn)
        if role is None:
            return False
        policy = parse_policy(role.document["AssumeRolePolicyDocument"], "trust")
        trusts = self._trusts(policy, role_arn, service)
        lasting = not any(statement.conditions for statement in policy.statements)
        if lasting and len(known) < REMEMBERED_MAX:
            known[role_arn, service] = trusts
        return trusts

    def _trusts(self, policy: Policy, role_arn: str, service: str) -> bool:
        context = Context(_Moment(self._clock()), {"aws:PrincipalIsAWSService": "true"})
        allowed = False
        for statement in policy.statements:
            named = statement.principals is not None and statement.principals.includes_service(
                service
            )
            if named and statement.applies("sts:assumerole", role_arn, context):
                if not statement.allow:
                    return False
                allowed = True
        return allowed

    def may_assume(
        self,
        principal: Principal,
        role: Row,
        context: Values,
        action: str = "sts:AssumeRole",
    ) -> Decision:
        """Whether `principal` may assume a role: its trust policy has to consent."""
        trust = parse_policy(role.document["AssumeRolePolicyDocument"], "trust")
        standing = self.standing(principal)
        whole = Context(_Moment(self._clock()), standing.keys, context)
        attached = NamedPolicy("AssumeRolePolicyDocument", "role", trust)
        if principal.kind == "service":
            return _ALWAYS
        return decide(
            principal,
            action,
            role.arn,
            whole,
            standing.policies,
            attached,
            consent_required=True,
        )

    def policy_exists(self, arn: str) -> bool:
        """Whether a managed policy of this account or of AWS has this ARN."""
        if arn in aws_managed_policies():
            return True
        row = self._store.rows.by_arn(arn)
        return row is not None and row.kind == "iam:Policy"

    def role(self, role_arn: str) -> Row | None:
        row = self._store.rows.by_arn(role_arn)
        return row if row is not None and row.kind == "iam:Role" else None

    def standing(self, principal: Principal) -> Standing:
        """What IAM holds of a principal now."""
        generation = self._store.rows.generation("iam")
        cached_generation, standings = self._cache
        if cached_generation != generation or len(standings) > CACHED_PRINCIPALS_MAX:
            standings = {}
            self._cache = (generation, standings)
        found = standings.get(principal)
        if found is None:
            # Read after the generation: what is remembered is never older than its label.
            found = standings[principal] = self._load(principal)
        return found

    def _load(self, principal: Principal) -> Standing:
        keys = _describing_keys(principal)
        row = self._row(principal)
        session = self._session_policies(principal)
        if row is None:
            return Standing(Policies(session=session), keys)
        for tag in row.tags:
            keys[f"aws:PrincipalTag/{tag['Key']}"] = tag["Value"]
        for key, value in principal.session_tags:
            keys[f"aws:PrincipalTag/{key}"] = value
        identity = [*self.policies_of(row)]
        if row.kind == "iam:User":
            for group_name in row.document.get("Groups", []):
                group = self._store.rows.get("iam:Group", group_name, account=self._account)
                if group is not None:
                    identity += self.policies_of(group)
        boundary_arn = row.document.get("PermissionsBoundary", "")
        boundary = self.managed_policy(boundary_arn, "boundary") if boundary_arn else None
        policies = Policies(tuple(identity), boundary, session)
        lasting = is_unconditional(policies)
        return Standing(policies, keys, set() if lasting else None, is_unlimited(policies))

    def _row(self, principal: Principal) -> Row | None:
        """The user or role behind a principal; None if it is gone, or another has its name now."""
        if principal.role_arn:
            row = self.role(principal.role_arn)
            unique = row.document.get("RoleId", "") if row else ""
        elif principal.kind == "user":
            row = self._store.rows.get("iam:User", principal.name, account=self._account)
            unique = row.document.get("UserId", "") if row else ""
        else:
            return None
        return row if unique and principal.user_id.split(":", 1)[0] == unique else None

    def _session_policies(self, principal: Principal) -> tuple[NamedPolicy, ...] | None:
        if not principal.limited:
            return None
        found = [self.managed_policy(arn, "session") for arn in principal.session_policy_arns]
        if principal.session_policy:
            policy = parse_policy(principal.session_policy, "identity")
            found.append(NamedPolicy("session", "session", policy))
        return tuple(found)

    def policies_of(self, row: Row) -> list[NamedPolicy]:
        """The inline and attached policies of a user, role or group."""
        source = row.kind.removeprefix("iam:").lower()
        found = [
            NamedPolicy(name, source, parse_policy(text, "identity"))
            for name, text in row.document.get("Policies", {}).items()
        ]
        for arn in row.document.get("AttachedPolicies", []):
            found.append(self.managed_policy(arn, source))
        return found

    def managed_policy(self, arn: str, source: str) -> NamedPolicy:
        """The default version of a managed policy; one that is gone allows nothing."""
        text = aws_managed_policies().get(arn)
        if text is None:
            row = self._store.rows.by_arn(arn)
            if row is None or row.kind != "iam:Policy":
                return NamedPolicy(arn, source, parse_policy(_NOTHING, "identity"))
            versions = row.document["Versions"]
            text = versions[row.document["DefaultVersionId"]]["Document"]
        return NamedPolicy(arn, source, parse_policy(text, "identity"))


# A limit whose policy is gone must still limit: this one matches no action that exists.
_NOTHING = (
    '{"Version": "2012-10-17", "Statement": '
    '[{"Effect": "Allow", "Action": "none:None", "Resource": "*"}]}'
)


class _Moment(Mapping[str, str]):
    """The condition keys of time, rendered only when a policy asks for some key."""

    __slots__ = ("_now",)

    def __init__(self, now: float) -> None:
        self._now = now

    def __getitem__(self, key: str) -> str:
        match key:
            case "aws:CurrentTime":
                return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(self._now))
            case "aws:EpochTime":
                return str(int(self._now))
            case _:
                raise KeyError(key)

    def __iter__(self) -> Iterator[str]:
        return iter(("aws:CurrentTime", "aws:EpochTime"))

    def __len__(self) -> int:
        return 2


def _describing_keys(principal: Principal) -> dict[str, Any]:
    """The global condition keys that follow from who the caller is."""
    types = {"user": "User", "role": "AssumedRole", "anonymous": "Anonymous"}
    keys: dict[str, Any] = {
        "aws:PrincipalArn": principal.role_arn or principal.arn,
        "aws:PrincipalType": types.get(principal.kind, "Service"),
        "aws:userid": principal.user_id,
        "aws:PrincipalIsAWSService": "false",
    }
    if principal.account:
        keys["aws:PrincipalAccount"] = principal.account
    if principal.kind == "user":
        keys["aws:username"] = principal.name
    if principal.source_identity:
        keys["aws:SourceIdentity"] = principal.source_identity
    if principal.issued:
        stamp = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(principal.issued))
        keys["aws:TokenIssueTime"] = stamp
        keys["aws:MultiFactorAuthPresent"] = "false"
    return keys


def access_denied(message: str) -> AccessDeniedException:
    """The same refusal as S3 and the query services word its code."""
    return AccessDeniedException(message, code="AccessDenied", status=403)
