"""Warm pools: what an ended job leaves for the next of the same kind, for as long as it asked to.

    InUse ── job ends ──▶ Available ──▶ Reused       the next matching job took it
                              └──────▶ Terminated    its time is over, or it was released

The hosts' directories stay until then. The next job's hosts take over the persistent cache that
SageMaker mounts at /opt/ml/sagemaker/warmpoolcache; the environment's fork server is warm anyway.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from clary.engine.call import Call, Parts
from clary.engine.host_specs import host_directory
from clary.model.errors import ValidationException
from clary.reconcile.decisions import Become, Decision, Wait
from clary.reconcile.outcomes import Verdict
from clary.store.rows import Query, Row, RowChanged, RowExists

CACHE = "ml/sagemaker/warmpoolcache"
KEEP_SECONDS_MAX = 3_600
HANDOVER_SECONDS = 600.0  # in which the next job has to begin to find the cache
POOLS_MAX = 1_000
POOL = "WarmPool"  # rows of jobs that keep one, or will
_SAME = ("RoleArn", "VpcConfig", "EnableNetworkIsolation", "EnableInterContainerTrafficEncryption")
_SAME_RESOURCES = ("InstanceType", "InstanceCount", "VolumeSizeInGB", "VolumeKmsKeyId")


def pool_is_possible(call: Call) -> None:
    config = call.input["ResourceConfig"]
    seconds = config.get("KeepAlivePeriodInSeconds")
    if not seconds:
        return
    if seconds > KEEP_SECONDS_MAX:
        raise ValidationException(
            f"KeepAlivePeriodInSeconds must be at most {KEEP_SECONDS_MAX}, and is {seconds}."
        )
    if call.input.get("EnableManagedSpotTraining"):
        raise ValidationException(
            "KeepAlivePeriodInSeconds is not supported with managed spot training; set "
            "EnableManagedSpotTraining to false or leave out the keep-alive period."
        )
    if config.get("InstanceGroups"):
        raise ValidationException(
            "KeepAlivePeriodInSeconds is not supported with InstanceGroups; give InstanceType and "
            "InstanceCount."
        )


def seconds_kept(row: Row) -> int:
    return int(row.document["ResourceConfig"].get("KeepAlivePeriodInSeconds") or 0)


def after_the_end(row: Row, verdict: Verdict) -> dict[str, Any]:
    """The pool's status when its job ends; a failure of the platform retains nothing."""
    if not row.document.get("WarmPoolStatus"):
        return {}
    if not seconds_kept(row):
        return {"WarmPoolStatus": _terminated(0.0)}  # released while the job ran
    if verdict.internal or not verdict.started:
        return {"WarmPoolStatus": _terminated(0.0)}
    return {"WarmPoolStatus": {"Status": "Available", "ResourceRetainedBillableTimeInSeconds": 0}}


def afterwards(row: Row, now: float) -> Sequence[Decision] | None:
    """Part of the plan of an ended job; None once nothing is retained."""
    pool = row.document.get("WarmPoolStatus") or {}
    if pool.get("Status") == "Available":
        ended = float(row.document.get("TrainingEndTime") or row.modified)
        until = ended + seconds_kept(row)
        if now < until:
            return [Wait(until - now)]
        return [Become(fields={"WarmPoolStatus": _terminated(min(now, until) - ended)}), Wait(0.0)]
    taken = float(row.state.get("pool_taken") or 0.0)
    if pool.get("Status") == "Reused" and row.state.get("hosts"):
        left = taken + HANDOVER_SECONDS - now
        return [Wait(left)] if left > 0 else None
    return None


def open_pool(call: Call, row: Row) -> None:
    """Remember that this job will leave a pool, so that looking for one does not mean reading every job."""
    pool = Row(POOL, row.name, f"{row.arn}#warm-pool", row.account, row.region)
    with contextlib.suppress(RowExists):
        call.parts.store.rows.insert(pool)


def take(call: Call, row: Row) -> dict[str, Any]:
    """Take an available pool that matches a new job; returns what the new job remembers of it."""
    rows = call.parts.store.rows
    asked = Query(POOL, row.account, row.region, limit=POOLS_MAX)
    for pool in rows.page(asked)[0]:
        found = rows.get(row.kind, pool.name, account=row.account, region=row.region)
        status = (found.document.get("WarmPoolStatus") or {}).get("Status") if found else ""
        if found is None or status in ("Reused", "Terminated"):
            with contextlib.suppress(RowChanged):
                rows.delete(pool)
        elif _matches(found, row, call.time) and _taken(call, found, row):
            return {"pool": {"row": found.id, "hosts": found.state.get("hosts", {})}}
    return {}


def _taken(call: Call, found: Row, row: Row) -> bool:
    """False where another job was quicker, or the pool's time was over."""
    ended = float(found.document.get("TrainingEndTime") or found.modified)
    found.document["WarmPoolStatus"] = {
        "Status": "Reused",
        "ReusedByJob": row.name,
        "ResourceRetainedBillableTimeInSeconds": math.ceil(max(0.0, call.time - ended)),
    }
    found.state["pool_taken"] = call.time
    found.due = call.time
    try:
        call.parts.store.rows.update(found)
    except RowChanged:
        return False
    return True


def _matches(found: Row, row: Row, now: float) -> bool:
    pool = found.document.get("WarmPoolStatus") or {}
    ended = float(found.document.get("TrainingEndTime") or found.modified)
    if pool.get("Status") != "Available" or now >= ended + seconds_kept(found):
        return False
    resources, wanted = found.document["ResourceConfig"], row.document["ResourceConfig"]
    return _are_same(found.document, row.document, _SAME) and _are_same(
        resources, wanted, _SAME_RESOURCES
    )


def _are_same(one: dict[str, Any], other: dict[str, Any], members: tuple[str, ...]) -> bool:
    """An absent switch is one that is off."""
    return all((one.get(name) or None) == (other.get(name) or None) for name in members)


def bring_cache(row: Row, keys: tuple[str, ...], parts: Parts) -> None:
    """Move the cache of the pool's hosts to the new job's, before these start; once moved there is nothing to do."""
    pool = row.state.get("pool")
    if not pool:
        return
    former = Row(row.kind, "", "", state={"hosts": pool["hosts"]}, id=pool["row"])
    for key in keys:
        source = host_directory(parts.settings, former, key) / CACHE
        target = host_directory(parts.settings, row, key) / CACHE
        if source.is_dir() and not source.is_symlink() and not target.exists():
            _make_private(target.parent, parts.settings.home)
            source.rename(target)


def _make_private(directory: Path, home: Path) -> None:
    """Folders of a work are their owner's alone, from the first on."""
    for parent in reversed([directory, *directory.parents]):
        if home in parent.parents:
            parent.mkdir(mode=0o700, exist_ok=True)


def change(row: Row, seconds: int, now: float) -> None:
    """UpdateTrainingJob with another keep-alive period; zero releases what is retained."""
    if seconds > KEEP_SECONDS_MAX:
        raise ValidationException(
            f"KeepAlivePeriodInSeconds must be at most {KEEP_SECONDS_MAX}, and is {seconds}."
        )
    pool = row.document.get("WarmPoolStatus") or {}
    if seconds and not seconds_kept(row):
        raise ValidationException(
            f"The training job {row.name} was created without a warm pool, so it cannot be given "
            "a KeepAlivePeriodInSeconds."
        )
    config = {**row.document["ResourceConfig"], "KeepAlivePeriodInSeconds": seconds}
    row.document["ResourceConfig"] = config
    if pool.get("Status") == "Available":
        row.due = now
        if not seconds:
            ended = float(row.document.get("TrainingEndTime") or row.modified)
            row.document["WarmPoolStatus"] = _terminated(now - ended)


def _terminated(seconds: float) -> dict[str, Any]:
    kept = math.ceil(max(0.0, seconds))
    return {"Status": "Terminated", "ResourceRetainedBillableTimeInSeconds": kept}
