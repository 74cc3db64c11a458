"""Training text classification: epochs over the texts, the weights of the best one kept."""

from __future__ import annotations

import copy
import inspect
import shutil
from typing import Any

import numpy as np
import torch
from torch.nn import functional

from clary.workloads.algorithms.errors import AlgorithmError
from clary.workloads.algorithms.job import Job, log
from clary.workloads.algorithms.tabular import model_document
from clary.workloads.algorithms.tabular.declaration import Defaulted
from clary.workloads.algorithms.text_classification import encoders, texts
from clary.workloads.algorithms.text_classification.texts import Texts

FOLDER = "transformers"
SEED = 123
LENGTH_MAX = 512
_MOMENTS = {"betas": "betas", "eps": "epsilon"}
# The class of each optimiser, and which of its arguments is which hyperparameter.
OPTIMIZERS: dict[str, tuple[Any, dict[str, str]]] = {
    "adamw": (torch.optim.AdamW, _MOMENTS),
    "adam": (torch.optim.Adam, _MOMENTS),
    "sgd": (torch.optim.SGD, {"momentum": "momentum"}),
    "nesterov": (torch.optim.SGD, {"momentum": "momentum"}),
    "rmsprop": (torch.optim.RMSprop, {"alpha": "rho", "momentum": "momentum", "eps": "epsilon"}),
    "adagrad": (
        torch.optim.Adagrad,
        {"initial_accumulator_value": "initial_accumulator_value", "eps": "epsilon"},
    ),
    "adadelta": (torch.optim.Adadelta, {"rho": "rho", "eps": "epsilon"}),
}


def train(job: Job, hyperparameters: Defaulted) -> None:
    """Train on the first host, on its GPU if it has one."""
    hyperparameters.remark(job.hyperparameters)
    if not job.is_first:
        log("Text classification trains on the first host only.", "WARNING")
        return
    values = job.hyperparameters
    labels, found = texts.read(job.channels["training"])
    classes = texts.classes_of(labels)
    training = texts.encoded(labels, found, classes)
    if "validation" in job.channels:
        validation = texts.encoded(*texts.read(job.channels["validation"]), classes)
    else:
        training, validation = texts.split(training, values["validation_split_ratio"])
    torch.manual_seed(SEED)
    tokenizer, model = encoders.starting(
        job.channels.get("model"),
        training.texts,
        classes,
        values["dropout_rate"],
        keep_top=values["reinitialize_top_layer"] == "false",
    )
    log(f"Train {len(classes)} classes on {training.count} texts, validate on {validation.count}")
    _Fitting(job, tokenizer, model).run(training, validation)
    _save(job, tokenizer, model, classes)


class _Fitting:
    """One training: the model, its optimiser and the best weights so far."""

    def __init__(self, job: Job, tokenizer: Any, model: Any) -> None:
        self.values, self.tokenizer = job.hyperparameters, tokenizer
        self.device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        self.model = model.to(self.device)
        if self.values["train_only_on_top_layer"] == "true":
            for parameter in model.base_model.parameters():
                parameter.requires_grad_(False)
        self.trained = [one for one in model.parameters() if one.requires_grad]
        self.top = encoders.top_layer(model)

    def run(self, training: Texts, validation: Texts) -> None:
        epochs, size = self.values["epochs"], self.values["batch_size"]
        optimizer = optimizer_of(self.values, self.trained)
        steps = epochs * -(-training.count // size)
        warm = max(1, int(steps * self.values["warmup_steps_fraction"]))
        schedule = torch.optim.lr_scheduler.LambdaLR(
            optimizer, lambda step: _rate(step, warm, steps)
        )
        best, best_weights, waited = -1.0, None, 0
        for epoch in range(epochs):
            loss, accuracy = self._epoch(training, optimizer, schedule)
            valid_loss, valid_accuracy = self._score(validation)
            print(
                f"Epoch {epoch + 1}/{epochs} - loss={loss:.6f} - accuracy={accuracy:.6f} - "
                f"val_loss={valid_loss:.6f} - val_accuracy={valid_accuracy:.6f}",
                flush=True,
            )
            if not np.isfinite(loss):
                raise AlgorithmError("Training diverged: the loss is no number.")
            enough = self.values["early_stopping_min_delta"]
            waited = 0 if valid_accuracy > best + enough else waited + 1
            if valid_accuracy > best:
                best, best_weights = valid_accuracy, copy.deepcopy(self.model.state_dict())
            stops = self.values["early_stopping"] == "true"
            if stops and waited >= self.values["early_stopping_patience"]:
                log(f"The validation accuracy has not improved for {waited} epochs")
                break
        assert best_weights is not None
        self.model.load_state_dict(best_weights)

    def _epoch(self, data: Texts, optimizer: Any, schedule: Any) -> tuple[float, float]:
        self.model.train()
        total, right = 0.0, 0
        for rows in torch.randperm(data.count).split(self.values["batch_size"]):
            part = data.rows(rows.numpy())
            outputs, labels = self._outputs(part)
            loss = functional.cross_entropy(outputs, labels)
            penalty = sum((one**2).sum() for one in self.top) * self.values["regularizers_l2"]
            optimizer.zero_grad()
            (loss + penalty).backward()
            torch.nn.utils.clip_grad_norm_(self.trained, 1.0)
            optimizer.step()
            schedule.step()
            total += loss.item() * part.count
            right += int((outputs.argmax(dim=1) == labels).sum())
        return total / data.count, right / data.count

    def _score(self, data: Texts) -> tuple[float, float]:
        self.model.eval()
        total, right = 0.0, 0
        with torch.inference_mode():
            for rows in torch.arange(data.count).split(self.values["batch_size"]):
                outputs, labels = self._outputs(data.rows(rows.numpy()))
                total += float(functional.cross_entropy(outputs, labels, reduction="sum"))
                right += int((outputs.argmax(dim=1) == labels).sum())
        return total / data.count, right / data.count

    def _outputs(self, part: Texts) -> tuple[torch.Tensor, torch.Tensor]:
        inputs = tokens(self.tokenizer, self.model, part.texts)
        moved = {name: one.to(self.device) for name, one in inputs.items()}
        return self.model(**moved).logits, torch.from_numpy(part.labels).to(self.device)


def tokens(tokenizer: Any, model: Any, found: list[str]) -> dict[str, torch.Tensor]:
    """A batch as the model takes it; long texts are cut."""
    length = min(tokenizer.model_max_length, LENGTH_MAX)
    made = tokenizer(found, padding=True, truncation=True, max_length=length, return_tensors="pt")
    # Some tokenizers tell more than their model asks for.
    taken = inspect.signature(model.forward).parameters
    return {name: made[name] for name in made if name in taken}


def _rate(step: int, warm: int, steps: int) -> float:
    """Rises to the learning rate, then falls to nothing, both in a straight line."""
    if step < warm:
        return (step + 1) / warm
    return max(0.0, (steps - step) / max(1, steps - warm))


def optimizer_of(values: Any, parameters: list[Any]) -> torch.optim.Optimizer:
    """The optimiser of the name, with the hyperparameters that belong to it."""
    kind, names = OPTIMIZERS[values["optimizer"]]
    given = {own: values[name] for own, name in names.items() if name != "betas"}
    if "betas" in names:
        given["betas"] = (values["beta_1"], values["beta_2"])
    if values["optimizer"] == "nesterov":
        given["nesterov"] = values["momentum"] > 0
    return kind(parameters, lr=values["learning_rate"], **given)


def _save(job: Job, tokenizer: Any, model: Any, classes: list[int]) -> None:
    place = job.model / FOLDER
    shutil.rmtree(place, ignore_errors=True)
    model.to("cpu").save_pretrained(place)
    tokenizer.save_pretrained(place)
    model_document.save(job.model, {"algorithm": "text-classification", "classes": classes})
    log(f"Stored trained model at {place}")
