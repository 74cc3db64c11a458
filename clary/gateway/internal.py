"""Clary's own routes under /_clary/: health, the credentials of jobs, and the door's metrics. No SDK calls them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import orjson

from clary.identity.sealing import SealBroken
from clary.wire.http import Request, Response

JSON = {"Content-Type": "application/json"}


@dataclass(frozen=True)
class Internal:
    """`renew` opens a work token and issues credentials; `put_metrics` keeps a batch of the door's counters;
    `note_use` hears which serverless variants are in use.
    """

    renew: Callable[[str], dict[str, Any]]
    put_metrics: Callable[[list[dict[str, Any]]], None]
    note_use: Callable[[list[dict[str, str]]], None] = lambda used: None

    def handle(self, request: Request) -> Response:
        match (request.method, request.path):
            case ("GET", "/_clary/health"):
                return _answer({"status": "ok"})
            case ("GET", "/_clary/credentials"):
                return self._credentials(request)
            case ("POST", "/_clary/metrics"):
                self.put_metrics(orjson.loads(request.body))
                return _answer({})
            case ("POST", "/_clary/serverless"):
                self.note_use(orjson.loads(request.body))
                return _answer({})
            case _:
                return _answer({"message": f"{request.method} {request.path} is not here"}, 404)

    def _credentials(self, request: Request) -> Response:
        """As the container credentials provider of the AWS SDKs expects them."""
        try:
            issued = self.renew(request.headers.get("authorization", ""))
        except SealBroken as problem:
            return _answer({"code": "AccessDenied", "message": str(problem)}, 403)
        expires = datetime.fromtimestamp(issued["Expiration"], UTC)
        return _answer({**issued, "Expiration": expires.strftime("%Y-%m-%dT%H:%M:%SZ")})


def _answer(document: dict[str, Any], status: int = 200) -> Response:
    return Response(status, dict(JSON), orjson.dumps(document))
