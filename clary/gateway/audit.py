"""The audit trail: one JSON line per call, in a file per day, written off the request's path."""

from __future__ import annotations

import json
import logging
import re
import threading
import time
from collections import deque
from functools import lru_cache
from pathlib import Path
from typing import Any

import orjson

from clary.gateway.exchange import Exchange

log = logging.getLogger(__name__)

WAITING_RECORDS_MAX = 5_000
FLUSH_SECONDS = 0.2
_READS = ("Describe", "List", "Get", "Search", "Query", "Batch", "Head", "Filter")
_SECRETS = (
    "password",
    "secret",
    "token",
    "hyperparameters",
    "environment",
    "plaintext",
    "authorizedurl",
)
# What callers ship in bulk has its own place; the trail tells how much it was.
_BULK = ("logEvents", "MetricData", "Records")
_QUOTED = re.compile(r"Value '.*?' at '", re.DOTALL)


class Trail:
    """Records wait for a moment and are written together: waking a thread for each would cost every call.

    What waits is bounded: a caller who finds too much of it writes it himself.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        # A queue rather than a list that is exchanged: a record that is just being added is never lost.
        self._waiting: deque[dict[str, Any]] = deque()
        self._guard = threading.Lock()
        self._closing = threading.Event()
        self._thread = threading.Thread(target=self._run, name="audit", daemon=True)
        self._thread.start()

    def record(self, exchange: Exchange) -> None:
        if exchange.principal is None or exchange.operation is None:
            return
        self._waiting.append(audit_record(exchange))
        if len(self._waiting) >= WAITING_RECORDS_MAX:
            self._flush()

    def close(self) -> None:
        self._closing.set()
        self._thread.join(timeout=10)

    def _run(self) -> None:
        while not self._closing.wait(FLUSH_SECONDS):
            self._flush()
        self._flush()

    def _flush(self) -> None:
        with self._guard:
            records = [self._waiting.popleft() for _ in range(len(self._waiting))]
            if not records:
                return
            try:
                self._append(records)
            except OSError:
                log.exception(
                    "%d calls are missing in the audit trail; is the disk of %s full?",
                    len(records),
                    self._folder,
                )

    def _append(self, records: list[dict[str, Any]]) -> None:
        by_day: dict[str, list[bytes]] = {}
        for record in records:
            by_day.setdefault(record["eventTime"][:10], []).append(_line(record))
        for day, lines in by_day.items():
            self._folder.mkdir(parents=True, exist_ok=True, mode=0o700)
            with (self._folder / f"{day}.jsonl").open("ab") as file:
                file.write(b"\n".join(lines) + b"\n")


def audit_record(exchange: Exchange) -> dict[str, Any]:
    """A call in CloudTrail's record format; secrets are left out."""
    principal, operation = exchange.principal, exchange.operation
    assert principal is not None and operation is not None
    is_read = operation.name.startswith(_READS)
    record: dict[str, Any] = {
        "eventVersion": "1.08",
        "userIdentity": {
            "type": "AssumedRole" if principal.role_arn else "IAMUser",
            "principalId": principal.user_id,
            "arn": principal.arn,
            "accountId": principal.account,
            "accessKeyId": principal.access_key,
        },
        "eventTime": _iso(int(exchange.time)),
        "eventSource": f"{exchange.service}.amazonaws.com",
        "eventName": operation.name,
        "awsRegion": exchange.region,
        "sourceIPAddress": exchange.request.peer,
        "userAgent": exchange.request.headers.get("user-agent", ""),
        "requestParameters": _told(exchange.input),
        "responseElements": None if is_read or exchange.error else _told(exchange.output),
        "requestID": exchange.request_id,
        "readOnly": is_read,
        "eventType": "AwsApiCall",
        "managementEvent": True,
        "recipientAccountId": exchange.account,
        "eventCategory": "Management",
    }
    if exchange.error is not None:
        record["errorCode"] = exchange.error.code
        # Validation repeats the value that it rejects, which may be a secret.
        record["errorMessage"] = _QUOTED.sub("Value at '", exchange.error.message)
    return record


@lru_cache(16)
def _iso(epoch: int) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(epoch))


def _line(record: dict[str, Any]) -> bytes:
    try:
        return orjson.dumps(record, default=str)
    except TypeError:
        # Numbers beyond 64 bits and broken surrogates, which callers can send and orjson cannot write.
        return json.dumps(record, default=str).encode()


def _told(members: dict[str, Any]) -> dict[str, Any]:
    """Members in lower camel case; what may hold a secret is redacted, bodies are left out."""
    told: dict[str, Any] = {}
    for name, value in members.items():
        key, is_secret = _spelt(name)
        if is_secret:
            told[key] = "***"
        elif name in _BULK and isinstance(value, list):
            told[key] = f"({len(value)} items)"  # pyright: ignore[reportUnknownArgumentType]
        else:
            told[key] = _value(value)
    return told


@lru_cache(4096)
def _spelt(name: str) -> tuple[str, bool]:
    """A member's name in lower camel case, and whether what it holds may be a secret."""
    folded = name.lower()
    return name[:1].lower() + name[1:], any(word in folded for word in _SECRETS)


def _value(value: Any) -> Any:
    if isinstance(value, str):
        return value
    if isinstance(value, bytes):
        return f"({len(value)} bytes)"
    if isinstance(value, dict):
        return _told(value)  # pyright: ignore[reportUnknownArgumentType]
    if isinstance(value, list):
        return [_value(one) for one in value]  # pyright: ignore[reportUnknownVariableType]
    return value
