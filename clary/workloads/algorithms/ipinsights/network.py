"""The network: a vector for each entity, a vector for each address, and their dot product."""

from __future__ import annotations

import numpy as np
import torch
from torch import nn

ADDRESS_BITS = 32
_ENTITY_SPREAD = 0.05


class Affinity(nn.Module):
    """Scores pairs; entities that share a hash share a vector."""

    def __init__(self, entities: int, dimension: int, layers: int) -> None:
        super().__init__()
        self.entities = nn.Embedding(entities, dimension, sparse=True)
        nn.init.normal_(self.entities.weight, std=_ENTITY_SPREAD)
        parts: list[nn.Module] = [nn.Linear(ADDRESS_BITS, dimension)]
        for _ in range(layers):
            parts += [nn.ReLU(), nn.Linear(dimension, dimension)]
        self.encoder = nn.Sequential(*parts)

    def forward(self, entities: torch.Tensor, bits: torch.Tensor) -> torch.Tensor:
        return (self.entities(entities) * self.encoder(bits)).sum(dim=1)

    def arrays(self) -> dict[str, np.ndarray]:
        return {name: value.cpu().numpy() for name, value in self.state_dict().items()}
