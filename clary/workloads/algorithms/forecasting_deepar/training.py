"""Training DeepAR: windows of all series, drawn at random, teach one network by gradient descent."""

from __future__ import annotations

import copy
import math
import time
from dataclasses import replace

import numpy as np
import torch

from clary.workloads.algorithms.algorithm import Algorithm
from clary.workloads.algorithms.first_party import device, gradients
from clary.workloads.algorithms.first_party.errors import ClientError
from clary.workloads.algorithms.first_party.session import Session, no_examples, session
from clary.workloads.algorithms.forecasting_deepar import (
    cardinality,
    dynamic_features,
    evaluation,
    quantiles,
)
from clary.workloads.algorithms.forecasting_deepar.forecaster import Forecaster
from clary.workloads.algorithms.forecasting_deepar.frequency import Frequency
from clary.workloads.algorithms.forecasting_deepar.likelihoods import LIKELIHOODS
from clary.workloads.algorithms.forecasting_deepar.series import Form, Panel, Series, panel, read
from clary.workloads.algorithms.forecasting_deepar.windows import Cutter, Scaling
from clary.workloads.algorithms.job import Job

OBSERVATIONS_MIN = 300
WINDOWS_MEASURED = 256
BATCHES_AN_EPOCH_MIN = 10
GRADIENT_NORM_MAX = 10.0
# The learning rate falls along a half cosine to this share of itself.
LAST_RATE_SHARE = 0.05


def train(job: Job, algorithm: Algorithm) -> None:
    with session(job, algorithm) as run:
        values = run.values
        form = Form(
            Frequency.parse(values["time_freq"]),
            cardinality(values["cardinality"]),
            dynamic_features(values["num_dynamic_feat"]),
            LIKELIHOODS[values["likelihood"]].support,
        )
        found = read(job.channels["train"], form)
        form = _complete(run, form, found)
        training = panel(found, form.dynamic or 0)
        _announce(run, training)
        trainer = Trainer(run, form, training)
        started = time.monotonic()
        windows, loss = trainer.fit()
        run.finished(windows, time.monotonic() - started, final_loss=loss)
        if "test" in job.channels:
            _test(run, trainer.model)
        trainer.model.save(run)


def _complete(run: Session, form: Form, found: list[Series]) -> Form:
    """The form with what `auto` leaves to the data of all hosts. Raises ClientError."""
    if not found:
        raise no_examples()
    total = int(run.group.sum_of(sum(len(one.target) for one in found)))
    if total < OBSERVATIONS_MIN:
        raise ClientError(
            f"The training data has {total} observations in all its time series together; at "
            f"least {OBSERVATIONS_MIN} are required."
        )
    width, dynamic = len(found[0].categories), len(found[0].dynamic)
    if (run.group.largest(width), run.group.largest(dynamic)) != (width, dynamic):
        raise ClientError("The hosts' series differ in their number of cat or dynamic_feat.")
    sizes = form.cardinality
    if sizes is None:
        greatest = [max(one.categories[at] for one in found) for at in range(width)]
        sizes = [run.group.largest(one) + 1 for one in greatest]
    return replace(form, cardinality=sizes, dynamic=dynamic)


def _announce(run: Session, training: Panel) -> None:
    missing = int(np.isnan(training.target).sum())
    run.log.say(
        f"Read {training.count} time series with {training.target.size} observations, "
        f"{missing} of them missing; the shortest has {training.lengths.min()}, the longest "
        f"{training.lengths.max()}; {len(training.dynamic)} dynamic features, "
        f"{training.categories.shape[1]} categories"
    )
    if training.lengths.max() <= run.values["prediction_length"]:
        run.log.say("No time series is longer than prediction_length.", "WARNING")


def _test(run: Session, model: Forecaster) -> None:
    """Score the test series; hosts that have the same share them."""
    channel = run.job.channels["test"]
    found = read(channel, model.form)
    run.log.say(f"Read {len(found)} time series of channel 'test'")
    every = 1 if channel.sharded else run.group.size
    rows = np.arange(0 if channel.sharded else run.group.rank, len(found), every)
    levels = quantiles(run.values["test_quantiles"])
    data = panel(found, model.form.dynamic or 0)
    own = evaluation.sums(model, data, rows, levels, run.values["num_eval_samples"])
    evaluation.report(run, run.group.sum(own), levels)


def _scaling(
    total: float, squares: float, absolute: float, known: float, *, is_centred: bool
) -> Scaling:
    """The scaling of windows without a known value is that of all known values."""
    if not known:
        raise ClientError("All values of the training data are missing.")
    if not is_centred:
        return Scaling(is_centred=False, default_scale=absolute / known or 1.0)
    level = total / known
    deviation = math.sqrt(max(squares / known - level**2, 0.0))
    return Scaling(is_centred=True, default_level=level, default_scale=deviation or 1.0)


class Trainer:
    """The model and its optimiser."""

    def __init__(self, run: Session, form: Form, training: Panel) -> None:
        self.run, self.values, self.training = run, run.values, training
        length = run.values["context_length"] + run.values["prediction_length"]
        values_a_step = run.values["mini_batch_size"] * run.values["num_cells"] * 4
        self.device = device.choose(run.job, values_a_step)
        run.log.say(f"Training on {self.device}")
        torch.manual_seed(0)
        self.random = np.random.default_rng(run.group.rank)
        self.model = Forecaster.make(run.values, form, self._cutter(form))
        self.network = self.model.network.to(self.device)
        rate = run.values["learning_rate"]
        self.optimizer = gradients.optimizer("adam", self.network.parameters(), rate)
        windows = max(training.count, training.target.size // length)
        batches = max(BATCHES_AN_EPOCH_MIN, -(-windows // run.values["mini_batch_size"]))
        self.batches = run.group.largest(batches)

    def _cutter(self, form: Form) -> Cutter:
        """Means and deviations are those of the data of all hosts."""
        target, dynamic = self.training.target.astype(np.float64), self.training.dynamic
        sums = np.concatenate(
            [
                [np.nansum(target), np.nansum(target**2), np.nansum(np.abs(target))],
                [(~np.isnan(target)).sum(), target.size],
                dynamic.sum(axis=1, dtype=np.float64),
                (dynamic.astype(np.float64) ** 2).sum(axis=1),
            ]
        )
        sums = self.run.group.sum(sums)
        means, squares = np.split(sums[5:] / sums[4], 2)
        deviations = np.sqrt(np.maximum(squares - means**2, 0))
        cutter = Cutter(
            form.frequency,
            self.values["context_length"],
            self.values["prediction_length"],
            _scaling(*sums[:4], is_centred=form.support == "all"),
            means,
            np.where(deviations > 1e-6 * np.maximum(np.abs(means), 1e-6), deviations, 1.0),
        )
        return replace(cutter, scaling=self._with_usual_share(cutter))

    def _with_usual_share(self, cutter: Cutter) -> Scaling:
        """How far values of one context are from one another, as a share of their mean."""
        rows, origins = self._drawn(WINDOWS_MEASURED)
        context = slice(cutter.reach, cutter.reach + max(cutter.context, cutter.prediction))
        windows = cutter.cut(self.training, rows, origins)
        values, known = windows.target[:, context].numpy(), windows.known[:, context].numpy()
        values = np.where(known, values, np.nan)[known.sum(axis=1) > 1].astype(np.float64)
        sums = np.array([np.nanstd(values, axis=1).sum(), np.abs(np.nanmean(values, axis=1)).sum()])
        spread, size = self.run.group.sum(sums)
        share = spread / size if spread and size else 1.0
        return replace(cutter.scaling, usual_share=float(share))

    def fit(self) -> tuple[int, float]:
        """How many windows were seen, and the least loss, whose weights the model keeps."""
        epochs, patience = self.values["epochs"], self.values.get("early_stopping_patience")
        best, best_epoch, kept, seen = math.inf, 0, copy.deepcopy(self.network.state_dict()), 0
        for epoch in range(epochs):
            started = time.monotonic()
            self._set_rate(epoch / epochs)
            loss = self._epoch(epoch)
            windows = self.batches * self.values["mini_batch_size"]
            seen += windows
            self.run.log.progress(epoch + 1, epochs)
            self.run.log.throughput(windows, time.monotonic() - started)
            if not math.isfinite(loss):
                raise ClientError(
                    f"The loss is {loss}: a smaller learning_rate, or data of a smaller range, "
                    "keeps it finite."
                )
            if loss < best:
                best, best_epoch = loss, epoch
                kept = copy.deepcopy(self.network.state_dict())
            elif patience and epoch - best_epoch >= patience:
                self.run.log.say(
                    f"Early stopping condition met: the loss fell no more for {patience} epochs."
                )
                break
        self.network.load_state_dict(kept)
        self.run.log.say(f"Final loss: {best!r} (occurred at epoch {best_epoch})")
        self.run.log.quality("train", "final_loss", best, maximize=False)
        return seen, best

    def _set_rate(self, done: float) -> None:
        share = 0.5 * (1 + math.cos(math.pi * done))
        rate = self.values["learning_rate"] * (LAST_RATE_SHARE + (1 - LAST_RATE_SHARE) * share)
        for group in self.optimizer.param_groups:
            group["lr"] = rate

    def _epoch(self, epoch: int) -> float:
        self.network.train()
        total = np.zeros(2)
        for batch in range(self.batches):
            self.optimizer.zero_grad()
            rows, origins = self._drawn(self.values["mini_batch_size"])
            cut = self.model.cutter.cut(self.training, rows, origins).to(self.device)
            loss, known = self.network.loss(cut)
            (loss / known.clamp(min=1)).backward()
            gradients.average(self.network.parameters(), self.run.group)
            torch.nn.utils.clip_grad_norm_(self.network.parameters(), GRADIENT_NORM_MAX)
            self.optimizer.step()
            total += np.array([float(loss.detach()), float(known)])
            if not batch:
                self.run.log.say(
                    f"#quality_metric: host={self.run.log.host}, epoch={epoch}, batch=0 train "
                    f"loss <loss>={total[0] / max(total[1], 1)!r}"
                )
        loss_sum, count = self.run.group.sum(total)
        mean = float(loss_sum / max(count, 1))
        self.run.log.quality("train", "loss", mean, maximize=False, epoch=epoch)
        return mean

    def _drawn(self, count: int) -> tuple[np.ndarray, np.ndarray]:
        """Series, each as likely as another, and in each an origin, each as likely as another."""
        rows = self.random.integers(0, self.training.count, count)
        last = np.maximum(self.training.lengths[rows] - self.values["prediction_length"], 0)
        return rows, self.random.integers(0, last + 1)
