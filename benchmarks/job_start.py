"""A no-op training job of a script-mode image, submit to Completed, beside a plain Python that imports the same.

python benchmarks/job_start.py [--rounds 10]
"""

from __future__ import annotations

import argparse
import io
import statistics
import subprocess
import tarfile
import time
import uuid
from pathlib import Path

import peers

from clary.images import build, catalogue
from clary.settings import Settings

IMAGE = "683313688378.dkr.ecr.us-east-1.amazonaws.com/sagemaker-scikit-learn:1.2-1-cpu-py3"
SCRIPT = b"import numpy, pandas, sklearn.linear_model\nprint('done')\n"
BUCKET = "sagemaker-us-east-1-123456789012"


def put_source(peer: peers.Peer) -> str:
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w:gz") as archive:
        member = tarfile.TarInfo("train.py")
        member.size = len(SCRIPT)
        archive.addfile(member, io.BytesIO(SCRIPT))
    s3 = peer.client("s3")
    s3.create_bucket(Bucket=BUCKET)
    s3.put_object(Bucket=BUCKET, Key="code/sourcedir.tar.gz", Body=packed.getvalue())
    return f"s3://{BUCKET}/code/sourcedir.tar.gz"


def job_seconds(client, source: str) -> float:
    name = f"noop-{uuid.uuid4().hex[:20]}"
    started = time.perf_counter()
    client.create_training_job(
        TrainingJobName=name,
        RoleArn=peers.ROLE,
        AlgorithmSpecification={"TrainingImage": IMAGE, "TrainingInputMode": "File"},
        HyperParameters={
            "sagemaker_program": '"train.py"',
            "sagemaker_submit_directory": f'"{source}"',
        },
        OutputDataConfig={"S3OutputPath": f"s3://{BUCKET}/out"},
        ResourceConfig={"InstanceType": "ml.m5.large", "InstanceCount": 1, "VolumeSizeInGB": 5},
        StoppingCondition={"MaxRuntimeInSeconds": 600},
    )
    while True:
        answer = client.describe_training_job(TrainingJobName=name)
        if answer["TrainingJobStatus"] != "InProgress":
            break
        time.sleep(0.01)
    assert answer["TrainingJobStatus"] == "Completed", answer["FailureReason"]
    return time.perf_counter() - started


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=10)
    options = parser.parse_args()
    settings = Settings.load()
    prefix = build.prefix(catalogue.resolve(IMAGE, settings).environment, settings)
    with peers.clary() as peer:
        client = peer.client("sagemaker")
        source = put_source(peer)
        cold = job_seconds(client, source)
        warm_up = time.perf_counter() + 30
        while time.perf_counter() < warm_up and job_seconds(client, source) > 1.0:
            pass
        ours: list[float] = []
        plain: list[float] = []
        script = Path(peer.home) / "train.py"
        script.write_bytes(SCRIPT)
        for _ in range(options.rounds):
            ours.append(job_seconds(client, source))
            started = time.perf_counter()
            subprocess.run(
                [str(prefix / "bin" / "python"), str(script)], check=True, stdout=subprocess.DEVNULL
            )
            plain.append(time.perf_counter() - started)
    job, python = statistics.median(ours), statistics.median(plain)
    print(f"first job of the image {cold:.2f} s; then, medians of {options.rounds}:")
    print(
        f"{'training job, submit to Completed':<44}{job:>8.3f} s   p90 {sorted(ours)[int(len(ours) * 0.9)]:.3f}"
    )
    print(f"{'plain python with the same imports':<44}{python:>8.3f} s")
    print(f"{'ratio python / job':<44}{python / job:>8.1f}")


if __name__ == "__main__":
    main()
