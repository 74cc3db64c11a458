"""What the execution role of an endpoint may do, for the work that the door does in its name."""

from __future__ import annotations

from collections.abc import Callable

from clary.identity.authorise import Authoriser
from clary.identity.principals import session_principal
from clary.identity.sealing import SealBroken
from clary.identity.sessions import WorkClaims
from clary.identity.work_credentials import SESSION_NAME, work_credentials
from clary.model.errors import AccessDeniedException
from clary.store.database import Store

CREDENTIALS_SECONDS = 3600.0


class EndpointRoles:
    def __init__(
        self,
        store: Store,
        account: str,
        install_key: bytes,
        authoriser: Authoriser,
        clock: Callable[[], float],
    ) -> None:
        self._store = store
        self._account = account
        self._install_key = install_key
        self._authoriser = authoriser
        self._clock = clock

    def credentials(self, role_arn: str, work_arn: str) -> dict[str, str]:
        """AccessKeyId, SecretAccessKey and Token of a session; AccessDenied if the role is gone."""
        now = self._clock()
        claims = WorkClaims(role_arn, work_arn, now + CREDENTIALS_SECONDS)
        try:
            return work_credentials(self._store, self._account, self._install_key, claims, now=now)
        except SealBroken as problem:
            raise AccessDeniedException(str(problem)) from problem

    def permits(self, role_arn: str, action: str, resource: str) -> bool:
        role = self._authoriser.role(role_arn)
        if role is None:
            return False
        principal = session_principal(
            self._account, role.arn, role.document["RoleId"], SESSION_NAME
        )
        return self._authoriser.allows(principal, action, resource).allowed
