"""Training a detector, with the log lines of the container that users look for."""

from __future__ import annotations

import re
import time
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import nn

from clary.workloads.algorithms.algorithm import Algorithm
from clary.workloads.algorithms.job import Job
from clary.workloads.algorithms.object_detection import annotation_files
from clary.workloads.algorithms.object_detection.anchors import boxes_of, detections
from clary.workloads.algorithms.object_detection.network import Detector, losses
from clary.workloads.algorithms.object_detection.pixels import load
from clary.workloads.algorithms.object_detection.precision import mean_average_precision
from clary.workloads.algorithms.vision import learning, samples, weights
from clary.workloads.algorithms.vision.batches import batches, in_order, shuffled
from clary.workloads.algorithms.vision.epochs import learn
from clary.workloads.algorithms.vision.run import SEED, Run, run
from clary.workloads.algorithms.vision.samples import Sample

BATCHES_A_LINE = 20
NAME = "object-detection"
FILE = "model_algo_1-0000.params"
GRADIENT_MAX = 10.0

Loaded = tuple[np.ndarray, np.ndarray]


@dataclass(frozen=True)
class Annotated:
    """A channel: its samples and the boxes of each."""

    samples: list[Sample]
    boxes: list[np.ndarray]


class Trainer:
    """The network of one host, and how it learns from a batch."""

    def __init__(self, around: Run) -> None:
        self.run, self.values = around, around.values
        width = around.width()
        self.document = {
            "algorithm_name": NAME,
            "width": width,
            **{name: self.values[name] for name in ("num_classes", "base_network", "image_shape")},
        }
        base, classes = self.values["base_network"], self.values["num_classes"]
        self.network = Detector(base, classes, width)
        self.first_epoch = around.start(self.network, self.document, prefix="backbone.")
        self._freeze()
        self.network.to(around.device, memory_format=torch.channels_last)
        self.shared: nn.Module = around.replicas.shared(self.network)
        self.optimizer = learning.optimizer(self.values, self.network)

    def _freeze(self) -> None:
        pattern = self.values["freeze_layer_pattern"]
        frozen = 0
        for name, weight in self.network.named_parameters():
            if pattern and re.match(pattern, name):
                weight.requires_grad_(False)
                frozen += 1
        if pattern:
            self.run.say(f"freeze_layer_pattern '{pattern}' keeps {frozen} arrays as they are")

    def step(self, batch: list[Loaded]) -> dict[str, float]:
        self.optimizer.zero_grad(set_to_none=True)
        scores, differences, anchors = self.shared(self.images(batch))
        truth = [torch.from_numpy(boxes) for _, boxes in batch]
        found = losses(scores, differences, anchors, truth)
        total = found["cross_entropy"] + found["smooth_l1"]
        total.backward()
        nn.utils.clip_grad_norm_(self.network.parameters(), GRADIENT_MAX)
        self.optimizer.step()
        return {name: float(value.detach()) for name, value in found.items()}

    def images(self, batch: list[Loaded]) -> torch.Tensor:
        stacked = torch.from_numpy(np.stack([image for image, _ in batch]))
        return stacked.to(self.run.device, memory_format=torch.channels_last)


def train(job: Job, algorithm: Algorithm) -> None:
    with run(job, algorithm, job.hyperparameters["image_shape"] ** 2) as around:
        training = _annotated(around, "train")
        around.counted(training.samples)
        validation = _annotated(around, "validation")
        trainer = Trainer(around)
        learn(
            around,
            trainer,
            "mAP",
            epoch=lambda at: _epoch(around, trainer, training, at),
            validate=lambda at: _validate(around, trainer, validation, at),
            keep=lambda: _save(around, trainer),
        )


def _save(around: Run, trainer: Trainer) -> None:
    """The best so far, kept by the first host."""
    if around.session.group.is_first:
        settings = {"nms_threshold": around.values["nms_threshold"], **trainer.document}
        weights.save(around.job.model / FILE, trainer.network, settings)
        weights.write_document(around.job.model / "hyperparams.json", settings)
        weights.write_document(around.job.model / "model_algo_1-symbol.json", trainer.document)


def _annotated(around: Run, name: str) -> Annotated:
    channels, lists = around.job.channels, f"{name}_annotation"
    has_lists = lists in channels
    if name in channels and has_lists and samples.is_listed(channels[name], has_lists=True):
        found = annotation_files.annotated(channels[name], channels[lists])
        around.say(f"Found {len(found)} annotated images in channel '{name}'")
    else:
        found = around.samples(name, lists)
    classes = around.values["num_classes"]
    return Annotated(found, [annotation_files.boxes(one, name, classes) for one in found])


def _epoch(around: Run, trainer: Trainer, training: Annotated, epoch: int) -> None:
    values, started = around.values, time.monotonic()
    falls = learning.epochs_of(values["lr_scheduler_step"])
    rate = learning.step_rate(values["learning_rate"], values["lr_scheduler_factor"], falls, epoch)
    learning.set_rate(trainer.optimizer, rate)
    random = np.random.default_rng([SEED, epoch, around.replicas.rank])
    size, count = values["mini_batch_size"], len(training.samples)
    plan = shuffled(count, size, around.steps(count), random)

    def loaded(at: int) -> Loaded:
        own = np.random.default_rng([SEED, epoch, at])
        blob = training.samples[at].image
        return load(blob, training.boxes[at], values["image_shape"], own)

    trainer.network.train()
    sums = {"cross_entropy": 0.0, "smooth_l1": 0.0}
    host = around.job.host
    for number, batch in enumerate(batches(plan, loaded, around.job.threads)):
        for name, value in trainer.step(batch).items():
            sums[name] += value
            if number % BATCHES_A_LINE == 0 or number + 1 == len(plan):
                mean = sums[name] / (number + 1)
                around.say(
                    f"#quality_metric: host={host}, epoch={epoch}, batch={number} "
                    f"train {name} <loss>={mean!r}"
                )
    for name, value in sums.items():
        around.say(
            f"#quality_metric: host={host}, epoch={epoch}, train {name} "
            f"<loss>=({value / len(plan)!r})"
        )
    around.session.log.throughput(len(plan) * size, time.monotonic() - started)


@torch.no_grad()
def _validate(around: Run, trainer: Trainer, found: Annotated, epoch: int) -> float | None:
    """The mAP on the validation channel, the mean over the hosts; None where there is none."""
    if "validation" not in around.job.channels:
        return None
    trainer.network.eval()
    values = around.values

    def loaded(at: int) -> Loaded:
        return load(found.samples[at].image, found.boxes[at], values["image_shape"], None)

    results: list[np.ndarray] = []
    plan = in_order(len(found.samples), values["mini_batch_size"])
    for batch in batches(plan, loaded, around.job.threads):
        results += detected(trainer.network, trainer.images(batch), values["nms_threshold"])
    own = mean_average_precision(results, found.boxes, values["overlap_threshold"])
    score, hosts = around.replicas.sum([own, 1.0])
    score /= hosts
    place = f"host={around.job.host}, epoch={epoch}"
    around.say(f"#quality_metric: {place}, validation mAP <score>=({score!r})")
    return score


@torch.no_grad()
def detected(network: Detector, images: torch.Tensor, nms_threshold: float) -> list[Any]:
    """What the network finds in each image."""
    scores, differences, anchors = network(images)
    boxes = boxes_of(differences, anchors)
    probabilities = torch.softmax(scores, dim=2)
    return [
        detections(one, found, nms_threshold)
        for one, found in zip(probabilities, boxes)  # noqa: B905 - one each an image
    ]
