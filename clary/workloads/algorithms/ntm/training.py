"""Training NTM: stochastic variational inference until the loss of held-out documents stops falling."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from typing import Any

import numpy as np
import torch

from clary.workloads.algorithms.algorithm import Algorithm
from clary.workloads.algorithms.first_party import device, gradients
from clary.workloads.algorithms.first_party.errors import ClientError
from clary.workloads.algorithms.first_party.examples import Examples, Wanted
from clary.workloads.algorithms.first_party.session import Session, session
from clary.workloads.algorithms.job import Job
from clary.workloads.algorithms.ntm.network import TopicNetwork, topic_uniqueness

SEED = 0
BEST_WORDS = 10
ROWS_AT_ONCE = 1024
VOCABULARY = "vocab.txt"


def train(job: Job, algorithm: Algorithm) -> None:
    with session(job, algorithm) as run:
        wanted = Wanted(labels=False, feature_dim=run.values["feature_dim"])
        vocabulary = _vocabulary(run)
        examples, total = run.read_training(wanted)
        held_out = {name: run.read(name, wanted) for name in ("validation", "test")}
        for name, found in (("train", examples), *held_out.items()):
            _check_counts(name, found)
        started = time.monotonic()
        trainer = Trainer(run)
        epochs = trainer.fit(examples, held_out["validation"], total)
        if "validation" in job.channels:
            _report(run, "validation", trainer.loss(held_out["validation"]))
        if "test" in job.channels:
            _report(run, "test", trainer.loss(held_out["test"]))
        if vocabulary:
            _tell_topics(run, trainer.network, vocabulary)
        run.finished(total * epochs, time.monotonic() - started)
        run.save(trainer.network.arrays(), **_shape(run))


def _shape(run: Session) -> dict[str, Any]:
    values = run.values
    return {
        "feature_dim": values["feature_dim"],
        "num_topics": values["num_topics"],
        "layers": layers(values),
        "activation": values["encoder_layers_activation"],
        "batch_norm": values["batch_norm"],
    }


def layers(values: Any) -> list[int]:
    """The widths of the encoder; `auto` is three and two times the number of topics."""
    if values["encoder_layers"] == "auto":
        return [3 * values["num_topics"], 2 * values["num_topics"]]
    return json.loads(values["encoder_layers"])


class Trainer:
    """The network of one host and its optimiser."""

    def __init__(self, run: Session) -> None:
        values = run.values
        self.run, self.values = run, values
        self.device = device.choose(run.job, values["mini_batch_size"] * values["feature_dim"])
        run.log.say(f"Training on {self.device}")
        torch.manual_seed(SEED)  # all hosts start from the same weights
        self.network = TopicNetwork(
            values["feature_dim"],
            values["num_topics"],
            layers(values),
            values["encoder_layers_activation"],
            batch_norm=values["batch_norm"],
        ).to(self.device)
        torch.manual_seed(SEED + run.group.rank)  # and draw different noise
        self.optimizer = gradients.optimizer(
            values["optimizer"],
            self.network.parameters(),
            values["learning_rate"],
            values["weight_decay"],
        )
        self.random = np.random.default_rng(SEED + run.group.rank)

    def fit(self, examples: Examples, held_out: Examples | None, total: int) -> int:
        """The number of epochs until the loss had no better value for `num_patience_epochs`."""
        values, best, waited, done = self.values, np.inf, 0, 0
        watched = "validation" in self.run.job.channels
        for epoch in range(values["epochs"]):
            started = time.monotonic()
            loss, name = self._epoch(examples), "train"
            if watched:
                loss, name = self.loss(held_out), "validation"
            self.run.log.quality(name, "total_loss", loss, maximize=False, epoch=epoch)
            done = epoch + 1
            self.run.log.progress(done, values["epochs"])
            self.run.log.throughput(total, time.monotonic() - started)
            if not np.isfinite(loss):
                raise ClientError(
                    f"The loss is {loss} after epoch {epoch}: a smaller learning_rate or "
                    "clip_gradient keeps it finite."
                )
            waited = 0 if loss < best * (1 - values["tolerance"]) else waited + 1
            best = min(best, loss)
            if waited >= values["num_patience_epochs"]:
                self.run.log.say(f"The loss fell no more for {waited} epochs: training ends early.")
                break
        return done

    def _epoch(self, examples: Examples) -> float:
        """The mean loss of a document over this epoch's batches, of all hosts."""
        group, size = self.run.group, self.values["mini_batch_size"]
        count = int(np.ceil(examples.count * self.values["sub_sample"]))
        order = self.random.permutation(examples.count)[:count]
        steps = group.largest(-(-count // size))
        total = 0.0
        self.network.train()
        for step in range(steps):
            # A host with less data than the others has empty batches at the end.
            total += self._step(_rows(examples, order[step * size : (step + 1) * size]))
        return group.sum_of(total) / max(group.sum_of(count), 1)

    def _step(self, counts: torch.Tensor) -> float:
        self.optimizer.zero_grad()
        # One document has no variance that batch normalisation could divide by.
        if len(counts) > (1 if self.values["batch_norm"] else 0):
            reconstruction, divergence = self.network.losses(counts.to(self.device), sample=True)
            summed = (reconstruction + divergence).sum()
            (summed / len(counts) * self.values["rescale_gradient"]).backward()
            loss = float(summed.detach())
        else:
            loss = 0.0
        gradients.average(self.network.parameters(), self.run.group)
        if self.values["clip_gradient"] != "inf":
            torch.nn.utils.clip_grad_value_(self.network.parameters(), self.values["clip_gradient"])
        self.optimizer.step()
        return loss

    @torch.no_grad()
    def loss(self, examples: Examples | None) -> float:
        """The mean loss of a held-out document, of all hosts; without noise."""
        self.network.eval()
        total = 0.0
        for counts in _pieces(examples):
            reconstruction, divergence = self.network.losses(counts.to(self.device), sample=False)
            total += float((reconstruction + divergence).sum())
        count = self.run.group.sum_of(examples.count if examples else 0)
        return self.run.group.sum_of(total) / max(count, 1)


def _pieces(examples: Examples | None) -> Iterator[torch.Tensor]:
    for start in range(0, examples.count if examples else 0, ROWS_AT_ONCE):
        assert examples is not None
        stop = min(start + ROWS_AT_ONCE, examples.count)
        yield _rows(examples, np.arange(start, stop))


def _rows(examples: Examples, chosen: np.ndarray) -> torch.Tensor:
    rows = examples.features[chosen]
    return torch.from_numpy(rows.toarray() if examples.is_sparse else rows)


def _check_counts(name: str, examples: Examples | None) -> None:
    if examples is None or not examples.count:
        return
    least = examples.features.min()
    if least < 0:
        raise ClientError(
            f"Channel '{name}' has the value {least:g}: NTM takes the counts of words in "
            "documents, which are not negative."
        )


def _report(run: Session, channel: str, loss: float) -> None:
    run.log.quality(channel, "total_loss", loss, maximize=False)
    if channel == "test":
        run.log.score("total_loss", loss)


def _vocabulary(run: Session) -> list[str]:
    """The words of the auxiliary channel's vocab.txt, one for each feature."""
    if "auxiliary" not in run.job.channels:
        return []
    path = run.job.channels["auxiliary"].path / VOCABULARY
    if not path.is_file():
        raise ClientError(f"The auxiliary channel has no file {VOCABULARY}.")
    words = path.read_text(encoding="utf-8", errors="replace").splitlines()
    wanted = run.values["feature_dim"]
    if len(words) != wanted:
        raise ClientError(
            f"{VOCABULARY} has {len(words)} lines, where feature_dim is {wanted}: it needs one "
            "word for each feature."
        )
    return words


def _tell_topics(run: Session, network: TopicNetwork, vocabulary: list[str]) -> None:
    """The best words of each topic, with how much they are this topic's own (TU)."""
    scores = network.topics.detach().cpu().numpy()
    best = np.argsort(-scores, axis=1)[:, :BEST_WORDS]
    uniqueness = topic_uniqueness(best)
    run.log.say(
        "The coherence WETC needs word vectors that are not part of this image, so the topics are "
        "told with their uniqueness (TU) alone."
    )
    run.log.say(f"Topics from epoch:final (num_topics:{len(best)}) [tu {uniqueness.mean():.2f}]:")
    for words, own in zip(best, uniqueness):  # noqa: B905 - Python 3.8
        run.log.say(f"[{own:.2f}] {' '.join(vocabulary[word] for word in words)}")
