"""What an endpoint's AsyncInferenceConfig says about its queue, its results and its notifications."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

CONCURRENT_PER_INSTANCE_DEFAULT = 4  # SageMaker chooses one by the model; here it is always this


@dataclass(frozen=True, slots=True)
class AsyncSettings:
    output: str  # S3 prefixes
    failure: str
    concurrent_per_instance: int = CONCURRENT_PER_INSTANCE_DEFAULT
    success_topic: str = ""
    error_topic: str = ""
    response_in: frozenset[str] = frozenset()

    @staticmethod
    def parse(entry: object) -> AsyncSettings | None:
        """The settings of a route's entry, an AsyncInferenceConfig."""
        if not isinstance(entry, Mapping):
            return None
        config: Mapping[str, Any] = entry
        output = config["OutputConfig"]
        topics = output.get("NotificationConfig") or {}
        client = config.get("ClientConfig") or {}
        place = str(output.get("S3OutputPath") or "").rstrip("/")
        return AsyncSettings(
            output=place,
            failure=str(output.get("S3FailurePath") or "").rstrip("/"),
            concurrent_per_instance=int(
                client.get("MaxConcurrentInvocationsPerInstance") or CONCURRENT_PER_INSTANCE_DEFAULT
            ),
            success_topic=topics.get("SuccessTopic") or "",
            error_topic=topics.get("ErrorTopic") or "",
            response_in=frozenset(topics.get("IncludeInferenceResponseIn") or ()),
        )
