"""A channel of one large object, as File and as FastFile in turn: submit to the first line, then a read of all.

python benchmarks/fast_file.py [--mebibytes 1024] [--rounds 5]
"""

from __future__ import annotations

import argparse
import io
import json
import os
import statistics
import time
import uuid
from pathlib import Path
from typing import NamedTuple

import peers

IMAGE = "683313688378.dkr.ecr.us-east-1.amazonaws.com/sagemaker-scikit-learn:1.2-1-cpu-py3"
BUCKET = "sagemaker-us-east-1-123456789012"
MEBIBYTE = 1024 * 1024
SCRIPT = """
import json, time
first = time.time()
count, buffer = 0, bytearray(1 << 20)
with open("/opt/ml/input/data/train/data.bin", "rb", buffering=0) as file:
    while got := file.readinto(buffer):
        count += got
read = time.time() - first
print(json.dumps({"first": first, "read": read, "bytes": count}), flush=True)
"""
MODES = ("File", "FastFile")


class Times(NamedTuple):
    first_line: float  # seconds since the job was submitted
    read: float
    whole: float


def put_object(client, mebibytes: int) -> None:
    client.create_bucket(Bucket=BUCKET)
    block = os.urandom(64 * MEBIBYTE)
    path = Path("/dev/shm/fast-file.bin")
    with path.open("wb") as file:
        for at in range(0, mebibytes, 64):
            file.write(block[: (mebibytes - at) * MEBIBYTE])
    try:
        client.upload_file(str(path), BUCKET, "fast-file/data.bin")
    finally:
        path.unlink()


def run(peer: peers.Peer, sagemaker, logs, mode: str) -> Times:
    name = f"fast-{uuid.uuid4().hex[:20]}"
    source = {"S3DataType": "S3Prefix", "S3Uri": f"s3://{BUCKET}/fast-file/"}
    submitted = time.time()
    sagemaker.create_training_job(
        TrainingJobName=name,
        RoleArn=peers.ROLE,
        AlgorithmSpecification={
            "TrainingImage": IMAGE,
            "TrainingInputMode": mode,
            "ContainerEntrypoint": ["python3", "-c", "import os; exec(os.environ['CODE'])"],
        },
        Environment={"CODE": SCRIPT},
        InputDataConfig=[{"ChannelName": "train", "DataSource": {"S3DataSource": source}}],
        OutputDataConfig={"S3OutputPath": f"s3://{BUCKET}/out"},
        ResourceConfig={"InstanceType": "ml.m5.large", "InstanceCount": 1, "VolumeSizeInGB": 30},
        StoppingCondition={"MaxRuntimeInSeconds": 600},
    )
    while True:
        answer = sagemaker.describe_training_job(TrainingJobName=name)
        if answer["TrainingJobStatus"] != "InProgress":
            break
        time.sleep(0.02)
    assert answer["TrainingJobStatus"] == "Completed", answer["FailureReason"]
    told = printed(logs, name)
    return Times(told["first"] - submitted, told["read"], told["first"] + told["read"] - submitted)


def printed(logs, name: str) -> dict[str, float]:
    group = "/aws/sagemaker/TrainingJobs"
    (stream,) = logs.describe_log_streams(logGroupName=group, logStreamNamePrefix=name)[
        "logStreams"
    ]
    events = logs.get_log_events(
        logGroupName=group, logStreamName=stream["logStreamName"], startFromHead=True
    )["events"]
    return json.loads(next(one["message"] for one in events if one["message"].startswith("{")))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--mebibytes", type=int, default=1024)
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    found: dict[str, list[Times]] = {mode: [] for mode in MODES}
    with peers.clary() as peer:
        put_object(peer.client("s3"), options.mebibytes)
        sagemaker, logs = peer.client("sagemaker"), peer.client("logs")
        for mode in MODES:
            run(peer, sagemaker, logs, mode)  # warms the image up
        for _ in range(options.rounds):
            for mode in MODES:
                found[mode].append(run(peer, sagemaker, logs, mode))
    middle = {
        mode: Times(*(statistics.median(column) for column in zip(*times, strict=True)))
        for mode, times in found.items()
    }
    told = io.StringIO()
    print(f"{options.mebibytes} MiB, medians of {options.rounds}:", file=told)
    for mode, times in middle.items():
        print(
            f"{mode:<10} submit to first line {times.first_line:>7.3f} s   "
            f"read of all {options.mebibytes / times.read:>7.0f} MiB/s   "
            f"submit to all read {times.whole:>7.3f} s",
            file=told,
        )
    ratios = [old / new for old, new in zip(middle["File"], middle["FastFile"], strict=True)]
    print(
        f"File / FastFile: first line {ratios[0]:.1f}   "
        f"throughput of the read {ratios[1]:.2f}   all {ratios[2]:.2f}",
        file=told,
    )
    print(told.getvalue(), end="")


if __name__ == "__main__":
    main()
