"""IP Insights: how usual an IPv4 address is for an entity, learned from pairs that were seen."""

from __future__ import annotations

from clary.workloads.algorithms.algorithm import Algorithm, Metric, entries
from clary.workloads.algorithms.channels import ChannelDeclaration
from clary.workloads.algorithms.first_party.log_lines import PROGRESS, THROUGHPUT
from clary.workloads.algorithms.first_party.schema import Schema, integer, number
from clary.workloads.algorithms.hyperparameters import Interval

CSV = ("text/csv",)

SCHEMA = Schema(
    declared=(
        integer(
            "num_entity_vectors", 1, 250_000_000, required=True, tunable=Interval(10**4, 10**6)
        ),
        integer("vector_dim", 4, 4096, required=True, tunable=Interval(8, 256)),
        integer("batch_metrics_publish_interval", 1),
        integer("epochs", 1, tunable=Interval(5, 100)),
        number("learning_rate", Interval(1e-6, 10), tunable=Interval(1e-4, 0.1)),
        integer("mini_batch_size", 1, 500_000, tunable=Interval(100, 50_000)),
        integer("num_ip_encoder_layers", 0, 100, tunable=Interval(1, 10)),
        integer("random_negative_sampling_rate", 0, 500, tunable=Interval(0, 10)),
        integer("shuffled_negative_sampling_rate", 0, 500, tunable=Interval(0, 10)),
        number("weight_decay", Interval(0, 10), tunable=Interval(0, 1)),
    ),
    defaults={
        "batch_metrics_publish_interval": 1000,
        "epochs": 10,
        "learning_rate": 0.001,
        "mini_batch_size": 10_000,
        "num_ip_encoder_layers": 1,
        "random_negative_sampling_rate": 1,
        "shuffled_negative_sampling_rate": 1,
        "weight_decay": 0.00001,
    },
)


train, handler = entries(__name__, "ALGORITHM")


def _metric(channel: str, name: str, *, maximize: bool, of_batch: bool = False) -> Metric:
    kind = "score" if maximize else "loss"
    place = r"epoch=\S+, batch=\S+" if of_batch else r"epoch=\S+,"
    return Metric(
        f"{channel}:{name}" + ("" if of_batch or channel != "train" else ":epoch"),
        rf"#quality_metric: host=\S+, {place} {channel} {name} <{kind}>=(\S+)",
        maximize,
    )


ALGORITHM = Algorithm(
    name="ipinsights",
    hyperparameters=SCHEMA,
    channels=(
        ChannelDeclaration("train", required=True, content_types=CSV, modes=("File", "FastFile")),
        ChannelDeclaration("validation", content_types=CSV, modes=("File", "FastFile")),
    ),
    metrics=(
        PROGRESS,
        THROUGHPUT,
        _metric("train", "binary_classification_accuracy", maximize=True, of_batch=True),
        _metric("train", "binary_classification_accuracy", maximize=True),
        _metric("train", "binary_classification_cross_entropy", maximize=False, of_batch=True),
        _metric("train", "binary_classification_cross_entropy", maximize=False),
        _metric("validation", "discriminator_auc", maximize=True),
    ),
    train=train,
    serve=handler,
)
