"""Watches the alarms of deployments that are to go back when one of them goes off."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from typing import Any

from clary.engine.call import Call, Parts
from clary.identity.principals import service_principal
from clary.model.errors import ValidationException
from clary.resources.inference.endpoint_deployment import Deployment
from clary.resources.inference.endpoint_traffic import alarms_of
from clary.store.rows import Query, Row, RowChanged

log = logging.getLogger(__name__)

_PAGE = 200
ATTEMPTS_MAX = 5


def watch_deployments(parts: Parts, now: float) -> int:
    """Look at the alarms of each deployment and write down what they say; return how many there were."""
    looked = 0
    for row in _updating(parts):
        deployment = Deployment.of(row)
        if deployment is None or deployment.rollback or not deployment.alarms:
            continue
        alarmed = in_alarm(parts, row, deployment.alarms)
        looked += _note(parts, row.id, alarmed, now)
    if looked:
        parts.wake()
    return looked


def in_alarm(parts: Parts, row: Row, names: tuple[str, ...]) -> list[str]:
    """Those of the alarms that are in ALARM, in order."""
    found = described(parts, row.account, row.region, names)
    return [name for name in names if found.get(name) == "ALARM"]


def described(parts: Parts, account: str, region: str, names: tuple[str, ...]) -> dict[str, str]:
    """The states of alarms by name; those that do not exist are left out."""
    principal = service_principal(account, "sagemaker.amazonaws.com")
    answer = parts.call(
        "cloudwatch",
        "DescribeAlarms",
        {"AlarmNames": list(names), "AlarmTypes": ["MetricAlarm", "CompositeAlarm"]},
        principal=principal,
        region=region,
    )
    alarms = [*answer.get("MetricAlarms", []), *answer.get("CompositeAlarms", [])]
    return {one["AlarmName"]: one["StateValue"] for one in alarms}


def require_alarms(call: Call, config: dict[str, Any]) -> None:
    """An alarm that is not there would never go off; a misspelt name is told before the update."""
    names = alarms_of(config)
    if not names:
        return
    known = described(call.parts, call.account, call.region, names)
    missing = [name for name in names if name not in known]
    if missing:
        raise ValidationException(
            f"Could not find the CloudWatch alarms {', '.join(missing)} of the "
            "AutoRollbackConfiguration; create them before the update."
        )


def _note(parts: Parts, row_id: int, alarmed: list[str], now: float) -> bool:
    """The loop may write the row at the same time: read again, a bounded number of times."""
    for _ in range(ATTEMPTS_MAX):
        row = parts.store.rows.by_id(row_id)
        kept = row.state.get("deployment") if row is not None else None
        if row is None or not kept or kept.get("rollback"):
            return False
        row.state["deployment"] = {**kept, "checked": now, "alarmed": alarmed}
        row.due = now
        try:
            parts.store.rows.update(row, touch=False)
        except RowChanged:
            continue
        return True
    log.warning("the deployment of row %d is busy; its alarms are looked at again later", row_id)
    return False


def _updating(parts: Parts) -> Iterator[Row]:
    kinds = ("Endpoint", "InferenceComponent")
    places = [(kind, region) for kind in kinds for region in parts.store.rows.regions(kind)]
    for kind, region in places:
        after = None
        while True:
            query = Query(
                kind,
                parts.settings.account,
                region,
                status="Updating",
                sort_by="name",
                limit=_PAGE,
                after=after,
            )
            rows, after = parts.store.rows.page(query)
            yield from rows
            if after is None:
                break
