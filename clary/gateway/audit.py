"""The audit trail: one JSON line per call, in a file per day, written off the request's path."""

from __future__ import annotations

import logging
import queue
import threading
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import orjson

from clary.gateway.exchange import Exchange

log = logging.getLogger(__name__)

QUEUE_RECORDS_MAX = 50_000
_READS = ("Describe", "List", "Get", "Search", "Query", "Batch", "Head", "Filter")
_SECRETS = ("password", "secret", "token", "hyperparameters", "environment", "plaintext")


class Trail:
    """Records wait in a bounded queue; when it is full the caller waits, since a call must not go unrecorded."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._queue: queue.Queue[dict[str, Any] | None] = queue.Queue(QUEUE_RECORDS_MAX)
        self._thread = threading.Thread(target=self._write, name="audit", daemon=True)
        self._thread.start()

    def record(self, exchange: Exchange) -> None:
        if exchange.principal is not None and exchange.operation is not None:
            self._queue.put(audit_record(exchange))

    def close(self) -> None:
        self._queue.put(None)
        self._thread.join(timeout=10)

    def _write(self) -> None:
        ended = False
        while not ended:
            records = [self._queue.get()]
            while len(records) < 1_000 and not self._queue.empty():
                records.append(self._queue.get_nowait())
            ended = None in records
            try:
                self._append([record for record in records if record is not None])
            except OSError:
                log.exception(
                    "the audit trail could not be written; is the disk of %s full?", self._folder
                )

    def _append(self, records: list[dict[str, Any]]) -> None:
        by_day: dict[str, list[bytes]] = {}
        for record in records:
            by_day.setdefault(record["eventTime"][:10], []).append(
                orjson.dumps(record, default=str)
            )
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
        "eventTime": datetime.fromtimestamp(exchange.time, UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
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
        record["errorMessage"] = exchange.error.message
    return record


def _told(members: dict[str, Any]) -> dict[str, Any]:
    """Members in lower camel case; what may hold a secret is redacted, bodies are left out."""
    told: dict[str, Any] = {}
    for name, value in members.items():
        key = name[:1].lower() + name[1:]
        if any(word in name.lower() for word in _SECRETS):
            told[key] = "***"
        elif isinstance(value, bytes):
            told[key] = f"({len(value)} bytes)"
        elif isinstance(value, dict):
            told[key] = _told(value)  # pyright: ignore[reportUnknownArgumentType]
        else:
            told[key] = value
    return told
