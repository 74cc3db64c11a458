"""The routing snapshot: which sockets serve which endpoint, in a file that outlives control."""

from __future__ import annotations

import threading
import uuid
from typing import Any

import orjson

from clary.engine.call import Parts
from clary.engine.host_specs import host_directory
from clary.resources.inference.endpoint_plan import host_keys, variant_of
from clary.store.rows import Query, Row

SERVING = ("InService", "Updating", "SystemUpdating", "RollingBack")
_PAGE = 1_000
_writing = threading.Lock()


def publish_routes(parts: Parts) -> None:
    """Write the snapshot anew; readers see the old file or the new one."""
    with _writing:
        endpoints = {f"{one.region}/{one.name}": route_of(one, parts) for one in _every(parts)}
        path = parts.settings.run / "routes.json"
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        fresh = path.with_name(f"routes-{uuid.uuid4().hex}.new")
        fresh.write_bytes(orjson.dumps({"endpoints": endpoints}))
        fresh.replace(path)


def route_of(row: Row, parts: Parts) -> dict[str, Any]:
    live = row.state.get("live") if row.status in SERVING else None
    ready = set(row.state.get("ready", []))
    variants: list[dict[str, Any]] = []
    for variant in (live or {"variants": []})["variants"]:
        keys = [
            key
            for key in host_keys(live)
            if variant_of(key)[0] == variant["VariantName"] and key in ready
        ]
        variants.append(
            {
                "name": variant["VariantName"],
                "weight": variant["weight"],
                "instances": [
                    {
                        "id": key,
                        "socket": str(host_directory(parts.settings, row, key) / "serve.sock"),
                    }
                    for key in keys
                ],
                "timeout_seconds": 60,
            }
        )
    return {
        "arn": row.arn,
        "account": row.account,
        "status": row.status,
        "config": (live or {}).get("config", ""),
        "variants": variants,
        "log_group": f"/aws/sagemaker/Endpoints/{row.name}",
    }


def _every(parts: Parts) -> list[Row]:
    """Endpoints of all regions, a page at a time."""
    found: list[Row] = []
    for region in parts.store.rows.regions("Endpoint"):
        query = Query("Endpoint", parts.settings.account, region, sort_by="name", limit=_PAGE)
        rows, after = parts.store.rows.page(query)
        while after is not None:
            found += rows
            query = Query(
                "Endpoint", parts.settings.account, region, sort_by="name", limit=_PAGE, after=after
            )
            rows, after = parts.store.rows.page(query)
        found += rows
    return found
