"""Data capture of an endpoint: the rules of its configuration, and what DescribeEndpoint tells of it."""

from __future__ import annotations

from typing import Any

from clary.engine.call import Call
from clary.model.errors import ValidationException
from clary.model.s3_uris import parse_s3_uri
from clary.store.rows import Row


def capture_goes_to_s3(call: Call) -> None:
    """DataCaptureConfig: capture is enabled unless it says otherwise, and goes to an S3 prefix."""
    config = call.input.get("DataCaptureConfig")
    if not config:
        return
    config.setdefault("EnableCapture", True)
    parse_s3_uri(config["DestinationS3Uri"])
    types = config.get("CaptureContentTypeHeader") or {}
    both = set(types.get("CsvContentTypes") or ()) & set(types.get("JsonContentTypes") or ())
    if both:
        raise ValidationException(
            f"The content types {', '.join(sorted(both))} cannot be captured both as CSV and as JSON."
        )
    if any("ServerlessConfig" in variant for variant in call.input["ProductionVariants"]):
        raise ValidationException("Data capture is not supported for serverless endpoints.")


def capture_shown(row: Row) -> dict[str, Any] | None:
    """DataCaptureConfig of DescribeEndpoint; absent where the configuration has none."""
    target = row.state.get("live") or row.state.get("target") or {}
    config = target.get("capture")
    if not config:
        return None
    enabled = bool(config.get("EnableCapture", True))
    started = enabled and row.status not in ("Creating", "Failed", "Deleting")
    return {
        "EnableCapture": enabled,
        "CaptureStatus": "Started" if started else "Stopped",
        "CurrentSamplingPercentage": config["InitialSamplingPercentage"],
        "DestinationS3Uri": config["DestinationS3Uri"],
        "KmsKeyId": config.get("KmsKeyId", ""),  # a required member of the answer
    }
