"""What an endpoint's DataCaptureConfig says about which invocations are kept, and where."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from clary.model.s3_uris import parse_s3_uri


@dataclass(frozen=True, slots=True)
class CaptureSettings:
    bucket: str
    prefix: str  # of keys, without slashes at its ends
    percentage: int
    input: bool
    output: bool
    csv_types: frozenset[str]
    json_types: frozenset[str]

    @staticmethod
    def parse(entry: Mapping[str, Any] | None) -> CaptureSettings | None:
        """The settings of a route's entry, a DataCaptureConfig; None where nothing is captured."""
        if not entry or not entry.get("EnableCapture", True):
            return None
        bucket, prefix = parse_s3_uri(entry["DestinationS3Uri"])
        modes = {option["CaptureMode"] for option in entry["CaptureOptions"]}
        both = "InputAndOutput" in modes
        types = entry.get("CaptureContentTypeHeader") or {}
        return CaptureSettings(
            bucket=bucket,
            prefix=prefix.strip("/"),
            percentage=int(entry["InitialSamplingPercentage"]),
            input=both or "Input" in modes,
            output=both or "Output" in modes,
            csv_types=_types(types.get("CsvContentTypes")),
            json_types=_types(types.get("JsonContentTypes")),
        )

    def encoding(self, content_type: str) -> str:
        """How the data of a content type is written down; parameters such as charset do not matter."""
        kind = content_type.partition(";")[0].strip().lower()
        if kind in self.csv_types:
            return "CSV"
        return "JSON" if kind in self.json_types else "BASE64"


def _types(names: list[str] | None) -> frozenset[str]:
    return frozenset(name.partition(";")[0].strip().lower() for name in names or ())
