"""50 trials of a 3-fold SVC on digits, 2 at a time: each a training job of its own, beside optuna inside one process.

python benchmarks/tuning.py [--rounds 2] [--trials 50] [--strategy Bayesian]

Rounds alternate. optuna's time begins after its imports, a tuning job's with CreateHyperParameterTuningJob.
"""

from __future__ import annotations

import argparse
import io
import json
import os
import statistics
import subprocess
import tarfile
import time
import uuid
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import peers

from clary.images import build, catalogue
from clary.images.environment import Environment
from clary.settings import Settings

IMAGE = "683313688378.dkr.ecr.us-east-1.amazonaws.com/sagemaker-scikit-learn:1.2-1-cpu-py3"
BUCKET = "sagemaker-us-east-1-123456789012"
SOURCE = f"s3://{BUCKET}/tuning/sourcedir.tar.gz"
OBJECTIVE = """
import numpy
from sklearn.datasets import load_digits
from sklearn.model_selection import cross_val_score
from sklearn.svm import SVC

def accuracy(c, gamma):
    images, digits = load_digits(return_X_y=True)
    return float(numpy.mean(cross_val_score(SVC(C=c, gamma=gamma), images, digits, cv=3)))
"""
SCRIPT = f"""{OBJECTIVE}
import argparse
parser = argparse.ArgumentParser()
parser.add_argument("--penalty", type=float)
parser.add_argument("--gamma", type=float)
given, _ = parser.parse_known_args()
print(f"accuracy={{accuracy(given.penalty, given.gamma):.6f}};")
"""
PEER = f"""{OBJECTIVE}
import json, sys, time, optuna
optuna.logging.set_verbosity(optuna.logging.WARNING)
def objective(trial):
    return accuracy(
        trial.suggest_float("penalty", 1e-2, 1e3, log=True),
        trial.suggest_float("gamma", 1e-6, 1e-1, log=True),
    )
started, cpu = time.perf_counter(), time.process_time()
study = optuna.create_study(direction="maximize")
study.optimize(objective, n_trials=int(sys.argv[1]), n_jobs=2)
took = [time.perf_counter() - started, time.process_time() - cpu, study.best_value]
print(json.dumps(took))
"""


@dataclass(frozen=True)
class Run:
    seconds: float
    cpu_seconds: float
    best: float


def tuning_request(name: str, strategy: str, trials: int) -> dict[str, Any]:
    def range_of(parameter: str, low: str, high: str) -> dict[str, str]:
        scale = {"ScalingType": "Logarithmic"}
        return {"Name": parameter, "MinValue": low, "MaxValue": high, **scale}

    ranges = [range_of("penalty", "0.01", "1000"), range_of("gamma", "0.000001", "0.1")]
    return {
        "HyperParameterTuningJobName": name,
        "HyperParameterTuningJobConfig": {
            "Strategy": strategy,
            "HyperParameterTuningJobObjective": {"Type": "Maximize", "MetricName": "accuracy"},
            "ResourceLimits": {"MaxNumberOfTrainingJobs": trials, "MaxParallelTrainingJobs": 2},
            "ParameterRanges": {"ContinuousParameterRanges": ranges},
        },
        "TrainingJobDefinition": {
            "StaticHyperParameters": {
                "sagemaker_program": '"train.py"',
                "sagemaker_submit_directory": f'"{SOURCE}"',
            },
            "AlgorithmSpecification": {
                "TrainingImage": IMAGE,
                "TrainingInputMode": "File",
                "MetricDefinitions": [{"Name": "accuracy", "Regex": "accuracy=([0-9.]+);"}],
            },
            "RoleArn": peers.ROLE,
            "OutputDataConfig": {"S3OutputPath": f"s3://{BUCKET}/out"},
            "ResourceConfig": {
                "InstanceType": "ml.m5.large",
                "InstanceCount": 1,
                "VolumeSizeInGB": 5,
            },
            "StoppingCondition": {"MaxRuntimeInSeconds": 600},
        },
    }


def put_source(peer: peers.Peer) -> None:
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w:gz") as archive:
        member = tarfile.TarInfo("train.py")
        member.size = len(SCRIPT)
        archive.addfile(member, io.BytesIO(SCRIPT.encode()))
    s3 = peer.client("s3")
    s3.create_bucket(Bucket=BUCKET)
    s3.put_object(Bucket=BUCKET, Key="tuning/sourcedir.tar.gz", Body=packed.getvalue())


def tuned(client: Any, home: str, strategy: str, trials: int) -> Run:
    name = f"tune-{uuid.uuid4().hex[:12]}"
    cpu = cpu_seconds_below(home)
    started = time.perf_counter()
    client.create_hyper_parameter_tuning_job(**tuning_request(name, strategy, trials))
    while True:
        job = client.describe_hyper_parameter_tuning_job(HyperParameterTuningJobName=name)
        if job["HyperParameterTuningJobStatus"] not in ("InProgress", "Stopping"):
            break
        time.sleep(0.1)
    seconds = time.perf_counter() - started
    assert job["HyperParameterTuningJobStatus"] == "Completed", job.get("FailureReason")
    assert job["TrainingJobStatusCounters"]["Completed"] == trials, job
    best = job["BestTrainingJob"]["FinalHyperParameterTuningJobObjectiveMetric"]["Value"]
    return Run(seconds, cpu_seconds_below(home) - cpu, best)


def cpu_seconds_below(home: str) -> float:
    """CPU seconds of every process that names this installation's home, with those of its children that ended."""
    ticks = os.sysconf("SC_CLK_TCK")
    total = 0
    for folder in Path("/proc").iterdir():
        if not folder.name.isdecimal() or int(folder.name) == os.getpid():
            continue
        try:
            told = (folder / "environ").read_bytes() + (folder / "cmdline").read_bytes()
            if home.encode() in told:
                fields = (folder / "stat").read_text().rpartition(")")[2].split()
                total += sum(int(one) for one in fields[11:15])
        except OSError:
            continue  # it ended meanwhile; its parent's figure has it
    return total / ticks


def in_process(python: Path, script: Path, trials: int) -> Run:
    # The sampler's threads and scikit-learn's share two cores, as our two jobs do.
    limits = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
    answer = subprocess.run(
        [str(python), str(script), str(trials)],
        check=True,
        stdout=subprocess.PIPE,
        env={**os.environ, **limits},
    )
    return Run(*json.loads(answer.stdout))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--trials", type=int, default=50)
    parser.add_argument("--strategy", default="Bayesian", choices=["Bayesian", "Random"])
    options = parser.parse_args()
    settings = Settings.load()
    image = catalogue.resolve(IMAGE, settings).environment
    learn = next(one for one in image.packages if one.startswith("scikit-learn"))
    peer_environment = Environment(
        image.python, (learn, "numpy<2", "optuna"), ("optuna", "sklearn"), from_source=True
    )
    python = build.build(peer_environment, settings) / "bin" / "python"
    ours: list[Run] = []
    theirs: list[Run] = []
    with peers.clary() as peer:
        client = peer.client("sagemaker")
        put_source(peer)
        script = Path(peer.home) / "peer.py"
        script.write_text(PEER)
        tuned(client, peer.home, options.strategy, 4)  # warms the environment's fork server
        for _ in range(options.rounds):
            ours.append(tuned(client, peer.home, options.strategy, options.trials))
            theirs.append(in_process(python, script, options.trials))
    print(f"{options.trials} trials, 2 at a time; medians of {options.rounds} interleaved rounds")
    print(f"{'':<34}{'seconds':>9}{'CPU s':>9}{'best':>10}")
    for name, runs in (("training jobs", ours), ("optuna TPE in process", theirs)):
        seconds, cpu, best = (
            statistics.median(getattr(one, member) for one in runs)
            for member in ("seconds", "cpu_seconds", "best")
        )
        print(f"{name:<34}{seconds:>9.1f}{cpu:>9.1f}{best:>10.4f}")
    ratio = statistics.median(
        one.seconds / other.seconds for one, other in zip(ours, theirs, strict=True)
    )
    print(f"{'ratio jobs / optuna':<34}{ratio:>9.2f}")


if __name__ == "__main__":
    main()
