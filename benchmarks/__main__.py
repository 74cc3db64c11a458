"""Run every benchmark, or those named: `python -m benchmarks [NAME ...]`."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

NAMES = (
    "server_start",
    "control_plane",
    "listing",
    "job_start",
    "job_queue",
    "objects",
    "hop",
    "batch_transform",
    "fast_file",
    "invocations",
    "endpoint_start",
    "algorithms",
    "distributed",
    "tuning",
    "search_quality",
)


def main(names: list[str]) -> int:
    for name in names or NAMES:
        if name not in NAMES:
            print(f"no benchmark {name!r}; there are {', '.join(NAMES)}", file=sys.stderr)
            return 2
        print(f"\n== {name}", flush=True)
        ended = subprocess.run([sys.executable, str(Path(__file__).with_name(f"{name}.py"))])
        if ended.returncode:
            return ended.returncode
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
