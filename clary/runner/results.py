"""What becomes of a host, before its outputs are uploaded."""

from __future__ import annotations

from typing import Any, NamedTuple

from clary.runner import program
from clary.runner.spec import HostSpec


class Result(NamedTuple):
    result: str  # success | failure | stopped | timeout | lost
    ending: program.Ending | None = None
    failure: str = ""
    source: str = "algorithm"  # algorithm | client | internal
    out_of_memory: bool = False
    outputs: dict[str, Any] | None = None  # told beside those that are uploaded


def out_of_memory_text(spec: HostSpec, ending: program.Ending) -> str:
    allowed = f"{(spec.limits.memory_bytes or 0) / 1024**2:,.0f} MiB"
    how = f"was killed ({ending.signal})" if ending.signal else "lost a process that was killed"
    return f"The program {how} because it wanted more memory than the {allowed} that it may use."
