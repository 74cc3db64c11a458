"""Who calls: the principal behind an access key."""

from __future__ import annotations

from dataclasses import dataclass

ANONYMOUS_ID = "anonymous"


@dataclass(frozen=True, slots=True)
class Principal:
    """A verified caller. `arn` is what GetCallerIdentity answers; `role_arn` is set for sessions
    of a role.
    """

    account: str
    arn: str
    user_id: str  # "AIDA..." of a user, "AROA...:session" of a role's session
    kind: str  # "user" | "role" | "service" | "anonymous"
    name: str  # user name or role name
    access_key: str = ""
    role_arn: str = ""
    session_policy: str = ""  # JSON; empty means the role's policies alone decide
    source_identity: str = ""
    session_policy_arns: tuple[str, ...] = ()  # managed policies that limit the session as well
    session_tags: tuple[tuple[str, str], ...] = ()
    issued: float = 0.0  # epoch seconds; 0 for long-lived keys
    acts_for: str = ""  # ARN of the resource on whose behalf a service calls

    @property
    def limited(self) -> bool:
        """Whether a session policy narrows what the role or user may do."""
        return bool(self.session_policy or self.session_policy_arns)


def service_principal(account: str, name: str) -> Principal:
    """Clary itself, acting for a kind: child jobs, schedules, deliveries. Policies do not apply
    to it.
    """
    arn = f"arn:aws:iam::{account}:service/{name}"
    return Principal(account=account, arn=arn, user_id=name, kind="service", name=name)


def anonymous_principal() -> Principal:
    """Whoever sends an unsigned request: only a resource policy that allows everyone lets it in."""
    return Principal(account="", arn="*", user_id=ANONYMOUS_ID, kind="anonymous", name="")


def session_principal(
    account: str, role_arn: str, role_id: str, session: str, *, issued: float = 0.0
) -> Principal:
    """A session of a role, as AssumeRole makes it."""
    name = role_arn.rsplit("/", 1)[-1]
    return Principal(
        account=account,
        arn=f"arn:aws:sts::{account}:assumed-role/{name}/{session}",
        user_id=f"{role_id}:{session}",
        kind="role",
        name=name,
        role_arn=role_arn,
        issued=issued,
    )
