"""A transform job over 1,000,000 rows of 30 columns, beside the same model called directly in one process.

python benchmarks/batch_transform.py [--rows 1000000] [--concurrency 4] [--rounds 3]

The rows go as CSV through /invocations of a warm model server; the direct way reads, predicts and
writes in the image's own environment, without a server, an object store or a job. The output must
be the same, byte for byte. `processors` is the time that the job's and the server's processes had
together: on a busy machine it says more than the clock does.
"""

from __future__ import annotations

import argparse
import contextlib
import hashlib
import io
import os
import re
import subprocess
import tarfile
import threading
import time
import uuid
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import peers

from clary.images import build, catalogue, workload_code
from clary.settings import Settings

IMAGE = "683313688378.dkr.ecr.us-east-1.amazonaws.com/sagemaker-scikit-learn:1.2-1-cpu-py3"
BUCKET = "sagemaker-us-east-1-123456789012"
BLOCK_ROWS = 10_000  # random rows, repeated until there are enough
SCRIPT = b"""
import joblib, os
def model_fn(model_dir):
    return joblib.load(os.path.join(model_dir, "model.joblib"))
"""
MAKE = """
import sys, joblib, numpy
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
folder, block, rows = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
random = numpy.random.default_rng(7)
features = random.standard_normal((block, 30)).round(4)
labels = (features[:, :3].sum(axis=1) * 2).round().clip(-4, 4).astype(int)
joblib.dump(make_pipeline(StandardScaler(), LogisticRegression()).fit(features, labels), folder + "/model.joblib")
text = "".join(",".join(map(str, row)) + "\\n" for row in features.tolist())
with open(folder + "/rows.csv", "w") as file:
    for _ in range(rows // block):
        file.write(text)
"""
DIRECT = """
import sys, time, joblib
from clary.workloads.serving import sklearn_defaults
folder = sys.argv[1]
model = joblib.load(folder + "/model.joblib")
began = time.perf_counter()
with open(folder + "/rows.csv", "rb") as source, open(folder + "/direct.csv", "wb") as target:
    held = b""
    while True:
        piece = source.read(6 << 20)
        if not piece:
            break
        body, end, held = (held + piece).rpartition(b"\\n")
        rows = sklearn_defaults.input_fn(body, "text/csv")
        target.write(sklearn_defaults.output_fn(sklearn_defaults.predict_fn(rows, model), "text/csv")[0])
print(time.perf_counter() - began)
"""


def python(script: str, *arguments: str) -> str:
    """Run a script in the image's environment, with Clary's workload code beside it."""
    settings = Settings.load()
    prefix = build.prefix(catalogue.resolve(IMAGE, settings).environment, settings)
    variables = {"PYTHONPATH": str(workload_code.staged(settings)), "OMP_NUM_THREADS": "1"}
    command = [str(prefix / "bin/python"), "-c", script, *arguments]
    ended = subprocess.run(command, check=True, capture_output=True, text=True, env=variables)
    return ended.stdout


def put_model(peer: peers.Peer, folder: Path) -> None:
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w:gz") as archive:
        archive.add(folder / "model.joblib", "model.joblib")
        member = tarfile.TarInfo("code/inference.py")
        member.size = len(SCRIPT)
        archive.addfile(member, io.BytesIO(SCRIPT))
    s3 = peer.client("s3")
    s3.create_bucket(Bucket=BUCKET)
    s3.put_object(Bucket=BUCKET, Key="model.tar.gz", Body=packed.getvalue())
    s3.upload_file(str(folder / "rows.csv"), BUCKET, "rows/rows.csv")
    peer.client("sagemaker").create_model(
        ModelName="linear",
        ExecutionRoleArn=peers.ROLE,
        PrimaryContainer={
            "Image": IMAGE,
            "ModelDataUrl": f"s3://{BUCKET}/model.tar.gz",
            "Environment": {
                "SAGEMAKER_PROGRAM": "inference.py",
                "SAGEMAKER_SUBMIT_DIRECTORY": "/opt/ml/model/code",
            },
        },
    )


def transform(peer: peers.Peer, concurrency: int) -> tuple[str, float]:
    """Run one job; return its name and the seconds from CreateTransformJob to Completed."""
    client = peer.client("sagemaker")
    name = f"rows-{uuid.uuid4().hex[:12]}"
    started = time.perf_counter()
    client.create_transform_job(
        TransformJobName=name,
        ModelName="linear",
        MaxConcurrentTransforms=concurrency,
        BatchStrategy="MultiRecord",
        TransformInput={
            "DataSource": {
                "S3DataSource": {"S3DataType": "S3Prefix", "S3Uri": f"s3://{BUCKET}/rows/"}
            },
            "ContentType": "text/csv",
            "SplitType": "Line",
        },
        TransformOutput={
            "S3OutputPath": f"s3://{BUCKET}/{name}",
            "Accept": "text/csv",
            "AssembleWith": "Line",
        },
        TransformResources={"InstanceType": "ml.m5.large", "InstanceCount": 1},
    )
    while True:
        answer = client.describe_transform_job(TransformJobName=name)
        if answer["TransformJobStatus"] != "InProgress":
            break
        time.sleep(0.02)
    assert answer["TransformJobStatus"] == "Completed", answer.get("FailureReason")
    return name, time.perf_counter() - started


def warm_seconds(logs: Any, name: str) -> float:
    """How long the rows took once the model server was well, as the data log tells."""
    group = "/aws/sagemaker/TransformJobs"
    found = logs.filter_log_events(logGroupName=group, logStreamNamePrefix=f"{name}/")["events"]
    told = [re.search(r"records, ([0-9.]+) seconds", event["message"]) for event in found]
    return next(float(one.group(1)) for one in told if one is not None)


@dataclass
class Usage:
    """What the processes of an installation used: the most a runner held, and processor time by process."""

    runner_mebibytes: int = 0
    ticks: dict[int, int] = field(default_factory=dict)

    @property
    def processor_seconds(self) -> float:
        return sum(self.ticks.values()) / os.sysconf("SC_CLK_TCK")


@contextlib.contextmanager
def usage(home: str) -> Iterator[Usage]:
    """The usage while the block runs; a process is known by its home in its command line or environment."""
    found, before, ended = Usage(), processor_ticks(home), threading.Event()

    def watch() -> None:
        while not ended.wait(0.1):
            for process, ticks in processor_ticks(home).items():
                found.ticks[process] = ticks - before.get(process, 0)
            for lock in Path(home).glob("work/*/g*/*/runner.lock"):
                with contextlib.suppress(OSError, ValueError, IndexError):
                    status = Path(f"/proc/{int(lock.read_text())}/status").read_text()
                    held = int(status.split("VmHWM:")[1].split()[0]) // 1024
                    found.runner_mebibytes = max(found.runner_mebibytes, held)

    thread = threading.Thread(target=watch)
    thread.start()
    try:
        yield found
    finally:
        ended.set()
        thread.join()


def processor_ticks(home: str) -> dict[int, int]:
    found: dict[int, int] = {}
    for folder in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError, IndexError):
            about = (folder / "cmdline").read_bytes() + (folder / "environ").read_bytes()
            if home.encode() in about:
                words = (folder / "stat").read_text().rpartition(") ")[2].split()
                found[int(folder.name)] = int(words[11]) + int(words[12])
    found.pop(os.getpid(), None)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--concurrency", type=int, default=4)
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    rows = options.rows // BLOCK_ROWS * BLOCK_ROWS
    with peers.clary() as peer:
        folder = Path(peer.home) / "benchmark"
        folder.mkdir()
        python(MAKE, str(folder), str(BLOCK_ROWS), str(rows))
        put_model(peer, folder)
        s3, logs = peer.client("s3"), peer.client("logs")
        size = (folder / "rows.csv").stat().st_size
        print(f"{rows:,} rows x 30 columns, {size / 1e6:.0f} MB, {options.concurrency} at a time")
        for _ in range(options.rounds):
            direct = float(python(DIRECT, str(folder)))
            with usage(peer.home) as used:
                name, whole = transform(peer, options.concurrency)
            warm = warm_seconds(logs, name)
            wanted = hashlib.sha256((folder / "direct.csv").read_bytes()).hexdigest()
            stored = s3.get_object(Bucket=BUCKET, Key=f"{name}/rows.csv.out")["Body"].read()
            same = hashlib.sha256(stored).hexdigest() == wanted
            print(
                f"  transform {warm:6.2f} s {rows / warm:10,.0f} rows/s   whole job {whole:6.2f} s"
                f"   direct {direct:6.2f} s {rows / direct:10,.0f} rows/s   ratio {direct / warm:4.2f}"
                f"   processors {used.processor_seconds:5.1f} s   runner {used.runner_mebibytes} MiB"
                f"   {'same bytes' if same else 'DIFFERENT BYTES'}"
            )
            assert same


if __name__ == "__main__":
    main()
