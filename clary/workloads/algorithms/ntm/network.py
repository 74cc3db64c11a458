"""The network: a document's counts become a Gaussian, its softmax the topics, and these its words again.

Miao, Yu and Blunsom, "Neural variational inference for text processing" (2016); the uniqueness of
topics is of Nan, Ding, Nallapati and Xiang (2019).
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import nn
from torch.nn import functional

ACTIVATIONS = {"sigmoid": nn.Sigmoid, "tanh": nn.Tanh, "relu": nn.ReLU}


class TopicNetwork(nn.Module):
    """Encoder and decoder; `topics` has one row of word scores for each topic."""

    def __init__(
        self, words: int, topics: int, layers: Sequence[int], activation: str, *, batch_norm: bool
    ) -> None:
        super().__init__()
        parts: list[nn.Module] = []
        width = words
        for size in layers:
            parts += [nn.Linear(width, size), ACTIVATIONS[activation]()]
            width = size
        self.encoder = nn.Sequential(*parts)
        self.mean = nn.Linear(width, topics)
        self.log_variance = nn.Linear(width, topics)
        self.norms = nn.ModuleList(
            [nn.BatchNorm1d(topics), nn.BatchNorm1d(topics)] if batch_norm else []
        )
        self.topics = nn.Parameter(torch.empty(topics, words))
        nn.init.xavier_uniform_(self.topics)
        self.background = nn.Parameter(torch.zeros(words))

    def encode(self, counts: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Mean and logarithm of the variance; the length of a document does not matter."""
        shares = counts / counts.sum(dim=1, keepdim=True).clamp_min(1.0)
        hidden = self.encoder(shares * shares.shape[1] ** 0.5)
        mean, log_variance = self.mean(hidden), self.log_variance(hidden)
        if len(self.norms):
            mean, log_variance = self.norms[0](mean), self.norms[1](log_variance)
        return mean, log_variance.clamp(-10.0, 10.0)

    def weights(self, counts: torch.Tensor) -> torch.Tensor:
        """The most likely share of each topic in each document."""
        return functional.softmax(self.encode(counts)[0], dim=1)

    def losses(self, counts: torch.Tensor, *, sample: bool) -> tuple[torch.Tensor, torch.Tensor]:
        """Of each document: the reconstruction's cross entropy, and the divergence from the prior."""
        mean, log_variance = self.encode(counts)
        noise = torch.randn_like(mean) if sample else torch.zeros_like(mean)
        shares = functional.softmax(mean + noise * (0.5 * log_variance).exp(), dim=1)
        scores = functional.log_softmax(shares @ self.topics + self.background, dim=1)
        reconstruction = -(counts * scores).sum(dim=1)
        divergence = 0.5 * (mean**2 + log_variance.exp() - 1.0 - log_variance).sum(dim=1)
        return reconstruction, divergence

    def arrays(self) -> dict[str, np.ndarray]:
        return {name: value.cpu().numpy() for name, value in self.state_dict().items()}


def topic_uniqueness(best: np.ndarray) -> np.ndarray:
    """Of each topic: 1 if no other has its best words, 1/K if all have them; (K, L) word ids."""
    _, places, counts = np.unique(best, return_inverse=True, return_counts=True)
    return (1.0 / counts[places.reshape(best.shape)]).mean(axis=1)
