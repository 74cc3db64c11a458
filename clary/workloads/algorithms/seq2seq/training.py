"""Training Seq2Seq: batch by batch, judged at checkpoints, until the judged number is good no more."""

from __future__ import annotations

import copy
import math
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from itertools import islice
from typing import Any

import numpy as np
import torch
from torch.nn import functional

from clary.workloads.algorithms.algorithm import Algorithm
from clary.workloads.algorithms.first_party import device, gradients
from clary.workloads.algorithms.first_party.errors import ClientError
from clary.workloads.algorithms.first_party.session import Session, no_examples, session
from clary.workloads.algorithms.job import Job
from clary.workloads.algorithms.seq2seq import (
    ACCURACY,
    BLEU,
    CNN,
    PERPLEXITY,
    RNN,
    SCHEMA,
    checkpoints,
)
from clary.workloads.algorithms.seq2seq.beam_search import search
from clary.workloads.algorithms.seq2seq.bleu import bleu
from clary.workloads.algorithms.seq2seq.network import SequenceNetwork, initialize
from clary.workloads.algorithms.seq2seq.sentences import (
    Batch,
    Batcher,
    Pairs,
    Vocabulary,
    padded,
    read_pairs,
    read_vocabularies,
)

SEED = 0
SENTENCES_AT_ONCE = 32


def train(job: Job, algorithm: Algorithm) -> None:
    if len(job.hosts) > 1:
        raise ClientError("Seq2Seq trains on a single instance; set InstanceCount to 1.")
    with session(job, algorithm) as run:
        values = run.values
        for remark in _remarks(values, SCHEMA.defaults):
            run.log.say(remark, "WARNING")
        source, target = read_vocabularies(job.channels["vocab"])
        run.log.say(f"Read vocabularies of {source.size} and {target.size} words")
        lengths = values["max_seq_len_source"], values["max_seq_len_target"]
        found = {}
        for name in ("train", "validation"):
            found[name] = read_pairs(job.channels[name], source, target, lengths)
            run.log.say(f"Read {found[name].count} pairs of channel '{name}'")
            if not found[name].count:
                raise no_examples()
        trainer = Trainer(run, source, target, found["validation"])
        started = time.monotonic()
        seen = trainer.fit(found["train"])
        run.finished(seen, time.monotonic() - started)
        trainer.report(trainer.best, None)
        run.save(
            trainer.network.arrays(),
            values=dict(values),
            source=dict(source.ids),
            target=dict(target.ids),
        )


@dataclass
class Progress:
    """How far training is; `sums` are of the loss, of right words, and of words."""

    epoch: int = 0
    batches: int = 0
    batches_of_epoch: int = 0
    seen: int = 0
    sums: Any = field(default_factory=lambda: np.zeros(3))


class Trainer:
    """The network, its optimiser, and what the checkpoints have found so far."""

    def __init__(self, run: Session, source: Vocabulary, target: Vocabulary, held: Pairs) -> None:
        values = run.values
        self.run, self.values, self.target, self.held = run, values, target, held
        self.device = device.choose(run.job, _values_a_step(values))
        run.log.say(f"Training on {self.device}")
        torch.manual_seed(SEED)
        self.random = np.random.default_rng(SEED)
        self.network = SequenceNetwork(values, source.size, target.size).to(self.device)
        initialize(self.network, values)
        self.optimizer = gradients.optimizer(
            values["optimizer_type"],
            self.network.parameters(),
            values["learning_rate"],
            values["weight_decay"],
        )
        for group in self.optimizer.param_groups:
            if values["momentum"]:
                group["momentum"] = values["momentum"]
        width = values["bucket_width"] if values["bucketing_enabled"] else None
        self.batcher = Batcher(values["batch_size"], width, target)
        self.metric: str = values["optimized_metric"]
        self.best: dict[str, float] = {}
        self.kept = copy.deepcopy(self.network.state_dict())
        self.checkpoints = self.waited = 0

    def fit(self, pairs: Pairs) -> int:
        """How many pairs were seen; the network keeps the weights of the best checkpoint."""
        every, most = (
            self.values["checkpoint_frequency_num_batches"],
            self.values["max_num_batches"],
        )
        at, goes_on = self._resumed() or Progress(), True
        while goes_on and at.epoch != self.values["max_num_epochs"]:
            started, before = time.monotonic(), at.seen
            order = self.random.bit_generator.state
            for batch in islice(
                self.batcher.batches(pairs, self.random), at.batches_of_epoch, None
            ):
                at.sums = at.sums + self._learn(batch, at.batches)
                at.batches, at.seen = at.batches + 1, at.seen + len(batch.sources)
                at.batches_of_epoch += 1
                if at.batches % every == 0:
                    goes_on = self._checkpoint(at.sums, at.epoch, at.batches)
                    at.sums = np.zeros(3)
                    if goes_on:
                        self._keep(at, order)
                goes_on = goes_on and at.batches != most
                if not goes_on:
                    break
            at.epoch, at.batches_of_epoch = at.epoch + 1, 0
            if goes_on:
                self._keep(at, self.random.bit_generator.state)
            self._tell(at.epoch, at.batches, at.seen - before, time.monotonic() - started)
        if at.sums[2]:
            self._checkpoint(at.sums, at.epoch - 1, at.batches)
        self.network.load_state_dict(self.kept)
        return at.seen

    def _keep(self, at: Progress, order: Any) -> None:
        """What an interrupted job goes on from, if the job has a CheckpointConfig.

        `order` is the state of the random numbers before the epoch's batches were shuffled.
        """
        folder = self.run.job.checkpoints
        if folder is None:
            return
        state = {
            "progress": {**asdict(at), "sums": at.sums.tolist()},
            "order": order,
            "random": torch.get_rng_state(),
            "network": self.network.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "kept": self.kept,
            "best": self.best,
            "counts": [self.checkpoints, self.waited],
        }
        checkpoints.save(folder, state)

    def _resumed(self) -> Progress | None:
        folder = self.run.job.checkpoints
        found = checkpoints.load(folder, self.device) if folder is not None else None
        if folder is None or found is None:
            return None
        try:
            self.network.load_state_dict(found["kept"])
            self.kept = copy.deepcopy(self.network.state_dict())
            self.network.load_state_dict(found["network"])
            self.optimizer.load_state_dict(found["optimizer"])
            self.best, (self.checkpoints, self.waited) = dict(found["best"]), found["counts"]
            self.random.bit_generator.state = found["order"]
            torch.set_rng_state(found["random"].cpu())
            at = Progress(**found["progress"])
            at.sums = np.array(at.sums)
        except (KeyError, TypeError, ValueError, RuntimeError, AttributeError) as problem:
            raise checkpoints.unfit(folder, problem) from problem
        self.run.log.say(f"Training continues after {at.batches} batches from a checkpoint")
        return at

    def report(self, scores: Mapping[str, float], epoch: int | None) -> None:
        for name, value in scores.items():
            maximize = name != PERPLEXITY
            self.run.log.quality("validation", name, value, maximize=maximize, epoch=epoch)

    def _tell(self, epoch: int, batches: int, pairs: int, seconds: float) -> None:
        epochs, most = self.values["max_num_epochs"], self.values["max_num_batches"]
        if epochs:
            self.run.log.progress(epoch, epochs)
        elif most > 0:
            self.run.log.progress(batches, most)
        self.run.log.throughput(pairs, seconds)

    def _learn(self, batch: Batch, batches: int) -> np.ndarray:
        """One step; sums of the loss, of right words, and of words."""
        self._set_rate(batches)
        self.network.train()
        self.optimizer.zero_grad()
        loss, sums = self._loss(batch)
        loss.backward()
        if self.values["clip_gradient"]:
            limit = self.values["clip_gradient"]
            torch.nn.utils.clip_grad_value_(self.network.parameters(), limit)
        self.optimizer.step()
        return sums

    def _set_rate(self, batches: int) -> None:
        """The fixed schedules halve the rate after `fixed_rate_lr_half_life` checkpoints."""
        kind = self.values["lr_scheduler_type"]
        if kind == "plateau_reduce":
            return
        done = batches / self.values["checkpoint_frequency_num_batches"]
        lives = done / self.values["fixed_rate_lr_half_life"]
        below = 1 + lives if kind == "fixed_rate_inv_t" else math.sqrt(1 + 3 * lives)
        for group in self.optimizer.param_groups:
            group["lr"] = self.values["learning_rate"] / below

    def _loss(self, batch: Batch) -> tuple[torch.Tensor, np.ndarray]:
        batch = batch.to(self.device)
        scores = self.network(batch.sources, batch.inputs)
        known = batch.outputs != 0
        loss = functional.cross_entropy(
            scores.flatten(0, 1), batch.outputs.flatten(), ignore_index=0
        )
        right = ((scores.argmax(dim=-1) == batch.outputs) & known).sum()
        count = int(known.sum())
        return loss, np.array([float(loss.detach()) * count, float(right), count])

    def _checkpoint(self, sums: np.ndarray, epoch: int, batches: int) -> bool:
        """Judge the network; whether training goes on."""
        self.checkpoints += 1
        learned = _scores(sums)
        if not math.isfinite(learned[PERPLEXITY]):
            raise ClientError("The loss is not finite: a smaller learning_rate keeps it so.")
        name = self.values["training_metric"]
        self.run.log.quality("train", name, learned[name], maximize=name == ACCURACY, epoch=epoch)
        scores = self.judge()
        self.report(scores, epoch)
        sign = 1 if self.metric == PERPLEXITY else -1
        if not self.best or sign * scores[self.metric] < sign * self.best[self.metric]:
            self.best, self.waited = scores, 0
            self.kept = copy.deepcopy(self.network.state_dict())
        else:
            self.waited += 1
        self.run.log.say(
            f"Checkpoint [{self.checkpoints}] Updates={batches} Epoch={epoch} "
            f"best validation {self.metric}={self.best[self.metric]:g}"
        )
        self._reduce_rate()
        if self.waited < self.values["checkpoint_threshold"]:
            return True
        if epoch + 1 < self.values["min_num_epochs"]:
            return True
        self.run.log.say(
            f"validation {self.metric} has not improved for {self.waited} checkpoints: training "
            "ends."
        )
        return False

    def _reduce_rate(self) -> None:
        every = self.values["plateau_reduce_lr_threshold"]
        if self.values["lr_scheduler_type"] != "plateau_reduce":
            return
        if self.waited and self.waited % every == 0:
            for group in self.optimizer.param_groups:
                group["lr"] *= self.values["plateau_reduce_lr_factor"]
            self.run.log.say(f"learning rate reduced to {self.optimizer.param_groups[0]['lr']:g}")

    @torch.no_grad()
    def judge(self) -> dict[str, float]:
        """Perplexity and accuracy of the held-out words, and BLEU where the job asks for it."""
        self.network.eval()
        batches = self.batcher.batches(self.held, None)
        scores = _scores(sum((self._loss(batch)[1] for batch in batches), np.zeros(3)))
        size = self.values["bleu_sample_size"]
        if size or self.metric == BLEU:
            scores[BLEU] = self._bleu(self.held.first(size) if size > 0 else self.held)
        return scores

    def _bleu(self, sample: Pairs) -> float:
        found: list[list[int]] = []
        beam, longest = self.values["beam_size"], self.values["max_seq_len_target"]
        for start in range(0, sample.count, SENTENCES_AT_ONCE):
            sources = padded(sample.sources[start : start + SENTENCES_AT_ONCE]).to(self.device)
            best = search(self.network, sources, self.target, beam, longest)
            found += [one.ids for one in best]
        return bleu(found, [one.tolist() for one in sample.targets])


def _scores(sums: np.ndarray) -> dict[str, float]:
    loss, right, count = sums
    mean = loss / count
    perplexity = math.exp(mean) if mean < 700 else math.inf
    return {PERPLEXITY: perplexity, ACCURACY: float(right / count)}


def _remarks(values: Mapping[str, Any], defaults: Mapping[str, Any]) -> list[str]:
    """What the log says of hyperparameters that the job's other choices leave without effect."""
    kinds = values["encoder_type"], values["decoder_type"]
    idle = [(f"{kind}_", f"there is no {kind}") for kind in (RNN, CNN) if kind not in kinds]
    if values["optimizer_type"] == "adam":
        idle.append(("momentum", "adam has moments of its own"))
    if values["lr_scheduler_type"] == "plateau_reduce":
        idle.append(("fixed_rate_lr_half_life", "the rate is reduced on plateaus"))
    else:
        idle.append(("plateau_reduce_lr_", "the rate follows a fixed schedule"))
    if not values["rnn_residual_connections"]:
        idle.append(("rnn_first_residual_layer", "rnn_residual_connections is false"))
    return [
        f"Hyperparameter {name}={value} has no effect here: {why}."
        for name, value in values.items()
        for start, why in idle
        if name.startswith(start) and value != defaults[name]
    ]


def _values_a_step(values: Mapping[str, Any]) -> int:
    """How many numbers a batch of the longest targets holds, roughly."""
    hidden = values["rnn_num_hidden"] if values["decoder_type"] == RNN else values["cnn_num_hidden"]
    return values["batch_size"] * values["max_seq_len_target"] * hidden
