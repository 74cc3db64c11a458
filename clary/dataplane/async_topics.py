"""Telling a topic: a signed Publish to control, with credentials of the endpoint's own role."""

from __future__ import annotations

import time
from typing import Protocol
from urllib.parse import urlencode

from clary.dataplane.forwarding import ControlLink
from clary.dataplane.upstream import UpstreamFailure
from clary.wire.http import Request
from clary.wire.sigv4 import sign

FORM = "application/x-www-form-urlencoded; charset=utf-8"
CREDENTIALS_SECONDS = 1800.0


class Roles(Protocol):
    """What the identity layer knows of the roles that endpoints have."""

    def credentials(self, role_arn: str, work_arn: str) -> dict[str, str]:
        """AccessKeyId, SecretAccessKey and Token of a session; raise an ApiError if it is gone."""
        ...

    def permits(self, role_arn: str, action: str, resource: str) -> bool: ...


class Topics:
    """Publishes; remembers the credentials of each role for a while."""

    def __init__(self, control: ControlLink, roles: Roles) -> None:
        self._control = control
        self._roles = roles
        self._known: dict[str, tuple[float, dict[str, str]]] = {}

    async def publish(self, role_arn: str, work_arn: str, topic: str, message: str) -> str:
        """Empty if the topic was told, else why it never will be; raise UpstreamFailure to try later."""
        region = topic.split(":")[3]
        body = urlencode(
            {"Action": "Publish", "Version": "2010-03-31", "TopicArn": topic, "Message": message}
        ).encode()
        headers = {"host": f"sns.{region}.amazonaws.com", "content-type": FORM}
        keys = self._credentials(role_arn, work_arn)
        headers |= sign(
            Request("POST", "/", "", headers, body),
            access_key=keys["AccessKeyId"],
            secret=keys["SecretAccessKey"],
            token=keys["Token"],
            region=region,
            service="sns",
            now=time.time(),
        )
        lines = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
        head = f"POST / HTTP/1.1\r\n{lines}content-length: {len(body)}\r\n\r\n".encode()
        answer = await self._control.pool.send([head, body], seconds=10.0)
        status = await answer.head()
        text = (await answer.read(64 * 1024) or b"").decode("utf-8", "replace")
        if status >= 500 or status == 429:
            raise UpstreamFailure(f"control answered {status}")
        return "" if status < 300 else text[:512]

    def _credentials(self, role_arn: str, work_arn: str) -> dict[str, str]:
        until, keys = self._known.get(role_arn, (0.0, {}))
        if time.monotonic() >= until:
            keys = self._roles.credentials(role_arn, work_arn)
            if len(self._known) >= 1024:
                self._known.clear()
            self._known[role_arn] = (time.monotonic() + CREDENTIALS_SECONDS, keys)
        return keys
