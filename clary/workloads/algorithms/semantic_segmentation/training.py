"""Training a segmentation, with the log lines of the container that users look for."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch.nn import functional

from clary.workloads.algorithms.algorithm import Algorithm
from clary.workloads.algorithms.first_party.errors import ClientError
from clary.workloads.algorithms.job import Job
from clary.workloads.algorithms.semantic_segmentation import masks, pixels
from clary.workloads.algorithms.semantic_segmentation.network import AUXILIARY_SHARE, Segmenter
from clary.workloads.algorithms.vision import learning, pictures, samples, weights
from clary.workloads.algorithms.vision.batches import batches, in_order, shuffled
from clary.workloads.algorithms.vision.epochs import learn
from clary.workloads.algorithms.vision.run import SEED, Run, run
from clary.workloads.algorithms.vision.samples import Sample

NAME = "semantic-segmentation"
FILE = "model_best.params"
DOCUMENTED = ("num_classes", "algorithm", "backbone")


@dataclass(frozen=True)
class Masked:
    """A channel: its samples, and what the values of their masks mean."""

    samples: list[Sample]
    table: np.ndarray | None


class Trainer:
    """The network, and how it learns from a batch."""

    def __init__(self, around: Run) -> None:
        self.run, self.values = around, around.values
        width = around.width()
        self.document = {
            "algorithm_name": NAME,
            "width": width,
            **{name: self.values[name] for name in DOCUMENTED},
        }
        layers = int(self.values["backbone"].rpartition("-")[2])
        self.network = Segmenter(
            self.values["algorithm"], layers, self.values["num_classes"], width
        )
        self.first_epoch = around.start(self.network, self.document, prefix="backbone.")
        self.network.to(around.device, memory_format=torch.channels_last)
        self.optimizer = learning.optimizer(self.values, self.network)

    def step(self, batch: list[pixels.Pair]) -> float:
        images, truth = self.place(batch)
        self.optimizer.zero_grad(set_to_none=True)
        main, auxiliary = self.network(images)
        loss = _loss(main, truth) + AUXILIARY_SHARE * _loss(auxiliary, truth)
        loss.backward()
        self.optimizer.step()
        return float(loss.detach())

    def place(self, batch: list[pixels.Pair]) -> tuple[torch.Tensor, torch.Tensor]:
        images = torch.from_numpy(np.stack([image for image, _ in batch]))
        truth = torch.from_numpy(np.stack([mask for _, mask in batch]))
        device = self.run.device
        return images.to(device, memory_format=torch.channels_last), truth.to(device)

    def set_rate(self, epoch: int, done: float) -> None:
        """`done` is the share of the whole training that lies behind."""
        values, kind = self.values, self.values["lr_scheduler"]
        first = values["learning_rate"]
        if kind == "step":
            falls = learning.epochs_of(values["lr_scheduler_step"])
            rate = learning.step_rate(first, values["lr_scheduler_factor"], falls, epoch)
        else:
            rate = learning.decaying_rate(kind, first, done)
        learning.set_rate(self.optimizer, rate)


def _loss(scores: torch.Tensor, truth: torch.Tensor) -> torch.Tensor:
    """Over the pixels that count; a batch may have none of these."""
    total = functional.cross_entropy(scores, truth, ignore_index=masks.IGNORED, reduction="sum")
    return total / (truth != masks.IGNORED).sum().clamp(min=1)


def train(job: Job, algorithm: Algorithm) -> None:
    if len(job.hosts) > 1:
        raise ClientError(
            f"Semantic segmentation trains on a single instance; this job has {len(job.hosts)}. "
            "Set InstanceCount to 1."
        )
    with run(job, algorithm, job.hyperparameters["crop_size"] ** 2) as around:
        training = _masked(around, "train")
        around.counted(training.samples)
        validation = _masked(around, "validation")
        trainer = Trainer(around)
        learn(
            around,
            trainer,
            "mIOU",
            epoch=lambda at: _epoch(around, trainer, training, at),
            validate=lambda at: _validate(around, trainer, validation, at),
            keep=lambda: _save(around, trainer),
        )


def _save(around: Run, trainer: Trainer) -> None:
    document = {"base_size": around.values["base_size"], **trainer.document}
    weights.save(around.job.model / FILE, trainer.network, document)
    weights.write_document(around.job.model / "hyperparams.json", document)


def _masked(around: Run, name: str) -> Masked:
    channels, other = around.job.channels, f"{name}_annotation"
    table = masks.label_map(channels.get("label_map"), name)
    channel = channels.get(name)
    if channel is None:
        return Masked([], table)
    if other not in channels or not samples.is_listed(channel, has_lists=True):
        # Records come in turns of image and mask; plain images without masks are told there.
        found = around.samples(name, other)
        if any(not isinstance(one.label, samples.Blob) for one in found):
            raise ClientError(
                f"Channel '{name}' has records without masks. An augmented manifest names the "
                "reference of an image and then that of its mask."
            )
    else:
        found = masks.paired(channel, channels[other])
        around.say(f"Found {len(found)} images with masks in channel '{name}'")
    return Masked(found, table)


def _epoch(around: Run, trainer: Trainer, training: Masked, epoch: int) -> None:
    values, started = around.values, time.monotonic()
    size, count = values["mini_batch_size"], len(training.samples)
    plan = shuffled(count, size, around.steps(count), np.random.default_rng([SEED, epoch]))

    def loaded(at: int) -> pixels.Pair:
        own = np.random.default_rng([SEED, epoch, at])
        image, mask = _pair(training, at, values["num_classes"])
        return pixels.shown(image, mask, values["base_size"], values["crop_size"], own)

    trainer.network.train()
    total = 0.0
    for number, batch in enumerate(batches(plan, loaded, around.job.threads)):
        trainer.set_rate(epoch, (epoch + number / len(plan)) / values["epochs"])
        total += trainer.step(batch)
    mean = total / len(plan)
    around.session.log.quality("train", "loss", mean, maximize=False, epoch=epoch)
    around.session.log.throughput(len(plan) * size, time.monotonic() - started)


def _pair(found: Masked, at: int, classes: int) -> tuple[Any, Any]:
    sample = found.samples[at]
    image = pictures.decode(sample.image.read(), sample.image.name)
    mask = masks.decode(sample.label, classes, found.table)
    if image.size != mask.size:
        raise ClientError(
            f"The image '{sample.image.name}' has {image.width} x {image.height} pixels, its mask "
            f"'{sample.label.name}' has {mask.width} x {mask.height}."
        )
    return image, mask


@torch.no_grad()
def _validate(around: Run, trainer: Trainer, found: Masked, epoch: int) -> float | None:
    """The mIOU on the validation channel; None where there is none."""
    if not found.samples:
        return None
    trainer.network.eval()
    values, classes = around.values, around.values["num_classes"]

    def loaded(at: int) -> pixels.Pair:
        return pixels.whole(*_pair(found, at, classes), values["crop_size"])

    confusion = np.zeros((classes, classes), dtype=np.float64)
    plan = in_order(len(found.samples), values["validation_mini_batch_size"])
    for batch in batches(plan, loaded, around.job.threads):
        images, truth = trainer.place(batch)
        said = trainer.network(images)[0].argmax(dim=1)
        counted = truth != masks.IGNORED
        places = (truth[counted] * classes + said[counted]).cpu().numpy()
        confusion += np.bincount(places, minlength=classes**2).reshape(classes, classes)
    scores = masks.scores(confusion)
    for name, value in scores.items():
        around.session.log.quality("validation", name, value, maximize=True, epoch=epoch)
    return scores["mIOU"]
