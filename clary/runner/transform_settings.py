"""How a batch transform is to be done: the spec's `transform`, and what the container itself asks for."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any, NamedTuple

from . import json_paths
from .data_processing import DataProcessing

CONCURRENCY_DEFAULT = 1
PAYLOAD_MEGABYTES_DEFAULT = 6
PAYLOAD_MEGABYTES_MAX = 100  # of one request, and of all that are under way at once
CONCURRENCY_MAX = 100
_STRATEGIES = {"MULTI_RECORD": "MultiRecord", "SINGLE_RECORD": "SingleRecord"}


class Capture(NamedTuple):
    uri: str
    kms_key_id: str


class Following(NamedTuple):
    """A container that goes on with the answer of the one before it."""

    name: str
    socket: str


class TransformSettings(NamedTuple):
    input_type: str  # S3Prefix | ManifestFile
    input_uri: str
    content_type: str  # empty where none is given; so is accept
    compression: str  # None | Gzip
    split: str  # None | Line | RecordIO | TFRecord
    output_uri: str
    accept: str
    assemble: str  # None | Line
    kms_key_id: str
    strategy: str  # empty where the container may choose
    payload_megabytes: int | None  # so may it these two; 0 streams
    concurrency: int | None
    timeout_seconds: float
    retries: int
    processing: DataProcessing
    capture: Capture | None
    started: float  # when the job was made, for its manifests and inference ids
    container: str = ""  # the name of this host's own, where others follow
    following: tuple[Following, ...] = ()


class Tuning(NamedTuple):
    """What the job runs with."""

    concurrency: int
    payload_megabytes: int  # 0: an object is one request of any length
    strategy: str

    @property
    def shown(self) -> str:
        strategy = "SINGLE_RECORD" if self.strategy == "SingleRecord" else "MULTI_RECORD"
        return (
            f"MaxConcurrentTransforms={self.concurrency}, "
            f"MaxPayloadInMB={self.payload_megabytes}, BatchStrategy={strategy}"
        )


def parse(document: Mapping[str, Any]) -> TransformSettings:
    """Read the member `transform` of a host spec; raise KeyError or JsonPathError for what is amiss."""
    source, target = document["input"], document["output"]
    processing = document.get("processing") or {}
    capture = document.get("capture")
    started = float(document["started"])
    with_ids = bool(capture and capture.get("inference_id"))
    return TransformSettings(
        input_type=source["type"],
        input_uri=source["uri"],
        content_type=source.get("content_type") or "",
        compression=source.get("compression") or "None",
        split=source.get("split") or "None",
        output_uri=target["uri"],
        accept=target.get("accept") or "",
        assemble=target.get("assemble") or "None",
        kms_key_id=target.get("kms_key_id") or "",
        strategy=document.get("strategy") or "",
        payload_megabytes=document.get("payload_megabytes"),
        concurrency=document.get("concurrency") or None,
        timeout_seconds=float(document.get("timeout_seconds") or 600),
        retries=int(document.get("retries", 3)),
        processing=DataProcessing(
            input_filter=json_paths.parse(processing.get("input_filter") or "$"),
            joins=bool(processing.get("joins")),
            output_filter=json_paths.parse(processing.get("output_filter") or "$"),
            inference_time=time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(started))
            if with_ids
            else "",
        ),
        capture=Capture(capture["uri"], capture.get("kms_key_id") or "") if capture else None,
        started=started,
        container=document.get("container") or "",
        following=tuple(
            Following(one["name"], one["socket"]) for one in document.get("following") or ()
        ),
    )


def tune(settings: TransformSettings, asked: Mapping[str, Any]) -> Tuning:
    """The request comes first, then the container's /execution-parameters, then the defaults.

    Where the product of both sizes is above what CreateTransformJob allows, the one that the
    request did not give gives way.
    """
    strategy = settings.strategy or _STRATEGIES.get(str(asked.get("BatchStrategy")), "MultiRecord")
    payload = settings.payload_megabytes
    if payload is None:
        wanted = _whole(asked.get("MaxPayloadInMB"), PAYLOAD_MEGABYTES_DEFAULT, 0)
        payload = min(wanted, PAYLOAD_MEGABYTES_MAX)
    concurrency = settings.concurrency or _whole(
        asked.get("MaxConcurrentTransforms"), CONCURRENCY_DEFAULT, 1
    )
    concurrency = min(concurrency, CONCURRENCY_MAX)
    if concurrency * payload > PAYLOAD_MEGABYTES_MAX:
        if settings.payload_megabytes is None and settings.concurrency is not None:
            payload = max(1, PAYLOAD_MEGABYTES_MAX // concurrency)
        else:
            concurrency = max(1, PAYLOAD_MEGABYTES_MAX // payload)
    return Tuning(concurrency, payload, strategy)


def _whole(value: Any, default: int, least: int) -> int:
    """A container's number; one that makes no sense counts as not given."""
    if isinstance(value, bool) or not isinstance(value, int) or value < least:
        return default
    return value
