"""One training of an algorithm for images: the device, the other hosts, and room for what a pipe brings."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from clary.workloads.algorithms.algorithm import Algorithm
from clary.workloads.algorithms.first_party import device as devices
from clary.workloads.algorithms.first_party.errors import ClientError
from clary.workloads.algorithms.first_party.session import Session, session
from clary.workloads.algorithms.job import Job
from clary.workloads.algorithms.vision import samples, weights
from clary.workloads.algorithms.vision.replicas import Replicas, replicas
from clary.workloads.algorithms.vision.resnet import WIDTH
from clary.workloads.algorithms.vision.samples import Sample

SEED = 0
CHECKPOINT = "checkpoint.params"


@dataclass
class Run:
    """What the training functions are given."""

    session: Session
    device: torch.device
    replicas: Replicas
    spool: Path
    _given: weights.Weights | None = None

    @property
    def job(self) -> Job:
        return self.session.job

    @property
    def values(self) -> Mapping[str, Any]:
        return self.session.values

    def say(self, text: str, level: str = "INFO") -> None:
        self.session.log.say(text, level)

    def samples(self, name: str, lists: str = "") -> list[Sample]:
        """The samples of a channel; none where it is absent. `lists` is the channel of lists."""
        channel = self.job.channels.get(name)
        if channel is None:
            return []
        if lists and samples.is_listed(channel, has_lists=lists in self.job.channels):
            if lists not in self.job.channels:
                raise ClientError(
                    f"Missing required channel: {lists}. Channel '{name}' holds images "
                    f"({channel.declared_type}), whose labels are in .lst files there."
                )
            found = samples.listed(channel, self.job.channels[lists])
        else:
            found = samples.recorded(channel, self.spool)
        self.say(f"Found {len(found)} images in channel '{name}'")
        return found

    def steps(self, count: int) -> int:
        """How many batches this epoch has on every host."""
        hosts = self.replicas.size
        # Hosts that all see all data share them out; sharded data are shared out already.
        own = count if self.job.channels["train"].sharded else -(-count // hosts)
        return max(1, self.session.group.largest(own // self.values["mini_batch_size"]))

    def counted(self, training: list[Sample]) -> None:
        """Stop where there is nothing to learn; tell a num_training_samples that is not true."""
        if not training:
            raise ClientError(
                "No training data processed: the train channel has no image. Verify that it is "
                "not empty and that its ContentType is that of its data."
            )
        stated = self.values["num_training_samples"]
        total = len(training)
        if self.job.channels["train"].sharded:
            total = int(self.session.group.sum_of(total))
        if stated != total:
            self.say(
                f"num_training_samples is {stated}, but the train channel has {total} images; "
                "the images that are there count.",
                "WARNING",
            )

    def start(self, network: nn.Module, document: Mapping[str, Any], *, prefix: str = "") -> int:
        """Weights for the network, and the first epoch: of a checkpoint, a model, or neither."""
        resumed = self._resume(network, document)
        if resumed is not None:
            return resumed
        found = self.given()
        if found is not None:
            self._same_network(found, document)
            adopted, total = weights.adopt(network, found, prefix=prefix)
            if not adopted:
                raise ClientError(
                    f"None of the weights in channel 'model' ({found.source}) has the name and "
                    "shape of one of this network's. Use a model of the same hyperparameters."
                )
            self.say(f"Training starts from {found.source}: {adopted} of {total} arrays fit")
        elif self.values.get("use_pretrained_model"):
            self.say(
                "use_pretrained_model is set, but no pretrained weights are at hand: they are not "
                "downloaded here. TRAINING STARTS FROM RANDOM WEIGHTS. Bring weights in a channel "
                "named 'model' (the model.tar.gz of a training job, or a .pth file of published "
                "weights of this network) to start from them.",
                "WARNING",
            )
        return 0

    def given(self) -> weights.Weights | None:
        """The weights in the `model` channel; None where the job has no such channel."""
        if self._given is None and "model" in self.job.channels:
            self._given = weights.in_channel(self.job.channels["model"])
        return self._given

    def width(self) -> int:
        """How many channels the first stage of a backbone has.

        Without weights to start from, a processor gets a network a quarter as wide: that learns
        sixteen times faster, and from few images as well.
        """
        given = self.given()
        if given is not None:
            return int(given.document.get("width", WIDTH))
        if self.device.type == "cuda":
            return WIDTH
        self.say(
            "There is no GPU and no model to start from: the backbone is built with a quarter of "
            "its channels. Bring weights in a channel named 'model' for the full width."
        )
        return WIDTH // 4

    def _same_network(self, found: weights.Weights, document: Mapping[str, Any]) -> None:
        for name, own in document.items():
            theirs = found.document.get(name, own)
            if theirs != own:
                raise ClientError(
                    f"The model in channel 'model' was trained with {name}={theirs}, this job has "
                    f"{own}. Incremental training needs the same network."
                )

    def _resume(self, network: nn.Module, document: Mapping[str, Any]) -> int | None:
        folder = self.job.checkpoints
        path = folder / CHECKPOINT if folder is not None else None
        if path is None or not path.is_file():
            return None
        try:
            found = weights.parse(path.read_bytes(), path.name)
            network.load_state_dict(dict(found.arrays))
            epoch = int(found.document["epoch"])
        except (ValueError, KeyError, RuntimeError) as problem:
            raise ClientError(
                f"The checkpoint {path} cannot be continued: {problem}. Empty the S3 folder of "
                "CheckpointConfig to start anew."
            ) from problem
        self._same_network(found, document)
        self.say(f"Training continues after epoch {epoch} from the checkpoint {path}")
        return epoch + 1

    def checkpoint(self, network: nn.Module, document: Mapping[str, Any], epoch: int) -> None:
        """Kept by the first host, if the job has a CheckpointConfig."""
        if self.job.checkpoints is not None and self.session.group.is_first:
            path = self.job.checkpoints / CHECKPOINT
            weights.save(path, network, {**document, "epoch": epoch})


@contextmanager
def run(job: Job, algorithm: Algorithm, pixels: int) -> Iterator[Run]:
    """`pixels` is how many of them an image has for the network."""
    with (
        session(job, algorithm) as opened,
        tempfile.TemporaryDirectory(prefix="clary-samples-") as spool,
    ):
        device = devices.choose(job, 3 * pixels * job.hyperparameters["mini_batch_size"])
        opened.log.say(f"Training on {device}")
        torch.manual_seed(SEED)  # all hosts start from the same weights
        with replicas(job, device) as others:
            yield Run(opened, device, others, Path(spool))
