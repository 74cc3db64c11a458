"""Signed calls to control in the name of an endpoint, with credentials of the endpoint's own role."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Protocol

from clary.dataplane.forwarding import ControlLink
from clary.wire.http import Request
from clary.wire.sigv4 import sign

CREDENTIALS_SECONDS = 1800.0
KNOWN_MAX = 1024
ANSWER_BYTES_MAX = 64 * 1024
ANSWER_SECONDS = 10.0


class Roles(Protocol):
    """What the identity layer knows of the roles that endpoints have."""

    def credentials(self, role_arn: str, work_arn: str) -> dict[str, str]:
        """AccessKeyId, SecretAccessKey and Token of a session; raise an ApiError if it is gone."""
        ...

    def permits(self, role_arn: str, action: str, resource: str) -> bool: ...


class RoleCalls:
    """Asks services of control; remembers the credentials of each role for a while."""

    def __init__(self, control: ControlLink, roles: Roles) -> None:
        self._control = control
        self._roles = roles
        self._known: dict[tuple[str, str], tuple[float, dict[str, str]]] = {}

    async def post(
        self,
        service: str,
        region: str,
        headers: Mapping[str, str],
        body: bytes,
        *,
        role_arn: str,
        work_arn: str,
    ) -> tuple[int, str]:
        """Status and body of the answer; raise UpstreamFailure, or an ApiError if the role is gone."""
        headers = {"host": f"{service}.{region}.amazonaws.com", **headers}
        keys = self._credentials(role_arn, work_arn)
        headers |= sign(
            Request("POST", "/", "", headers, body),
            access_key=keys["AccessKeyId"],
            secret=keys["SecretAccessKey"],
            token=keys["Token"],
            region=region,
            service=service,
            now=time.time(),
        )
        lines = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
        head = f"POST / HTTP/1.1\r\n{lines}content-length: {len(body)}\r\n\r\n".encode()
        answer = await self._control.pool.send([head, body], seconds=ANSWER_SECONDS)
        status = await answer.head()
        content = await answer.read(ANSWER_BYTES_MAX)
        return status, (content or b"").decode("utf-8", "replace")

    def _credentials(self, role_arn: str, work_arn: str) -> dict[str, str]:
        until, keys = self._known.get((role_arn, work_arn), (0.0, {}))
        if time.monotonic() >= until:
            keys = self._roles.credentials(role_arn, work_arn)
            if len(self._known) >= KNOWN_MAX:
                self._known.clear()
            self._known[role_arn, work_arn] = (time.monotonic() + CREDENTIALS_SECONDS, keys)
        return keys
