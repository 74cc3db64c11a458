"""Built-in algorithms, submit to Completed, beside the best loader and the library called directly.

python benchmarks/algorithms.py [--rows N] [--rounds 2] [--algorithms kmeans,pca] [--formats csv]

Both sides read the same files, interleaved. The direct side is timed from the opened file to the
matrix, and from the matrix to the fitted model, without the start of Python and its imports: it is
the limit, not a peer. Processor time and peak memory of the algorithm are those of its program run
alone on the same file, after its imports, which a warm parent has made. On a machine that others
use, read the ratio of processor times.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
import uuid
from dataclasses import dataclass
from pathlib import Path

import numpy
import peers
import pyarrow
from pyarrow import csv

from clary.images import build, catalogue
from clary.images.image import Image
from clary.settings import Settings
from clary.workloads.formats import recordio_protobuf

REGISTRY = "382416733822.dkr.ecr.us-east-1.amazonaws.com"
BUCKET = "sagemaker-us-east-1-123456789012"
FEATURES = 50
ROWS_AT_ONCE = 100_000
JOB_SECONDS_MAX = 3600
ROUNDS = "20"  # of boosting, on both sides
ALGORITHMS = {
    "linear-learner": {"predictor_type": "binary_classifier"},
    "kmeans": {"feature_dim": str(FEATURES), "k": "10"},
    "pca": {"feature_dim": str(FEATURES), "num_components": "10", "mini_batch_size": "5000"},
    "sagemaker-xgboost": {"num_round": ROUNDS, "objective": "binary:logistic"},
    "lightgbm": {"num_boost_round": ROUNDS, "early_stopping_rounds": "0"},
}
TAGS = {"sagemaker-xgboost": "3.0-5"}
ONLY_CSV = ("lightgbm",)
CONTENT_TYPES = {
    "csv": "text/csv;label_size=1",
    "recordio": "application/x-recordio-protobuf",
}

# The limit: polars for CSV, rows sliced by their stride for RecordIO; then the library.
LOAD = """
import sys, time, struct
import numpy, polars
path, features, kept = sys.argv[1], int(sys.argv[2]), sys.argv[3]
started, used = time.perf_counter(), time.process_time()
if path.endswith(".csv"):
    schema = {f"c{at}": polars.Float32 for at in range(features + 1)}
    table = polars.read_csv(path, has_header=False, schema=schema).to_numpy()
    labels, rows = table[:, 0], numpy.ascontiguousarray(table[:, 1:])
else:
    data = numpy.fromfile(path, dtype=numpy.uint8)
    length = struct.unpack_from("<I", data, 4)[0]
    stride = 8 + length + (-length % 4)
    data = data.reshape(-1, stride)
    first = bytes(data[0])
    at = first.index(struct.pack("<B", 10) + b"\\xc8\\x01") + 3
    rows = numpy.ascontiguousarray(data[:, at : at + 4 * features]).view("<f4")
    labels = numpy.ascontiguousarray(data[:, 8 + length - 4 : 8 + length]).view("<f4")[:, 0]
print(time.perf_counter() - started, time.process_time() - used)
numpy.savez(kept, rows=rows, labels=labels)
"""
FITS = {
    "linear-learner": """
from sklearn.linear_model import LogisticRegression
fit = lambda: LogisticRegression().fit(rows, labels)
""",
    "kmeans": """
from sklearn.cluster import KMeans
fit = lambda: KMeans(10, n_init=1, random_state=0).fit(rows)
""",
    "pca": """
from sklearn.decomposition import PCA
fit = lambda: PCA(10, svd_solver="covariance_eigh").fit(rows)
""",
    "sagemaker-xgboost": """
import xgboost
def fit():
    data = xgboost.QuantileDMatrix(rows, labels)
    settings = {"objective": "binary:logistic"}
    xgboost.train(settings, data, rounds, evals=[(data, "train")], verbose_eval=False)
""",
    "lightgbm": """
import lightgbm
def fit():
    settings = dict(objective="binary", num_leaves=64, max_depth=6, feature_fraction=0.9,
        bagging_fraction=0.9, bagging_freq=1, min_data_in_leaf=3, verbosity=-1)
    cut = len(rows) * 4 // 5
    train = lightgbm.Dataset(rows[:cut], labels[:cut])
    valid = lightgbm.Dataset(rows[cut:], labels[cut:], reference=train)
    lightgbm.train(settings, train, rounds, [valid])
""",
}
FIT = """
import sys, time
import numpy
rounds = int(sys.argv[2])
with numpy.load(sys.argv[1]) as kept:
    rows, labels = kept["rows"], kept["labels"]
{code}
started, used = time.perf_counter(), time.process_time()
fit()
print(time.perf_counter() - started, time.process_time() - used)
"""
# The algorithm, and what it took beyond its imports.
PROGRAM = """
import importlib, resource, runpy, sys
def used(): return resource.getrusage(resource.RUSAGE_SELF)
kept, algorithm, *modules = sys.argv[1:]
for name in modules: importlib.import_module(name)
before = used()
sys.argv = ["algorithms", algorithm, "train"]
try:
    runpy.run_module("clary.workloads.algorithms", run_name="__main__", alter_sys=True)
finally:
    after = used()
    seconds = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    with open(kept, "w") as file: print(seconds, after.ru_maxrss - before.ru_maxrss, file=file)
"""


def image_of(name: str) -> str:
    return f"{REGISTRY}/{name}:{TAGS.get(name, '1')}"


def write_data(folder: Path, rows: int) -> dict[str, Path]:
    """Ten clouds with a label that depends on the features, in both formats."""
    random = numpy.random.default_rng(0)
    centers = random.normal(scale=1.5, size=(10, FEATURES))
    weights = random.normal(scale=0.3, size=FEATURES)
    paths = {"csv": folder / "data.csv", "recordio": folder / "data.pbr"}
    with paths["csv"].open("wb") as plain, paths["recordio"].open("wb") as records:
        for start in range(0, rows, ROWS_AT_ONCE):
            count = min(ROWS_AT_ONCE, rows - start)
            features = (
                random.normal(size=(count, FEATURES)) + centers[random.integers(10, size=count)]
            )
            noise = random.logistic(size=count)
            labels = (features @ weights + noise > 0).astype(numpy.float32)
            narrow = features.astype(numpy.float32)
            columns = [labels, *numpy.round(narrow.T, 6)]
            table = pyarrow.table({str(at): column for at, column in enumerate(columns)})
            csv.write_csv(table, plain, csv.WriteOptions(include_header=False))
            records.write(recordio_protobuf.write_records(narrow, labels))
    return paths


def job_seconds(client, name: str, kind: str) -> float:
    job = f"{name}-{uuid.uuid4().hex[:20]}"
    started = time.perf_counter()
    client.create_training_job(
        TrainingJobName=job,
        RoleArn=peers.ROLE,
        AlgorithmSpecification={
            "TrainingImage": image_of(name),
            "TrainingInputMode": "File",
        },
        HyperParameters=ALGORITHMS[name],
        InputDataConfig=[
            {
                "ChannelName": "train",
                "ContentType": CONTENT_TYPES[kind],
                "DataSource": {
                    "S3DataSource": {
                        "S3DataType": "S3Prefix",
                        "S3Uri": f"s3://{BUCKET}/algorithms/{kind}/",
                    }
                },
            }
        ],
        OutputDataConfig={"S3OutputPath": f"s3://{BUCKET}/out"},
        ResourceConfig={"InstanceType": "ml.m5.large", "InstanceCount": 1, "VolumeSizeInGB": 30},
        StoppingCondition={"MaxRuntimeInSeconds": JOB_SECONDS_MAX},
    )
    while True:
        answer = client.describe_training_job(TrainingJobName=job)
        if answer["TrainingJobStatus"] != "InProgress":
            break
        time.sleep(0.02)
    assert answer["TrainingJobStatus"] == "Completed", answer.get("FailureReason")
    return time.perf_counter() - started


@dataclass(frozen=True)
class Cost:
    """Seconds by the clock and of processors."""

    wall: float
    cpu: float

    def __add__(self, other: Cost) -> Cost:
        return Cost(self.wall + other.wall, self.cpu + other.cpu)


def cost_of(*argv: str) -> Cost:
    ended = subprocess.run(argv, check=True, capture_output=True, text=True, env=environment())
    return Cost(*map(float, ended.stdout.split()[-2:]))


def environment() -> dict[str, str]:
    # As in jobs: threads that wait for one another sleep.
    return {**os.environ, "GOMP_SPINCOUNT": "0"}


def direct_costs(loader: str, python: str, name: str, path: Path) -> tuple[Cost, Cost]:
    """Loading, with the environment that has polars, and fitting, with the algorithm's own."""
    kept = path.with_suffix(".npz")
    load = cost_of(loader, "-c", LOAD, str(path), str(FEATURES), str(kept))
    fit = cost_of(python, "-c", FIT.replace("{code}", FITS[name]), str(kept), ROUNDS)
    kept.unlink()
    return load, fit


def program_cost(
    image: Image, python: str, name: str, kind: str, path: Path
) -> tuple[float, float]:
    """Seconds of processors and peak resident megabytes of the program, beyond its libraries'."""
    base = path.parent / uuid.uuid4().hex
    for place in ("input/config", "input/data/train", "model", "output/data"):
        (base / place).mkdir(parents=True)
    os.link(path, base / "input/data/train" / path.name)
    described = {"train": {"ContentType": CONTENT_TYPES[kind], "TrainingInputMode": "File"}}
    config = base / "input/config"
    (config / "hyperparameters.json").write_text(json.dumps(ALGORITHMS[name]))
    (config / "inputdataconfig.json").write_text(json.dumps(described))
    settings = {"SAGEMAKER_BASE_DIR": str(base), "PYTHONPATH": str(Path(__file__).parents[1])}
    subprocess.run(
        [python, "-c", PROGRAM, str(base / "cost"), image.algorithm, *image.preload],
        check=True,
        env={**environment(), **settings},
        stdout=subprocess.DEVNULL,
    )
    seconds, kibibytes = map(float, (base / "cost").read_text().split())
    return seconds, kibibytes * 1024 / 1e6


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=2_000_000)
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--algorithms", default=",".join(ALGORITHMS))
    parser.add_argument("--formats", default=",".join(CONTENT_TYPES))
    options = parser.parse_args()
    settings = Settings.load()
    images = {name: catalogue.resolve(image_of(name), settings) for name in ("kmeans", *ALGORITHMS)}
    pythons = {
        name: str(build.build(image.environment, settings) / "bin" / "python")
        for name, image in images.items()
    }
    names, kinds = options.algorithms.split(","), options.formats.split(",")
    with tempfile.TemporaryDirectory() as temporary, peers.clary() as peer:
        folder = Path(temporary)
        paths = write_data(folder, options.rows)
        s3 = peer.client("s3")
        s3.create_bucket(Bucket=BUCKET)
        for kind in kinds:
            s3.upload_file(str(paths[kind]), BUCKET, f"algorithms/{kind}/{paths[kind].name}")
        client = peer.client("sagemaker")
        matrix = options.rows * FEATURES * 4 / 1e6
        print(f"{options.rows} rows x {FEATURES}: {matrix:.0f} MB as float32; medians of seconds")
        print(
            f"{'':<27}{'load':>7}{'fit':>7}{'job':>8}{'ratio':>7}"
            f"{'cpu':>8}{'ratio':>7}{'peak MB':>9}{'x data':>7}"
        )
        for name in names:
            for kind in kinds if name not in ONLY_CSV else ("csv",):
                rounds = []
                job_seconds(client, name, kind)  # the first one of an image warms its parent
                for _ in range(options.rounds):
                    job = job_seconds(client, name, kind)
                    load, fit = direct_costs(pythons["kmeans"], pythons[name], name, paths[kind])
                    cpu, peak = program_cost(images[name], pythons[name], name, kind, paths[kind])
                    limit = load + fit
                    rounds.append(
                        (load.wall, fit.wall, job, job / limit.wall, cpu, cpu / limit.cpu, peak)
                    )
                load, fit, job, slower, cpu, dearer, peak = map(
                    statistics.median, zip(*rounds, strict=True)
                )
                print(
                    f"{name + ', ' + kind:<27}{load:>7.2f}{fit:>7.2f}{job:>8.2f}{slower:>7.2f}"
                    f"{cpu:>8.2f}{dearer:>7.2f}{peak:>9.0f}{peak / matrix:>7.2f}",
                    flush=True,
                )


if __name__ == "__main__":
    sys.exit(main())
