"""What an ML instance type has: its processors, memory and accelerators, as AWS publishes them."""

from __future__ import annotations

import re
from typing import NamedTuple

GIBIBYTE = 1024**3


class Size(NamedTuple):
    cpus: int
    memory_bytes: int


# Gibibytes for each vCPU, by the family's letters; `m5`, `m6gd` and `m7i-flex` are all of family m.
_GIBIBYTES_PER_CPU = {"c": 2.0, "m": 4.0, "r": 8.0, "g": 4.0, "inf": 4.0, "trn": 4.0, "t": 4.0}
# What does not follow its family: vCPUs and gibibytes.
_EXCEPTIONS: dict[str, tuple[int, float]] = {
    "t2.medium": (2, 4),
    "t3.medium": (2, 4),
    "t2.xlarge": (4, 16),
    "t2.2xlarge": (8, 32),
    "m4.10xlarge": (40, 160),
    "c4.large": (2, 3.75),
    "c4.xlarge": (4, 7.5),
    "c4.2xlarge": (8, 15),
    "c4.4xlarge": (16, 30),
    "c4.8xlarge": (36, 60),
    "c5n.xlarge": (4, 10.5),
    "c5n.2xlarge": (8, 21),
    "c5n.4xlarge": (16, 42),
    "c5n.9xlarge": (36, 96),
    "c5n.18xlarge": (72, 192),
    "inf1.xlarge": (4, 8),
    "inf1.2xlarge": (8, 16),
    "inf1.6xlarge": (24, 48),
    "inf1.24xlarge": (96, 192),
    "g6e.xlarge": (4, 32),
    "g6e.2xlarge": (8, 64),
    "g6e.4xlarge": (16, 128),
    "g6e.8xlarge": (32, 256),
    "g6e.12xlarge": (48, 384),
    "g6e.16xlarge": (64, 512),
    "g6e.24xlarge": (96, 768),
    "g6e.48xlarge": (192, 1536),
    "p2.xlarge": (4, 61),
    "p2.8xlarge": (32, 488),
    "p2.16xlarge": (64, 732),
    "p3.2xlarge": (8, 61),
    "p3.8xlarge": (32, 244),
    "p3.16xlarge": (64, 488),
    "p3dn.24xlarge": (96, 768),
    "p4d.24xlarge": (96, 1152),
    "p4de.24xlarge": (96, 1152),
    "p5.4xlarge": (16, 256),
    "p5.48xlarge": (192, 2048),
    "p5e.48xlarge": (192, 2048),
    "p5en.48xlarge": (192, 2048),
    "trn2.48xlarge": (192, 2048),
    "dl1.24xlarge": (96, 768),
}
_WORDS = {"medium": 1, "large": 2, "xlarge": 4}
# GPUs and Neuron devices, by family: what has more than one, by size.
_ACCELERATORS: dict[str, dict[str, int]] = {
    "g4dn": {"12xlarge": 4, "metal": 8},
    "g5": {"12xlarge": 4, "24xlarge": 4, "48xlarge": 8},
    "g6": {"12xlarge": 4, "24xlarge": 4, "48xlarge": 8},
    "g6e": {"12xlarge": 4, "24xlarge": 4, "48xlarge": 8},
    "inf1": {"6xlarge": 4, "24xlarge": 16},
    "inf2": {"24xlarge": 6, "48xlarge": 12},
    "trn1": {"32xlarge": 16},
    "trn1n": {"32xlarge": 16},
    "trn2": {"48xlarge": 16},
    "p2": {"8xlarge": 8, "16xlarge": 16},
    "p3": {"8xlarge": 4, "16xlarge": 8},
    "p3dn": {"24xlarge": 8},
    "p4d": {"24xlarge": 8},
    "p4de": {"24xlarge": 8},
    "p5": {"48xlarge": 8},
    "p5e": {"48xlarge": 8},
    "p5en": {"48xlarge": 8},
    "dl1": {"24xlarge": 8},
}


def size_of(instance_type: str) -> Size | None:
    """The size of `ml.m5.xlarge` and its like; None of a type that is not known here."""
    family, _, size = instance_type.removeprefix("ml.").partition(".")
    exception = _EXCEPTIONS.get(f"{family}.{size}")
    if exception is not None:
        return Size(exception[0], int(exception[1] * GIBIBYTE))
    letters = re.match("[a-z]*", family)
    gibibytes = _GIBIBYTES_PER_CPU.get(letters.group() if letters else "")
    cpus = _cpus(size)
    if gibibytes is None or cpus is None:
        return None
    return Size(cpus, int(cpus * gibibytes * GIBIBYTE))


def accelerators_of(instance_type: str) -> int | None:
    """How many accelerators a type of known size has; None where that is not known here."""
    family, _, size = instance_type.removeprefix("ml.").partition(".")
    if family in _ACCELERATORS:
        return _ACCELERATORS[family].get(size, 1)
    letters = re.match("[a-z]*", family)
    return 0 if letters and letters.group() in ("c", "m", "r", "t") else None


def _cpus(size: str) -> int | None:
    """A large has two processors, an xlarge four, and `12xlarge` is twelve of these."""
    count = size.removesuffix("xlarge")
    if count != size and count.isascii() and count.isdigit():
        return 4 * int(count)
    return _WORDS.get(size)
