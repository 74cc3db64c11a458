"""The Principal element of resource and trust policies: who is meant, and how directly."""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import IntEnum
from typing import Any

from clary.identity.principals import Principal

_ACCOUNT = re.compile(r"\d{12}")
_ROOT = re.compile(r"arn:aws[a-z-]*:iam::(\d{12}):root")
_PRINCIPAL_ARN = re.compile(
    r"arn:aws[a-z-]*:(iam::\d{12}:(user|role)/.+|sts::\d{12}:(assumed-role|federated-user)/.+)"
    r"|A(RO|ID)A[A-Z0-9]{16,}"
)


class Grade(IntEnum):
    """How directly a policy names a caller; the more directly, the less else limits the grant."""

    NONE = 0
    ACCOUNT = 1  # its account: the account's own policies decide further
    ROLE = 2  # the role behind its session, or everyone: boundaries and session policies limit it
    SELF = 3  # the user or session itself


@dataclass(frozen=True, slots=True)
class Principals:
    everyone: bool
    accounts: frozenset[str]
    arns: frozenset[str]
    services: frozenset[str]
    inverted: bool  # NotPrincipal

    def grade(self, principal: Principal) -> Grade:
        """How this element names the caller."""
        found = self._listed(principal)
        if self.inverted:
            return Grade.ROLE if found is Grade.NONE else Grade.NONE
        return found

    def _listed(self, principal: Principal) -> Grade:
        if principal.arn in self.arns or principal.user_id in self.arns:
            return Grade.SELF
        if principal.role_arn and principal.role_arn in self.arns:
            return Grade.ROLE
        if self.everyone:
            return Grade.ROLE
        if principal.account and principal.account in self.accounts:
            return Grade.ACCOUNT
        return Grade.NONE

    def includes_service(self, service: str) -> bool:
        """Whether an AWS service, by its host name such as sagemaker.amazonaws.com, is meant."""
        return (service in self.services or "*" in self.services or self.everyone) != self.inverted


def parse_principals(value: Any, *, inverted: bool) -> Principals:
    """Read the element; raise ValueError in the words of IAM when it is malformed."""
    if value == "*":
        return Principals(True, frozenset(), frozenset(), frozenset(), inverted)
    if not isinstance(value, dict) or not value:
        raise ValueError("Invalid principal in policy")
    accounts: set[str] = set()
    arns: set[str] = set()
    services: set[str] = set()
    everyone = False
    for kind, listed in value.items():
        for one in listed if isinstance(listed, list) else [listed]:
            if not isinstance(one, str) or not one:
                raise ValueError("Invalid principal in policy")
            if kind == "AWS":
                everyone |= one == "*"
                _add_aws(one, accounts, arns)
            elif kind == "Service":
                services.add(_service(one))
            elif kind in ("Federated", "CanonicalUser"):
                arns.add(one)
            else:
                raise ValueError(f'Invalid principal in policy: "{kind}":"{one}"')
    return Principals(everyone, frozenset(accounts), frozenset(arns), frozenset(services), inverted)


def _add_aws(text: str, accounts: set[str], arns: set[str]) -> None:
    root = _ROOT.fullmatch(text)
    if root:
        accounts.add(root[1])
    elif _ACCOUNT.fullmatch(text):
        accounts.add(text)
    elif _PRINCIPAL_ARN.fullmatch(text):
        arns.add(text)
    elif text != "*":
        raise ValueError(f'Invalid principal in policy: "AWS":"{text}"')


def _service(text: str) -> str:
    if not re.fullmatch(
        r"[a-z0-9-]+(\.[a-z0-9-]+)*\.(amazonaws\.com(\.cn)?|aws\.internal)|\*", text
    ):
        raise ValueError(f'Invalid principal in policy: "SERVICE":"{text}"')
    return text
