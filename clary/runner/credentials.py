"""Temporary credentials of the job's role or of the service, renewed before they expire."""

from __future__ import annotations

import json
import math
import threading
import time
from collections.abc import Callable, Mapping
from datetime import datetime, timezone
from typing import Any

from .connections import Pool, ProtocolFault
from .signing import Credentials
from .spec import HostSpec

RENEW_SECONDS = 300.0  # before expiry, as the AWS SDKs do
RETRY_SECONDS = 5.0


class NoCredentials(OSError):
    """There are no valid credentials, and none can be had."""


class Provider:
    """Called, it gives valid credentials; one thread renews them while the others go on."""

    def __init__(
        self, spec: HostSpec, which: str, *, clock: Callable[[], float] = time.time
    ) -> None:
        self._which = which
        self._token = spec.tokens.get(which, "")
        self._clock = clock
        self._lock = threading.Lock()
        self._next_try = 0.0
        self._pool, self._target = _split(spec.credentials_url)
        given = spec.credentials.get(which)
        self._current = parse(given) if given else None

    def __call__(self) -> Credentials:
        current = self._current
        now = self._clock()
        if current is not None and now < current.expires - RENEW_SECONDS:
            return current
        usable = current is not None and now < current.expires
        if usable and now < self._next_try:
            return current  # type: ignore[return-value]
        if not self._lock.acquire(blocking=not usable):
            return current  # type: ignore[return-value]
        try:
            return self._renew()
        finally:
            self._lock.release()

    def forget(self, used: Credentials) -> None:
        """The server calls `used` expired (its clock, or a restart): renew at the next call."""
        with self._lock:
            if self._current == used and self._pool is not None:
                self._current = used._replace(expires=0.0)

    def _renew(self) -> Credentials:
        current = self._current
        now = self._clock()
        if current is not None and now < current.expires - RENEW_SECONDS:
            return current  # another thread was quicker
        try:
            self._current = self._fetch()
        except OSError as problem:
            self._next_try = now + RETRY_SECONDS
            if current is not None and now < current.expires:
                return current
            raise NoCredentials(f"credentials of the {self._which}: {problem}") from problem
        return self._current

    def _fetch(self) -> Credentials:
        if self._pool is None or not self._token:
            raise NoCredentials("expired, and there is no address to renew them at")
        try:
            answer = self._pool.exchange("GET", self._target, {"authorization": self._token})
            body = answer.read(bound=64 * 1024)
        finally:
            self._pool.close()  # the next renewal is far off
        if answer.status != 200:
            raise NoCredentials(f"renewal was answered with status {answer.status}")
        try:
            return parse(json.loads(body))
        except ValueError as problem:
            raise ProtocolFault(f"renewal was answered with something else: {problem}") from problem


def parse(document: Mapping[str, Any]) -> Credentials:
    """Read the container-credentials JSON; raise ValueError where it is not that."""
    try:
        return Credentials(
            access_key=document["AccessKeyId"],
            secret_key=document["SecretAccessKey"],
            token=document.get("Token") or "",
            expires=_seconds(document.get("Expiration")),
        )
    except (KeyError, TypeError, AttributeError) as problem:
        raise ValueError(f"credentials lack {problem}") from problem


def _seconds(expiration: Any) -> float:
    if expiration is None or expiration == "":
        return math.inf
    if isinstance(expiration, (int, float)):
        return float(expiration)
    moment = datetime.fromisoformat(expiration.replace("Z", "+00:00"))
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=timezone.utc)  # noqa: UP017 - datetime.UTC is of 3.11
    return moment.timestamp()


def _split(url: str) -> tuple[Pool | None, str]:
    if not url:
        return None, ""
    _, _, rest = url.partition("://")
    return Pool(url, answer_seconds=10.0), "/" + rest.partition("/")[2]
