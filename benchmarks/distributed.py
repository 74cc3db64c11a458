"""A two-host DDP job over gloo, beside the same script under two plain torchruns of this machine.

python benchmarks/distributed.py [--steps 300] [--rounds 3]

Both run the image's own interpreter, one process and one thread on each host. The job's time is that
from CreateTrainingJob to Completed, with the code fetched from S3 and the model stored there; `steps`
is the time of the training loop alone and `processor` what the first process used of one, as the
script tells them: on a busy machine these say more. Both must end with the same loss.
"""

from __future__ import annotations

import argparse
import io
import json
import os
import re
import statistics
import subprocess
import tarfile
import time
import uuid
from pathlib import Path

import peers

from clary.images import build, catalogue
from clary.settings import Settings

IMAGE = "763104351884.dkr.ecr.us-east-1.amazonaws.com/pytorch-training:2.5.1-cpu-py311"
BUCKET = "sagemaker-us-east-1-123456789012"
HOSTS = 2
SCRIPT = """
import argparse, os, time
import torch
import torch.distributed as dist
from torch import nn
parser = argparse.ArgumentParser()
parser.add_argument("--steps", type=int)
steps = parser.parse_args().steps
torch.set_num_threads(1)
dist.init_process_group("gloo")
torch.manual_seed(0)
layers = nn.Sequential(nn.Linear(64, 256), nn.ReLU(), nn.Linear(256, 256), nn.ReLU(), nn.Linear(256, 1))
model = nn.parallel.DistributedDataParallel(layers)
optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
torch.manual_seed(dist.get_rank())
features = torch.randn(256, 64)
labels = features.sum(1, keepdim=True)
began, began_processor = time.perf_counter(), time.process_time()
for _ in range(steps):
    optimizer.zero_grad()
    loss = nn.functional.mse_loss(model(features), labels)
    loss.backward()
    optimizer.step()
seconds, processor = time.perf_counter() - began, time.process_time() - began_processor
if dist.get_rank() == 0:
    torch.save(layers.state_dict(), os.environ["SM_MODEL_DIR"] + "/model.pt")
    print(f"loss {loss.item():.6f} after {seconds:.3f} s, processor {processor:.3f} s")
dist.destroy_process_group()
"""
_TOLD = re.compile(
    r"loss (?P<loss>[0-9.]+) after (?P<seconds>[0-9.]+) s, processor (?P<busy>[0-9.]+) s"
)


def direct(folder: Path, steps: int) -> tuple[float, float, float, str]:
    """Two torchruns; return their seconds, those of the loop, of its first processor, and the loss."""
    settings = Settings.load()
    programs = build.prefix(catalogue.resolve(IMAGE, settings).environment, settings) / "bin"
    port = str(peers.free_port())
    words = [str(programs / "torchrun"), "--nnodes", str(HOSTS), "--nproc_per_node", "1"]
    words += ["--master_addr", "127.0.0.1", "--master_port", port]
    environment = {
        "PATH": f"{programs}{os.pathsep}{os.environ['PATH']}",
        "OMP_NUM_THREADS": "1",
        "GLOO_SOCKET_IFNAME": "lo",
        "SM_MODEL_DIR": str(folder),
    }
    began = time.perf_counter()
    running = [
        subprocess.Popen(
            [*words, "--node_rank", str(rank), str(folder / "train.py"), "--steps", str(steps)],
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )
        for rank in range(HOSTS)
    ]
    try:
        told = "".join(process.communicate(timeout=120)[0] for process in running)
    finally:
        for process in running:
            process.kill()  # one that lost the other waits for it
    seconds = time.perf_counter() - began
    assert all(process.returncode == 0 for process in running)
    return seconds, *read(told)


def job(peer: peers.Peer, steps: int) -> tuple[float, float, float, str]:
    """One training job; return the same four."""
    client, name = peer.client("sagemaker"), f"ddp-{uuid.uuid4().hex[:12]}"
    parameters = {
        "sagemaker_program": "train.py",
        "sagemaker_submit_directory": f"s3://{BUCKET}/code/source.tar.gz",
        "sagemaker_torch_distributed_enabled": True,
        "steps": steps,
    }
    began = time.time()
    client.create_training_job(
        TrainingJobName=name,
        RoleArn=peers.ROLE,
        AlgorithmSpecification={"TrainingImage": IMAGE, "TrainingInputMode": "File"},
        HyperParameters={key: json.dumps(value) for key, value in parameters.items()},
        Environment={"OMP_NUM_THREADS": "1"},
        OutputDataConfig={"S3OutputPath": f"s3://{BUCKET}/models"},
        ResourceConfig={
            "InstanceType": "ml.m5.large",
            "InstanceCount": HOSTS,
            "VolumeSizeInGB": 5,
        },
        StoppingCondition={"MaxRuntimeInSeconds": 600},
    )
    while True:
        answer = client.describe_training_job(TrainingJobName=name)
        if answer["TrainingJobStatus"] != "InProgress":
            break
        # Fifty questions a second, as an eager loop asks them, take a tenth of two processors.
        time.sleep(0.5)
    seconds = answer["LastModifiedTime"].timestamp() - began
    assert answer["TrainingJobStatus"] == "Completed", answer.get("FailureReason")
    events = peer.client("logs").filter_log_events(
        logGroupName="/aws/sagemaker/TrainingJobs", logStreamNamePrefix=f"{name}/algo-1"
    )["events"]
    return seconds, *read("\n".join(event["message"] for event in events))


def read(told: str) -> tuple[float, float, str]:
    found = _TOLD.search(told)
    assert found is not None, told
    return float(found["seconds"]), float(found["busy"]), found["loss"]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--steps", type=int, default=300)
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    with peers.clary() as peer:
        folder = Path(peer.home) / "benchmark"
        folder.mkdir()
        (folder / "train.py").write_text(SCRIPT)
        packed = io.BytesIO()
        with tarfile.open(fileobj=packed, mode="w:gz") as archive:
            archive.add(folder / "train.py", "train.py")
        s3 = peer.client("s3")
        s3.create_bucket(Bucket=BUCKET)
        s3.put_object(Bucket=BUCKET, Key="code/source.tar.gz", Body=packed.getvalue())
        job(peer, 1)  # the first one warms what all later ones fork from
        ratios = []
        for _ in range(options.rounds):
            plain, plain_steps, plain_busy, plain_loss = direct(folder, options.steps)
            whole, steps, busy, loss = job(peer, options.steps)
            ratios.append(whole / plain)
            print(
                f"  job {whole:6.2f} s (steps {steps:6.2f} s, processor {busy:6.2f} s)"
                f"   two torchruns {plain:6.2f} s"
                f" (steps {plain_steps:6.2f} s, processor {plain_busy:6.2f} s)   ratio {whole / plain:4.2f}"
            )
            assert loss == plain_loss, (loss, plain_loss)
        print(f"median ratio {statistics.median(ratios):.2f}; aim 1.1 at most")


if __name__ == "__main__":
    main()
