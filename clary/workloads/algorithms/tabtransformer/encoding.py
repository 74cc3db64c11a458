"""Rows as the network takes them: codes of categories, and numbers around 0."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

CATEGORIES_MAX = 100_000


@dataclass(frozen=True)
class Encoding:
    """What training has seen of each column; code 0 is a category that it has not."""

    features: int
    categorical: tuple[int, ...]
    categories: tuple[Mapping[str, int], ...]
    mean: np.ndarray
    deviation: np.ndarray

    @property
    def numeric(self) -> list[int]:
        return [at for at in range(self.features) if at not in self.categorical]

    @property
    def cardinalities(self) -> tuple[int, ...]:
        return tuple(len(one) + 1 for one in self.categories)

    def encode(self, columns: Sequence[Any]) -> tuple[torch.Tensor, torch.Tensor]:
        """The two inputs of the network, from the columns of a table."""
        rows = len(columns[0]) if len(columns) else 0
        codes = np.zeros((rows, len(self.categorical)), dtype=np.int64)
        for at, column in enumerate(self.categorical):
            known = self.categories[at]
            codes[:, at] = [known.get(word, 0) for word in columns[column]]
        numbers = np.zeros((rows, len(self.numeric)), dtype=np.float32)
        for at, column in enumerate(self.numeric):
            numbers[:, at] = np.asarray(columns[column], dtype=np.float32)
        numbers = (numbers - self.mean) / self.deviation
        # A missing number is the mean, which says nothing.
        numbers = np.nan_to_num(numbers, nan=0.0, posinf=0.0, neginf=0.0).astype(np.float32)
        return torch.from_numpy(codes), torch.from_numpy(numbers)

    def as_document(self) -> dict[str, Any]:
        return {
            "features": self.features,
            "categorical": list(self.categorical),
            "categories": [list(one) for one in self.categories],
            "mean": self.mean.tolist(),
            "deviation": self.deviation.tolist(),
        }


def from_document(document: Mapping[str, Any]) -> Encoding:
    return Encoding(
        features=int(document["features"]),
        categorical=tuple(document["categorical"]),
        categories=tuple(_codes(words) for words in document["categories"]),
        mean=np.array(document["mean"], dtype=np.float32),
        deviation=np.array(document["deviation"], dtype=np.float32),
    )


def learn(frame: Any, categorical: tuple[int, ...]) -> Encoding:
    """From the training data, a DataFrame."""
    features = frame.shape[1]
    numeric = [at for at in range(features) if at not in categorical]
    numbers = frame[numeric].to_numpy(dtype=np.float64)
    filled = np.where(np.isfinite(numbers), numbers, np.nan)
    present = np.isfinite(filled).any(axis=0)
    mean, deviation = np.zeros(len(numeric)), np.ones(len(numeric))
    mean[present] = np.nanmean(filled[:, present], axis=0)
    deviation[present] = np.nanstd(filled[:, present], axis=0)
    deviation[deviation == 0] = 1.0
    return Encoding(
        features,
        categorical,
        tuple(_codes(sorted(set(frame[at]))[:CATEGORIES_MAX]) for at in categorical),
        mean.astype(np.float32),
        deviation.astype(np.float32),
    )


def _codes(words: Sequence[str]) -> dict[str, int]:
    return {word: at for at, word in enumerate(words, 1)}
