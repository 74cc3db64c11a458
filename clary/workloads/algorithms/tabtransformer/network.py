"""The network: a token for each category, attention among them, then a perceptron over all.

categories ──embed──▶ tokens ──blocks──▶ ┐
                                         ├──▶ perceptron ──▶ outputs
numbers ────────normalised──────────────▶┘

A table without categories has a token for each of its numbers instead.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import nn

HEADS = 8
WIDER = (4, 2)  # the layers of the perceptron, as multiples of its input
LAYER_WIDTH_MAX = 1024


@dataclass(frozen=True)
class Shape:
    """What a network is built from; it is saved with the model."""

    cardinalities: tuple[int, ...]  # of each category column, with one for unknown ones
    numbers: int
    outputs: int
    input_dim: int
    n_blocks: int
    attn_dropout: float
    mlp_dropout: float
    frac_shared_embed: float

    def as_document(self) -> dict[str, Any]:
        return asdict(self)


class TabTransformer(nn.Module):
    def __init__(self, shape: Shape) -> None:
        super().__init__()
        size = shape.input_dim
        self.categories = Categories(shape.cardinalities, size, shape.frac_shared_embed)
        self.has_categories = bool(shape.cardinalities)
        tokens = len(shape.cardinalities) or shape.numbers
        scale = 1 / math.sqrt(size)
        self.number_weights = nn.Parameter(torch.randn(shape.numbers, size) * scale)
        self.number_biases = nn.Parameter(torch.zeros(shape.numbers, size))
        layer = nn.TransformerEncoderLayer(
            size,
            HEADS,
            dim_feedforward=4 * size,
            dropout=shape.attn_dropout,
            activation="gelu",
            batch_first=True,
        )
        self.blocks = nn.TransformerEncoder(layer, shape.n_blocks, enable_nested_tensor=False)
        width = tokens * size + shape.numbers
        self.head = _perceptron(width, shape.outputs, shape.mlp_dropout)

    def forward(self, categories: torch.Tensor, numbers: torch.Tensor) -> torch.Tensor:
        """(rows, category columns) of codes and (rows, numbers) to (rows, outputs)."""
        if self.has_categories:
            tokens = self.categories(categories)
        else:
            tokens = numbers.unsqueeze(-1) * self.number_weights + self.number_biases
        context = self.blocks(tokens).flatten(1)
        return self.head(torch.cat([context, numbers], dim=1))


class Categories(nn.Module):
    """Embeddings; a part of each is the same for all values of a column and tells it apart."""

    def __init__(self, cardinalities: Sequence[int], size: int, shared: float) -> None:
        super().__init__()
        starts = [sum(cardinalities[:at]) for at in range(len(cardinalities))]
        self.register_buffer("starts", torch.tensor(starts, dtype=torch.long))
        self.shared_size = round(size * shared)
        self.values = nn.Embedding(max(sum(cardinalities), 1), size)
        self.columns = nn.Parameter(torch.randn(len(cardinalities), self.shared_size) * 0.1)
        nn.init.normal_(self.values.weight, std=1 / math.sqrt(size))

    def forward(self, codes: torch.Tensor) -> torch.Tensor:
        found = self.values(codes + self.starts)
        if not self.shared_size:
            return found
        shared = self.columns.expand(len(codes), -1, -1)
        return torch.cat([shared, found[:, :, self.shared_size :]], dim=2)


def _perceptron(width: int, outputs: int, dropout: float) -> nn.Sequential:
    layers: list[nn.Module] = []
    size = width
    for factor in WIDER:
        after = min(width * factor, LAYER_WIDTH_MAX)
        layers += [nn.Linear(size, after), nn.ReLU(), nn.Dropout(dropout)]
        size = after
    return nn.Sequential(*layers, nn.Linear(size, outputs))
