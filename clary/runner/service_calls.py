"""Signed calls to the JSON services beside S3: logs and metrics."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Any

from .connections import Pool, ProtocolFault
from .signing import Credentials, Signer, payload_hash

ANSWER_SECONDS = 30.0
THROTTLED = frozenset(
    ("ThrottlingException", "Throttling", "LimitExceededException", "RequestLimitExceeded")
)


class ServiceError(Exception):
    """The service's own no."""

    def __init__(self, status: int, code: str, message: str) -> None:
        self.status = status
        self.code = code
        super().__init__(f"{code} ({status}): {message}")


class Service:
    """One AWS JSON service at the endpoint; safe for several threads."""

    def __init__(
        self,
        endpoint_url: str,
        region: str,
        provider: Callable[[], Credentials],
        *,
        signing_name: str,
        target: str,
        version: str,
    ) -> None:
        self._pool = Pool(endpoint_url, answer_seconds=ANSWER_SECONDS)
        self._signer = Signer(region, signing_name)
        self._provider = provider
        self._target = target
        self._content_type = f"application/x-amz-json-{version}"

    def call(self, operation: str, document: Mapping[str, Any]) -> dict[str, Any]:
        """One attempt; raise ServiceError for a no, OSError where there was no answer."""
        body = json.dumps(document, ensure_ascii=False, separators=(",", ":")).encode("utf-8")
        credentials = self._provider()
        headers = self._signer.sign(
            credentials,
            "POST",
            "/",
            "",
            {"host": self._pool.authority, "x-amz-target": f"{self._target}.{operation}"},
            content_hash=payload_hash(body),
        )
        del headers["host"]
        headers["content-type"] = self._content_type
        answer = self._pool.exchange("POST", "/", headers, body)
        received = answer.read(bound=4 * 1024 * 1024)
        if answer.status == 200:
            return _document(received) if received.strip() else {}
        raise self._error(answer.status, received, credentials)

    def close(self) -> None:
        self._pool.close()

    def _error(self, status: int, received: bytes, used: Credentials) -> ServiceError:
        try:
            document = _document(received)
        except ProtocolFault:
            document = {}
        code = str(document.get("__type") or document.get("code") or "HTTPError")
        code = code.rpartition("#")[2].partition(":")[0]
        message = str(document.get("message") or document.get("Message") or "")
        forget = getattr(self._provider, "forget", None)
        if code.startswith("ExpiredToken") and forget is not None:
            forget(used)
        return ServiceError(status, code, message)


def _document(received: bytes) -> dict[str, Any]:
    try:
        document = json.loads(received)
    except ValueError as problem:
        raise ProtocolFault(f"the answer is not JSON: {problem}") from problem
    return document if isinstance(document, dict) else {}
