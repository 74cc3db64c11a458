"""What /execution-parameters says: how a batch transform should send its records."""

from __future__ import annotations

import os

PAYLOAD_MEGABYTES = 6
MULTI_RECORD, SINGLE_RECORD = "MULTI_RECORD", "SINGLE_RECORD"


def execution_parameters(
    strategy: str = MULTI_RECORD,
    *,
    at_once: int | None = None,
    megabytes: int = PAYLOAD_MEGABYTES,
) -> dict[str, object]:
    """`at_once` is how many requests at a time; as many as there are processors if it is None."""
    return {
        "MaxConcurrentTransforms": at_once or os.cpu_count() or 1,
        "BatchStrategy": strategy,
        "MaxPayloadInMB": megabytes,
    }
