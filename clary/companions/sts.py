"""AWS Security Token Service: who am I, and credentials for a while."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import Any

from clary.engine.call import Call, operation
from clary.identity.access_keys import access_key_arn
from clary.identity.authorise import Authoriser, access_denied
from clary.identity.policy_documents import parse_policy
from clary.identity.principals import Principal, session_principal
from clary.identity.sealing import install_key
from clary.identity.sessions import TEMPORARY_PREFIX, issue
from clary.model.errors import ApiError
from clary.store.rows import Row

SESSION_POLICY_CHARACTERS_MAX = 2048
SESSION_TAGS_MAX = 50
CHAINED_SECONDS_MAX = 3600
USER_SECONDS_DEFAULT = 43_200

_SESSION_NAME = re.compile(r"[\w+=,.@-]{2,64}", re.ASCII)


@operation("GetCallerIdentity", service="sts")
def get_caller_identity(call: Call) -> dict[str, Any]:
    principal = call.principal
    return {"UserId": principal.user_id, "Account": principal.account, "Arn": principal.arn}


@operation("AssumeRole", service="sts")
def assume_role(call: Call) -> dict[str, Any]:
    name = call.input["RoleSessionName"]
    if not _SESSION_NAME.fullmatch(name):
        raise _validation(
            f"1 validation error detected: Value '{name}' at 'roleSessionName' failed to satisfy "
            "constraint: Member must satisfy regular expression pattern: [\\w+=,.@-]*"
        )
    authoriser = Authoriser(call.parts.store, call.parts.settings, call.parts.clock)
    arn = call.input["RoleArn"]
    role = authoriser.role(arn)
    if role is None:
        raise _may_not(call, "sts:AssumeRole", arn)
    _check_consent(call, authoriser, role)
    seconds = _duration(call, role)
    policy, policy_arns = _session_policy(call, authoriser)
    principal = session_principal(
        call.account, role.arn, role.document["RoleId"], name, issued=call.time
    )
    principal = replace(
        principal,
        session_policy_arns=policy_arns,
        session_tags=tuple((tag["Key"], tag["Value"]) for tag in call.input.get("Tags") or []),
        source_identity=call.input.get("SourceIdentity") or call.principal.source_identity,
    )
    key = install_key(call.parts.settings.home)
    credentials = issue(key, principal, seconds, now=call.time, session_policy=policy)
    answer: dict[str, Any] = {
        "Credentials": credentials,
        "AssumedRoleUser": {"AssumedRoleId": principal.user_id, "Arn": principal.arn},
    }
    if policy:
        answer["PackedPolicySize"] = max(1, 100 * len(policy) // SESSION_POLICY_CHARACTERS_MAX)
    if principal.source_identity:
        answer["SourceIdentity"] = principal.source_identity
    return answer


def _check_consent(call: Call, authoriser: Authoriser, role: Row) -> None:
    """Raise AccessDenied unless the role's trust policy lets the caller in, with what it brings."""
    tags = call.input.get("Tags") or []
    if len(tags) > SESSION_TAGS_MAX:
        raise _validation(f"A session has at most {SESSION_TAGS_MAX} tags.")
    folded = [tag["Key"].lower() for tag in tags]
    if len(set(folded)) != len(folded):
        message = "Duplicate tag keys found. Please note that Tag keys are case insensitive."
        raise ApiError(message, code="InvalidParameterValue", status=400)
    context: dict[str, Any] = {
        "sts:ExternalId": call.input.get("ExternalId"),
        "sts:RoleSessionName": call.input["RoleSessionName"],
        "sts:SourceIdentity": call.input.get("SourceIdentity"),
        "sts:TransitiveTagKeys": call.input.get("TransitiveTagKeys"),
        "aws:TagKeys": [tag["Key"] for tag in tags] or None,
        **{f"aws:RequestTag/{tag['Key']}": tag["Value"] for tag in tags},
    }
    actions = ["sts:AssumeRole"]
    actions += ["sts:TagSession"] if tags else []
    actions += ["sts:SetSourceIdentity"] if call.input.get("SourceIdentity") else []
    for action in actions:
        if not authoriser.may_assume(call.principal, role, context, action).allowed:
            raise _may_not(call, action, role.arn)


def _may_not(call: Call, action: str, arn: str) -> ApiError:
    who = call.principal.arn
    return access_denied(f"User: {who} is not authorized to perform: {action} on resource: {arn}")


def _duration(call: Call, role: Row) -> int:
    seconds = call.input.get("DurationSeconds") or 3600
    if call.principal.kind == "role" and seconds > CHAINED_SECONDS_MAX:
        raise _validation(
            "The requested DurationSeconds exceeds the 1 hour session limit for roles assumed by "
            "role chaining"
        )
    if seconds > role.document["MaxSessionDuration"]:
        raise _validation(
            "The requested DurationSeconds exceeds the MaxSessionDuration set for this role."
        )
    return seconds


def _session_policy(call: Call, authoriser: Authoriser) -> tuple[str, tuple[str, ...]]:
    policy = call.input.get("Policy") or ""
    if policy:
        parse_policy(policy, "identity")
        if len(policy) > SESSION_POLICY_CHARACTERS_MAX:
            message = "Packed policy consumes more than 100% of allotted space, please use smaller policy."  # fmt: skip
            raise ApiError(message, code="PackedPolicyTooLarge", status=400)
    arns = tuple(entry["arn"] for entry in call.input.get("PolicyArns") or [] if "arn" in entry)
    for arn in arns:
        if not authoriser.policy_exists(arn):
            message = f"The policy {arn} does not exist or is not attachable."
            raise ApiError(message, code="MalformedPolicyDocument", status=400)
    return policy, arns


@operation("GetSessionToken", service="sts")
def get_session_token(call: Call) -> dict[str, Any]:
    caller = call.principal
    if caller.kind != "user" or caller.issued:
        raise access_denied("Cannot call GetSessionToken with session credentials")
    principal = Principal(
        caller.account, caller.arn, caller.user_id, "user", caller.name, issued=call.time
    )
    seconds = call.input.get("DurationSeconds") or USER_SECONDS_DEFAULT
    key = install_key(call.parts.settings.home)
    return {"Credentials": issue(key, principal, seconds, now=call.time)}


@operation("GetAccessKeyInfo", service="sts")
def get_access_key_info(call: Call) -> dict[str, Any]:
    """The account of a key; a temporary key says nothing else than that this account issued it."""
    access_key = call.input["AccessKeyId"]
    known = call.parts.store.rows.by_arn(access_key_arn(call.account, access_key))
    if known is None and not access_key.startswith(TEMPORARY_PREFIX):
        raise _validation(f"Invalid access key id: {access_key}")
    return {"Account": call.account}


def _validation(message: str) -> ApiError:
    return ApiError(message, code="ValidationError", status=400)
