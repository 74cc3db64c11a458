"""A queue of no-op training jobs, two at a time: jobs a second, CPU a job, and plain Pythons that import the same.

python benchmarks/job_queue.py [--jobs 200] [--rounds 3]
"""

from __future__ import annotations

import argparse
import contextlib
import os
import statistics
import subprocess
import time
import uuid
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import peers

from clary.images import build, catalogue
from clary.settings import Settings

IMAGE = "683313688378.dkr.ecr.us-east-1.amazonaws.com/sagemaker-scikit-learn:1.2-1-cpu-py3"
CODE = "import numpy, pandas, sklearn.linear_model; print('done')"
BUCKET = "sagemaker-us-east-1-123456789012"
PARALLEL = 2


def request(name: str) -> dict[str, object]:
    return {
        "TrainingJobName": name,
        "RoleArn": peers.ROLE,
        "AlgorithmSpecification": {
            "TrainingImage": IMAGE,
            "TrainingInputMode": "File",
            "ContainerEntrypoint": ["python3", "-c", CODE],
        },
        "OutputDataConfig": {"S3OutputPath": f"s3://{BUCKET}/out"},
        "ResourceConfig": {"InstanceType": "ml.m5.large", "InstanceCount": 1, "VolumeSizeInGB": 5},
        "StoppingCondition": {"MaxRuntimeInSeconds": 600},
    }


def queue_seconds(client, jobs: int) -> tuple[float, float]:
    """Submit all, wait for all; seconds from the first submission, and from the last one, to the last end."""
    stem = f"queued-{uuid.uuid4().hex[:10]}"
    started = time.perf_counter()
    with ThreadPoolExecutor(4) as pool:
        list(
            pool.map(
                lambda number: client.create_training_job(**request(f"{stem}-{number}")),
                range(jobs),
            )
        )
    submitted = time.perf_counter()
    while client.list_training_jobs(NameContains=stem, StatusEquals="InProgress", MaxResults=1)[
        "TrainingJobSummaries"
    ]:
        time.sleep(0.25)
    ended = time.perf_counter()
    failed = client.list_training_jobs(NameContains=stem, StatusEquals="Failed", MaxResults=1)
    assert not failed["TrainingJobSummaries"], "a no-op job failed"
    return ended - started, ended - submitted


def plain_seconds(python: str, jobs: int) -> float:
    """The same programs as plain processes, two at a time, without a sandbox, data or a record of them."""

    def one(_number: int) -> None:
        subprocess.run([python, "-c", CODE], check=True, stdout=subprocess.DEVNULL)

    started = time.perf_counter()
    with ThreadPoolExecutor(PARALLEL) as pool:
        list(pool.map(one, range(jobs)))
    return time.perf_counter() - started


class CpuGroup:
    """A control group that this process and all that it starts from now on belong to: nobody else's CPU is in it."""

    def __init__(self) -> None:
        name = f"clary-benchmark-{os.getpid()}"
        older, newer = Path("/sys/fs/cgroup/cpuacct"), Path("/sys/fs/cgroup")
        self._folder = (older if older.is_dir() else newer) / name
        self._home = (older if older.is_dir() else newer) / "cgroup.procs"
        try:
            self._folder.mkdir()
            (self._folder / "cgroup.procs").write_text(str(os.getpid()))
            self.is_there = True
        except OSError:
            self.is_there = False  # an ordinary user: only the rates are told

    def seconds(self) -> float:
        """CPU used so far, without this process's own."""
        if not self.is_there:
            return 0.0
        usage = self._folder / "cpuacct.usage"
        if usage.exists():
            found = int(usage.read_text()) / 1e9
        else:
            words = dict(
                line.split() for line in (self._folder / "cpu.stat").read_text().splitlines()
            )
            found = int(words["usage_usec"]) / 1e6
        return found - time.process_time()

    def remove(self) -> None:
        if self.is_there:
            for process in (self._folder / "cgroup.procs").read_text().split():
                with contextlib.suppress(OSError):  # it has just ended
                    self._home.write_text(process)
            self._folder.rmdir()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--jobs", type=int, default=200)
    parser.add_argument("--plain", type=int, default=20, help="plain processes a round")
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    settings = Settings.load()
    prefix = build.prefix(catalogue.resolve(IMAGE, settings).environment, settings)
    python = str(prefix / "bin" / "python")
    jobs = options.jobs
    rows: list[tuple[float, float, float, float]] = []
    group = CpuGroup()
    with peers.clary(CLARY_SLOTS=str(PARALLEL)) as peer:
        client = peer.client("sagemaker")
        peer.client("s3").create_bucket(Bucket=BUCKET)
        queue_seconds(client, 10)  # the environment's parent gets warm
        time.sleep(2.0)
        for _ in range(options.rounds):
            used = group.seconds()
            whole, drained = queue_seconds(client, jobs)
            ours = group.seconds() - used
            used = group.seconds()
            plain = plain_seconds(python, options.plain) / options.plain
            theirs = (group.seconds() - used) / options.plain
            rows.append((whole / jobs, plain, ours / jobs, theirs))
            print(
                f"{jobs} jobs in {whole:.2f} s ({jobs / whole:.1f}/s; {drained:.2f} s after the last "
                f"submission), CPU {1000 * ours / jobs:.1f} ms a job; plain {1 / plain:.1f}/s, "
                f"CPU {1000 * theirs:.0f} ms",
                flush=True,
            )
    group.remove()
    job, process, ours, theirs = (statistics.median(row[one] for row in rows) for one in range(4))
    print(f"{'jobs a second, medians':<48}{1 / job:>8.1f}")
    print(f"{'plain processes a second, two at a time':<48}{1 / process:>8.1f}")
    print(f"{'ratio':<48}{process / job:>8.2f}")
    if group.is_there:
        print(f"{'CPU a job, all of Clary and the programs':<48}{1000 * ours:>8.1f} ms")
        print(f"{'CPU a plain process':<48}{1000 * theirs:>8.1f} ms")


if __name__ == "__main__":
    main()
