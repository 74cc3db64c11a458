"""Telling a topic: a Publish to control, in the name of the endpoint."""

from __future__ import annotations

from urllib.parse import urlencode

from clary.dataplane.role_calls import RoleCalls
from clary.dataplane.upstream import UpstreamFailure

FORM = "application/x-www-form-urlencoded; charset=utf-8"


class Topics:
    def __init__(self, calls: RoleCalls) -> None:
        self._calls = calls

    async def publish(self, role_arn: str, work_arn: str, topic: str, message: str) -> str:
        """Empty if the topic was told, else why it never will be; raise UpstreamFailure to try later."""
        body = urlencode(
            {"Action": "Publish", "Version": "2010-03-31", "TopicArn": topic, "Message": message}
        ).encode()
        status, text = await self._calls.post(
            "sns",
            topic.split(":")[3],
            {"content-type": FORM},
            body,
            role_arn=role_arn,
            work_arn=work_arn,
        )
        if status >= 500 or status == 429:
            raise UpstreamFailure(f"control answered {status}")
        return "" if status < 300 else text[:512]
