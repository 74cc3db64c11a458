"""What the declarations of all first-party algorithms have in common."""

from __future__ import annotations

from clary.workloads.algorithms.channels import ChannelDeclaration

RECORDIO, CSV = "application/x-recordio-protobuf", "text/csv"
BOTH = (RECORDIO, CSV)


def channels(
    *optional: str, content_types: tuple[str, ...] = BOTH
) -> tuple[ChannelDeclaration, ...]:
    """`train`, which every job has, and the optional ones."""
    return (
        ChannelDeclaration("train", required=True, content_types=content_types),
        *(ChannelDeclaration(name, content_types=content_types) for name in optional),
    )
