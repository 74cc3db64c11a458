"""The examples of a channel: `data.csv`, a label and a text on each line, without a header."""

from __future__ import annotations

import csv
import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from clary.workloads.algorithms.channels import Channel
from clary.workloads.algorithms.errors import UserError

FOLDER_DEPTH_MAX = 4
SPLIT_SEED = 123


@dataclass(frozen=True)
class Texts:
    labels: np.ndarray  # places in the list of classes
    texts: list[str]

    @property
    def count(self) -> int:
        return len(self.texts)

    def rows(self, chosen: np.ndarray) -> Texts:
        return Texts(self.labels[chosen], [self.texts[at] for at in chosen])


def read(channel: Channel) -> tuple[list[int], list[str]]:
    """(labels, texts); raise UserError with the line of what is wrong."""
    files = [path for path in channel.files(FOLDER_DEPTH_MAX) if path.suffix == ".csv"]
    if not files:
        raise UserError(
            f"No data found in channel '{channel.name}'. It needs a file data.csv without a "
            "header, an integer label in its first column and the text in its second."
        )
    csv.field_size_limit(min(sys.maxsize, 1 << 30))
    labels: list[int] = []
    texts: list[str] = []
    for path in files:
        _read(path, labels, texts)
    if not texts:
        raise UserError(f"The channel '{channel.name}' has no examples.")
    return labels, texts


def _read(path: Path, labels: list[int], texts: list[str]) -> None:
    with path.open(encoding="utf-8", errors="replace", newline="") as file:
        reader = csv.reader(file)
        try:
            for row in reader:
                if not row:
                    continue
                where = f"'{path.name}', line {reader.line_num}"
                if len(row) < 2:
                    raise UserError(f"{where}: there is no text after the label")
                try:
                    labels.append(int(row[0]))
                except ValueError:
                    message = f"{where}: the label {row[0][:40]!r} is not an integer"
                    raise UserError(message) from None
                texts.append(row[1])
        except csv.Error as problem:
            raise UserError(f"'{path.name}', line {reader.line_num}: {problem}") from problem


def classes_of(labels: list[int]) -> list[int]:
    found = sorted(set(labels))
    if len(found) < 2:
        raise UserError("The training data has only one label; there is nothing to tell apart.")
    return found


def encoded(labels: list[int], texts: list[str], classes: list[int]) -> Texts:
    places = {label: at for at, label in enumerate(classes)}
    unknown = next((label for label in labels if label not in places), None)
    if unknown is not None:
        raise UserError(f"The label {unknown} of the validation data is not in the training data.")
    return Texts(np.array([places[label] for label in labels]), texts)


def split(whole: Texts, ratio: float) -> tuple[Texts, Texts]:
    """The training data and the share of it that validates, at random but always the same."""
    order = np.random.default_rng(SPLIT_SEED).permutation(whole.count)
    held_out = min(max(1, round(whole.count * ratio)), whole.count - 1)
    if whole.count < 2:
        raise UserError("One example is too few to train on and to validate with.")
    return whole.rows(np.sort(order[held_out:])), whole.rows(np.sort(order[:held_out]))
