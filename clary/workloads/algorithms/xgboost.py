"""XGBoost: gradient boosted trees, as the `sagemaker-xgboost` image trains and serves them."""

from __future__ import annotations

from pathlib import Path

from clary.workloads.algorithms.algorithm import Algorithm, Metric
from clary.workloads.algorithms.channels import ChannelDeclaration
from clary.workloads.algorithms.gradient_boosting.metric_names import METRICS, regex
from clary.workloads.algorithms.gradient_boosting.parameters import HYPERPARAMETERS
from clary.workloads.algorithms.job import Job
from clary.workloads.serving.handlers import BatchHandler

CONTENT_TYPES = (
    "text/csv",
    "text/libsvm",
    "text/x-libsvm",
    "application/x-parquet",
    "application/x-recordio-protobuf",
)


def train(job: Job) -> None:
    from clary.workloads.algorithms.gradient_boosting import training

    training.train(job)


def handler(model_dir: str | Path) -> BatchHandler:
    """The model of a folder, ready to answer; what the model server calls in algorithm mode."""
    from clary.workloads.algorithms.gradient_boosting import serving

    return serving.load(Path(model_dir))


ALGORITHM = Algorithm(
    name="xgboost",
    hyperparameters=HYPERPARAMETERS,
    channels=(
        ChannelDeclaration("train", required=True, content_types=CONTENT_TYPES),
        ChannelDeclaration("validation", content_types=CONTENT_TYPES),
        ChannelDeclaration("code", content_types=("text/python",)),
    ),
    metrics=tuple(
        Metric(f"{side}:{name}", regex(side, name), maximize)
        for side in ("train", "validation")
        for name, maximize in METRICS.items()
    ),
    train=train,
    serve=handler,
)
