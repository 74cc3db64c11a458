"""The routing snapshot: which sockets serve which endpoint, in a file that outlives control."""

from __future__ import annotations

import threading
import uuid
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import orjson

from clary.engine.call import Parts
from clary.engine.host_specs import host_directory
from clary.resources.inference.endpoint_fleets import (
    SERVING,
    ServingVariant,
    serving_variants,
    shadowing_variants,
)
from clary.resources.inference.endpoint_hosts import adapter_of, containers_of, instance_of
from clary.resources.inference.endpoint_launch import (
    has_models_folder,
    instance_id,
    models_folder,
)
from clary.store.rows import Query, Row

_PAGE = 1_000
_writing = threading.Lock()
Entry = dict[str, Any]  # of the snapshot


Changes = Mapping[int, Row | None]  # by row id, what is about to be stored; None: it goes


def publish_routes(parts: Parts) -> None:
    """Write the snapshot anew, as it is stored."""
    with _writing:
        _write(parts, {})


@contextmanager
def publishing_routes(parts: Parts, upcoming: Changes) -> Iterator[None]:
    """Tell of changes just before they are committed within: whoever reads a status meets its routes.

    Where the commit fails, the snapshot is again what is stored. Nobody else writes it in between.
    """
    with _writing:
        _write(parts, upcoming)
        try:
            yield
        except BaseException:
            _write(parts, {})
            raise


def _write(parts: Parts, upcoming: Changes) -> None:
    """Readers see the old file or the new one."""
    copies = _components(parts, upcoming)
    endpoints = {
        f"{one.region}/{one.name}": {**route_of(one, parts), **copies.get(one.arn, {})}
        for one in _with(upcoming, _every(parts))
    }
    path = parts.settings.run / "routes.json"
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    fresh = path.with_name(f"routes-{uuid.uuid4().hex}.new")
    fresh.write_bytes(orjson.dumps({"endpoints": endpoints}))
    fresh.replace(path)


def _with(upcoming: Changes, stored: Iterable[Row]) -> list[Row]:
    rows = [upcoming.get(one.id, one) for one in stored]
    return [one for one in rows if one is not None]


def route_of(row: Row, parts: Parts) -> dict[str, Any]:
    live = row.state.get("live") if row.status in SERVING else None
    return {
        "arn": row.arn,
        "account": row.account,
        "status": row.status,
        "config": (live or {}).get("config", ""),
        "variants": [_variant(row, one, parts) for one in serving_variants(row)],
        "shadows": [_variant(row, one, parts) for one in shadowing_variants(row)],
        "log_group": f"/aws/sagemaker/Endpoints/{row.name}",
        "hosts_components": any(one.get("components") for one in (live or {}).get("variants", ())),
        # An endpoint that is made again under its name has another queue.
        "id": str(int(row.created * 1e6)),
        "role": _role(live),
        "capture": (live or {}).get("capture"),
        "explainer": (live or {}).get("explainer"),
        "async": (live or row.state.get("target") or {}).get("async"),
    }


def _variant(row: Row, serving: ServingVariant, parts: Parts) -> dict[str, Any]:
    return {
        "name": serving.variant["VariantName"],
        "weight": serving.weight,
        "instances": [_instance(row, serving, keys, parts) for keys in serving.instances],
        "timeout_seconds": 60,
        "serverless": serving.variant.get("ServerlessConfig"),
        "execution": serving.variant.get("execution", ""),
        "multi_model": serving.variant.get("multi_model"),
        "pipelined_workers": serving.variant.get("pipelined_workers", 0),
    }


def _role(live: dict[str, Any] | None) -> str:
    variants = (live or {}).get("variants") or [{}]
    return variants[0].get("role", "")


def _instance(row: Row, serving: ServingVariant, keys: tuple[str, ...], parts: Parts) -> Entry:
    """An instance is known by its first container; the door chains or chooses among several."""
    sockets = [str(host_directory(parts.settings, row, key) / "serve.sock") for key in keys]
    found: Entry = {
        "id": instance_of(keys[0]),
        "socket": sockets[0],
        "log_id": instance_id(row, keys[0]),
    }
    containers = containers_of(serving.variant)
    if has_models_folder(row, serving.variant):
        found["models"] = str(models_folder(row, keys[0], parts))
    if len(keys) > 1:
        found["containers"] = [
            _container(row, one, key, socket, parts)
            for one, key, socket in zip(containers, keys, sockets, strict=True)
        ]
    return found


def _container(
    row: Row, container: Mapping[str, Any], key: str, socket: str, parts: Parts
) -> Entry:
    """One of several; a multi-model one also says where its models come from and go to."""
    found: Entry = {
        "name": container["name"],
        "socket": socket,
        "pipelined_workers": container["pipelined_workers"],
    }
    if "multi_model" in container:
        models = str(models_folder(row, key, parts))
        found |= {"multi_model": container["multi_model"], "models": models}
    return found


def _components(parts: Parts, upcoming: Changes) -> dict[str, Entry]:
    """By the ARN of their endpoint: the copies of each inference component."""
    found: dict[str, Entry] = {}
    adapters: list[tuple[Entry, str, dict[str, Any]]] = []
    for region in parts.store.rows.regions("InferenceComponent"):
        where = {"account": parts.settings.account, "region": region}
        for row in _with(upcoming, parts.store.rows.every("InferenceComponent", **where)):
            known = found.setdefault(row.state["endpoint"], {"components": {}})
            fleets = [_variant(row, one, parts) for one in serving_variants(row)]
            adapter = adapter_of(row)
            if adapter is None:
                known["components"][row.name] = fleets
            elif row.status in SERVING:
                adapters.append((known["components"], row.name, adapter))
    for components, name, adapter in adapters:
        # An adapter is asked on the copies of its base.
        fleets = components.get(adapter["base"], [])
        components[name] = [{**fleet, "adapter": adapter} for fleet in fleets]
    return found


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
