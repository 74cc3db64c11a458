"""Training BlazingText with floret, a kept fork of fastText: word vectors, or classes of sentences.

Bojanowski and others, "Enriching word vectors with subword information" (2017); Joulin and others,
"Bag of tricks for efficient text classification" (2017).
"""

from __future__ import annotations

import json
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import floret
import numpy as np

from clary.workloads.algorithms.algorithm import Algorithm
from clary.workloads.algorithms.blazingtext import (
    BATCH_SKIPGRAM,
    SCHEMA,
    SUPERVISED,
    evaluation,
    sentences,
)
from clary.workloads.algorithms.first_party.errors import ClientError
from clary.workloads.algorithms.first_party.session import Session, no_examples, session
from clary.workloads.algorithms.job import Job

OF_WORDS = (
    "evaluation",
    "max_char",
    "min_char",
    "negative_samples",
    "sampling_threshold",
    "subwords",
    "window_size",
)
OF_SENTENCES = ("early_stopping", "min_epochs", "patience", "word_ngrams")


def train(job: Job, algorithm: Algorithm) -> None:
    mode = job.hyperparameters["mode"]
    if len(job.hosts) > 1 and mode != BATCH_SKIPGRAM:
        raise ClientError(
            f"The mode {mode} trains on one instance; only {BATCH_SKIPGRAM} takes several."
        )
    with session(job, algorithm) as run, tempfile.TemporaryDirectory() as folder:
        _tell_what_the_mode_leaves_out(run)
        text = Path(folder) / "train"
        count = sentences.write(job.channels["train"], text, labelled=mode == SUPERVISED)
        run.log.say(f"Read {count} sentences of channel 'train'")
        _gather(run, text)
        if not run.group.is_first:
            run.log.say("The first host trains with the sentences of all hosts.")
            return
        if not text.stat().st_size:
            raise no_examples()
        (_supervised if mode == SUPERVISED else _vectors)(run, text)


def _tell_what_the_mode_leaves_out(run: Session) -> None:
    supervised = run.values["mode"] == SUPERVISED
    for name in OF_WORDS if supervised else OF_SENTENCES:
        if run.values[name] != SCHEMA.defaults[name]:
            run.log.say(
                f"Hyperparameter {name} has no effect in the mode {run.values['mode']}.", "WARNING"
            )


def _gather(run: Session, text: Path) -> None:
    """Shards of several hosts come together on the first; copies of the same data do not."""
    if run.group.size == 1 or not run.job.channels["train"].sharded:
        return
    parts = run.group.collect(np.frombuffer(text.read_bytes(), dtype=np.uint8))
    if parts:
        text.write_bytes(b"".join(part.tobytes() for part in parts))


def _fit(run: Session, learn: Any, **settings: Any) -> Any:
    """Call fastText, and say how fast it was."""
    started = time.monotonic()
    values = run.values
    try:
        model = learn(
            lr=values["learning_rate"],
            dim=values["vector_dim"],
            minCount=values["min_count"],
            bucket=values["buckets"],
            thread=run.job.threads,
            verbose=0,
            **settings,
        )
    except (ValueError, RuntimeError) as problem:
        raise ClientError(
            f"fastText cannot learn from the training data: {problem}. Where words are rare, a "
            "smaller min_count keeps them."
        ) from problem
    seconds = max(time.monotonic() - started, 1e-9)
    words = sum(model.get_words(include_freq=True)[1]) * settings["epoch"]
    run.log.say(
        f"Training finished. Average throughput in Million words/sec: {words / seconds / 1e6:.2f}. "
        f"Total training time in seconds: {seconds:.2f}"
    )
    run.log.throughput(int(words), seconds)
    return model


def _vectors(run: Session, text: Path) -> None:
    values = run.values
    subwords = values["subwords"]
    model = _fit(
        run,
        _unsupervised,
        input=str(text),
        model="cbow" if values["mode"] == "cbow" else "skipgram",
        ws=values["window_size"],
        epoch=values["epochs"],
        minn=values["min_char"] if subwords else 0,
        maxn=values["max_char"] if subwords else 0,
        neg=values["negative_samples"],
        t=values["sampling_threshold"],
    )
    words = model.get_words()
    with (run.job.model / "vectors.txt").open("w", encoding="utf-8") as file:
        file.write(f"{len(words)} {model.get_dimension()}\n")
        for word in words:
            numbers = " ".join(f"{number:.6g}" for number in model.get_word_vector(word))
            file.write(f"{word} {numbers}\n")
    model.save_model(str(run.job.model / "vectors.bin"))
    if values["evaluation"]:
        found = evaluation.word_similarity(model)
        (run.job.model / "eval.json").write_text(json.dumps(found, indent=2))
        run.log.say(f"#mean_rho: {found['mean_rho']:.4f}")


def _unsupervised(**settings: Any) -> Any:
    # Without subwords there is nothing to put into the buckets of character n-grams.
    if settings["maxn"] == 0:
        settings["bucket"] = 0
    return floret.train_unsupervised(**settings)


def _supervised(run: Session, text: Path) -> None:
    validation = None
    if "validation" in run.job.channels:
        validation = text.with_name("validation")
        count = sentences.write(run.job.channels["validation"], validation, labelled=True)
        run.log.say(f"Read {count} sentences of channel 'validation'")
    if run.values["early_stopping"] and validation is not None:
        model = _best_of_epochs(run, text, validation)
    else:
        model = _classifier(run, text, run.values["epochs"])
    _tell_accuracy(run, model, {"train": text, "validation": validation})
    model.save_model(str(run.job.model / "model.bin"))


def _classifier(run: Session, text: Path, epochs: int) -> Any:
    return _fit(
        run,
        floret.train_supervised,
        input=str(text),
        epoch=epochs,
        wordNgrams=run.values["word_ngrams"],
        loss="softmax",
    )


def _best_of_epochs(run: Session, text: Path, validation: Path) -> Any:
    """The best classifier of `min_epochs` to `epochs`; ends when `patience` longer ones were no better.

    fastText lets its learning rate fall to zero by the last epoch, so that each number of epochs is
    a training of its own.
    """
    best, best_accuracy, waited = None, -1.0, 0
    first = min(run.values["min_epochs"], run.values["epochs"])
    for epochs in range(first, run.values["epochs"] + 1):
        model = _classifier(run, text, epochs)
        accuracy = model.test(str(validation))[1]
        run.log.say(f"Accuracy on the validation data after {epochs} epochs: {accuracy:.4f}")
        if accuracy > best_accuracy:
            best, best_accuracy, waited = model, accuracy, 0
        else:
            waited += 1
        if waited >= run.values["patience"]:
            run.log.say("Early stopping: more epochs were no better.")
            break
    return best


def _tell_accuracy(run: Session, model: Any, texts: Mapping[str, Path | None]) -> None:
    for name, text in texts.items():
        if text is not None:
            count, accuracy, _ = model.test(str(text))
            run.log.say(f"#{name}_accuracy: {accuracy:.4f}")
            run.log.say(f"Number of {name} examples: {count}")
