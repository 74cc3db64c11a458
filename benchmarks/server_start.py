"""Start to first answer, idle memory of all processes, and `clary --help`, beside a bare Python.

python benchmarks/server_start.py [--rounds 5]
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys
import time
from pathlib import Path

import peers


def memory_mib(home: str) -> float:
    """Proportional set size of every process of the installation: shared pages count once."""
    total = 0
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            environment = (folder / "environ").read_bytes()
            if home.encode() in environment or home.encode() in (folder / "cmdline").read_bytes():
                for line in (folder / "smaps_rollup").read_text().splitlines():
                    if line.startswith("Pss:"):
                        total += int(line.split()[1])
        except OSError:
            continue  # it ended while we looked
    return total / 1024


def seconds(*command: str) -> float:
    started = time.perf_counter()
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    return time.perf_counter() - started


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    starts: list[float] = []
    memory: list[float] = []
    helps: list[float] = []
    bare: list[float] = []
    command = str(Path(sys.executable).with_name("clary"))
    for _ in range(options.rounds):
        started = time.perf_counter()
        with peers.clary() as peer:
            starts.append(time.perf_counter() - started)
            time.sleep(1.0)
            memory.append(memory_mib(peer.home))
        helps.append(seconds(command, "--help"))
        bare.append(seconds(sys.executable, "-c", "pass"))
    print(f"server, start to a session of its role  {statistics.median(starts):.2f} s")
    print(f"idle memory of all processes (PSS)      {statistics.median(memory):.0f} MiB")
    print(f"clary --help                            {statistics.median(helps) * 1e3:.0f} ms")
    print(f"python -c pass                          {statistics.median(bare) * 1e3:.0f} ms")


if __name__ == "__main__":
    main()
