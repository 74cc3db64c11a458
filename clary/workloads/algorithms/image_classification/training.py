"""Training an image classifier, with the log lines of the container that users look for."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.nn import functional

from clary.workloads.algorithms.algorithm import Algorithm
from clary.workloads.algorithms.image_classification.labels import MULTI_HOT, targets
from clary.workloads.algorithms.image_classification.pixels import Shape, load
from clary.workloads.algorithms.job import Job
from clary.workloads.algorithms.vision import learning, weights
from clary.workloads.algorithms.vision.batches import batches, in_order, shuffled
from clary.workloads.algorithms.vision.resnet import ResNet
from clary.workloads.algorithms.vision.run import SEED, Run, run
from clary.workloads.algorithms.vision.samples import Sample

BATCHES_A_LINE = 20
NAME = "image-classification"


@dataclass(frozen=True)
class Labelled:
    """A channel: its samples and a target for each."""

    samples: list[Sample]
    targets: np.ndarray


@dataclass
class Tally:
    """Sums over images: how many, how many right, how many with the class among the first k."""

    sums: list[float] = field(default_factory=lambda: [0.0, 0.0, 0.0])

    def add(self, more: list[float]) -> None:
        self.sums = [one + other for one, other in zip(self.sums, more)]  # noqa: B905 - three

    @property
    def accuracy(self) -> float:
        return self.sums[1] / max(self.sums[0], 1)

    @property
    def top(self) -> float:
        return self.sums[2] / max(self.sums[0], 1)


class Trainer:
    """The network of one host, and how it learns from a batch."""

    def __init__(self, around: Run, training: Labelled) -> None:
        self.run, self.values = around, around.values
        self.shape = Shape.parse(self.values["image_shape"])
        self.is_multi = self.values["multi_label"] == "1"
        self.document = document(self.values)
        self.network = ResNet(
            int(self.values["num_layers"]), self.values["num_classes"], self.shape.channels
        )
        self.first_epoch = around.start(self.network, self.document)
        self.network.to(around.device, memory_format=torch.channels_last)
        self.shared: nn.Module = around.replicas.shared(self.network)
        self.optimizer = learning.optimizer(self.values, self.network)
        self.half = self.values["precision_dtype"] == "float16" and around.device.type == "cuda"
        self.scaler = torch.amp.GradScaler(around.device.type, enabled=self.half)
        self.weight = self._weight(training.targets)

    def _weight(self, truth: np.ndarray) -> torch.Tensor | None:
        """What an image with a class counts against one without, where classes are rare."""
        if not self.is_multi or self.values["use_weighted_loss"] == "0":
            return None
        shown = truth.sum(axis=0)
        weight = (len(truth) - shown) / np.maximum(shown, 1)
        return torch.from_numpy(weight.astype(np.float32)).to(self.run.device)

    def loss(self, scores: torch.Tensor, truth: torch.Tensor) -> torch.Tensor:
        if self.is_multi:
            return functional.binary_cross_entropy_with_logits(
                scores, truth, pos_weight=self.weight
            )
        return functional.cross_entropy(scores, truth)

    def step(self, images: torch.Tensor, truth: torch.Tensor) -> list[float]:
        self.optimizer.zero_grad(set_to_none=True)
        with torch.autocast(self.run.device.type, torch.float16, enabled=self.half):
            scores = self.shared(images)
            loss = self.loss(scores, truth)
        self.scaler.scale(loss).backward()
        self.scaler.step(self.optimizer)
        self.scaler.update()
        return self.count(scores.detach(), truth)

    def count(self, scores: torch.Tensor, truth: torch.Tensor) -> list[float]:
        """Images, right ones (a share of the classes, if images have several), and top-k ones."""
        if self.is_multi:
            right = ((scores > 0) == (truth > 0.5)).float().mean(dim=1).sum()
            return [float(len(truth)), float(right), 0.0]
        right = (scores.argmax(dim=1) == truth).sum()
        first = min(self.values["top_k"] or 1, scores.shape[1])
        top = (scores.topk(first, dim=1).indices == truth[:, None]).sum()
        return [float(len(truth)), float(right), float(top)]

    def place(self, loaded: list[tuple[np.ndarray, Any]]) -> tuple[torch.Tensor, torch.Tensor]:
        images = torch.from_numpy(np.stack([image for image, _ in loaded]))
        truth = torch.from_numpy(np.array([one for _, one in loaded]))
        device = self.run.device
        return images.to(device, memory_format=torch.channels_last), truth.to(device)

    def save(self, epoch: int) -> None:
        path = self.run.job.model / f"{NAME}-{epoch + 1:04d}.params"
        weights.save(path, self.network, self.document)
        self.run.say(f'Saved checkpoint to "{path}"')


def document(values: Any) -> dict[str, Any]:
    """Which network it is: what serving and incremental training must know."""
    names = ("num_classes", "num_layers", "image_shape", "multi_label")
    return {"algorithm_name": NAME, **{name: values[name] for name in names}}


def train(job: Job, algorithm: Algorithm) -> None:
    shape = Shape.parse(job.hyperparameters["image_shape"])
    with run(job, algorithm, shape.height * shape.width) as around:
        training = _labelled(around, "train")
        around.counted(training.samples)
        validation = _labelled(around, "validation")
        if around.values["precision_dtype"] == "float16" and around.device.type == "cpu":
            around.say("precision_dtype=float16 has no effect here: there is no GPU.", "WARNING")
        trainer = Trainer(around, training)
        stopping = learning.EarlyStopping.of(around.values)
        epochs, last = around.values["epochs"], trainer.first_epoch - 1
        for epoch in range(trainer.first_epoch, epochs):
            last = epoch
            _epoch(around, trainer, training, epoch)
            value = _validate(around, trainer, validation, epoch)
            around.checkpoint(trainer.network, trainer.document, epoch)
            around.session.log.progress(epoch + 1, epochs)
            frequency = around.values["checkpoint_frequency"]
            if frequency and (epoch + 1) % frequency == 0 and around.session.group.is_first:
                trainer.save(epoch)
            if value is not None and stopping.is_over(value, epoch):
                around.say(f"Early stopping after epoch {epoch}: no more gain in accuracy")
                break
        if around.session.group.is_first:
            trainer.save(last)
            _describe(around, trainer)


def _labelled(around: Run, name: str) -> Labelled:
    found = around.samples(name, f"{name}_lst")
    channel = around.job.channels.get(name)
    label_format = channel.parameters.get("label-format", MULTI_HOT) if channel else MULTI_HOT
    return Labelled(found, targets(found, name, around.values, label_format))


def _epoch(around: Run, trainer: Trainer, training: Labelled, epoch: int) -> None:
    values, started = around.values, time.monotonic()
    steps = learning.epochs_of(values["lr_scheduler_step"])
    rate = learning.step_rate(values["learning_rate"], values["lr_scheduler_factor"], steps, epoch)
    learning.set_rate(trainer.optimizer, rate)
    random = np.random.default_rng([SEED, epoch, around.replicas.rank])
    size = values["mini_batch_size"]
    plan = shuffled(len(training.samples), size, around.steps(len(training.samples)), random)

    def loaded(at: int) -> tuple[np.ndarray, Any]:
        own = np.random.default_rng([SEED, epoch, at])
        blob = training.samples[at].image
        return load(blob, trainer.shape, values, own), training.targets[at]

    trainer.network.train()
    whole, part, since = Tally(), Tally(), time.monotonic()
    for number, batch in enumerate(batches(plan, loaded, around.job.threads), 1):
        part.add(trainer.step(*trainer.place(batch)))
        if number % BATCHES_A_LINE == 0 or number == len(plan):
            speed = part.sums[0] / max(time.monotonic() - since, 1e-9)
            around.say(
                f"Epoch[{epoch}] Batch [{number}]\tSpeed: {speed:.2f} samples/sec\t"
                f"accuracy={part.accuracy:.6f}"
            )
            whole.add(part.sums)
            part, since = Tally(), time.monotonic()
    whole.sums = around.replicas.sum(whole.sums)
    _report(around, "Train", whole, epoch)
    around.say(f"Epoch[{epoch}] Time cost={time.monotonic() - started:.3f}")


@torch.no_grad()
def _validate(around: Run, trainer: Trainer, found: Labelled, epoch: int) -> float | None:
    """The accuracy on the validation channel of all hosts; None where there is none."""
    if "validation" not in around.job.channels:
        return None
    trainer.network.eval()

    def loaded(at: int) -> tuple[np.ndarray, Any]:
        return load(found.samples[at].image, trainer.shape, around.values, None), found.targets[at]

    tally = Tally()
    plan = in_order(len(found.samples), around.values["mini_batch_size"])
    for batch in batches(plan, loaded, around.job.threads):
        images, truth = trainer.place(batch)
        tally.add(trainer.count(trainer.network(images), truth))
    tally.sums = around.replicas.sum(tally.sums)
    _report(around, "Validation", tally, epoch)
    return tally.accuracy


def _report(around: Run, channel: str, tally: Tally, epoch: int) -> None:
    around.say(f"Epoch[{epoch}] {channel}-accuracy={tally.accuracy:.6f}")
    if around.values["top_k"] and around.values["multi_label"] == "0":
        name = f"top_k_accuracy_{around.values['top_k']}"
        around.say(f"Epoch[{epoch}] {channel}-{name}={tally.top:.6f}")


def _describe(around: Run, trainer: Trainer) -> None:
    """The two small files that lie beside the weights in SageMaker's artifact."""
    folder, shape = around.job.model, trainer.shape
    weights.write_document(folder / f"{NAME}-symbol.json", trainer.document)
    size = [1, shape.channels, shape.height, shape.width]
    weights.write_document(folder / "model-shapes.json", [{"shape": size, "name": "data"}])
