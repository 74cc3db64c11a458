"""The network: an encoder for each side, ways to compare two vectors, and layers that judge them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.nn import functional

from clary.workloads.algorithms.object2vec import SOFTMAX
from clary.workloads.algorithms.object2vec.pairs import Side, sides

LAYERS_AUTO = {"hcnn": 4, "bilstm": 1, "pooled_embedding": 1}
ACTIVATIONS = {"tanh": nn.Tanh, "relu": nn.ReLU, "linear": nn.Identity}


class Encoder(nn.Module):
    """A sequence of tokens becomes one vector of `enc_dim` numbers."""

    def __init__(self, side: str, vocabulary: int, values: Mapping[str, Any]) -> None:
        super().__init__()
        self.kind: str = values[f"{side}_network"]
        width: int = values[f"{side}_token_embedding_dim"]
        layers = values[f"{side}_layers"]
        layers = LAYERS_AUTO[self.kind] if layers == "auto" else layers
        self.padding = vocabulary
        self.tokens = nn.Embedding(vocabulary + 1, width, padding_idx=vocabulary)
        out = width
        if self.kind == "hcnn":
            filters = values[f"{side}_cnn_filter_width"]
            self.convolutions = nn.ModuleList(
                nn.Conv1d(width, width, filters, padding=filters // 2) for _ in range(layers)
            )
            out = width * layers
        elif self.kind == "bilstm":
            self.lstm = nn.LSTM(width, width, layers, batch_first=True, bidirectional=True)
            out = 2 * width
        self.dropout = nn.Dropout(values["dropout"])
        self.out = nn.Linear(out, values["enc_dim"])

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        known = tokens != self.padding
        return self.out(self.dropout(self._pooled(self.tokens(tokens), known)))

    def _pooled(self, vectors: torch.Tensor, known: torch.Tensor) -> torch.Tensor:
        if self.kind == "pooled_embedding":
            return (vectors * known[..., None]).sum(dim=1) / known.sum(dim=1, keepdim=True)
        if self.kind == "bilstm":
            packed = nn.utils.rnn.pack_padded_sequence(
                vectors, known.sum(dim=1).cpu(), batch_first=True, enforce_sorted=False
            )
            _, (last, _) = self.lstm(packed)
            return torch.cat([last[-2], last[-1]], dim=1)
        return self._levels(vectors, known)

    def _levels(self, vectors: torch.Tensor, known: torch.Tensor) -> torch.Tensor:
        """Each level of convolutions sees more of the sequence; of each the greatest values count."""
        hidden, found = vectors.transpose(1, 2), []
        hidden_known = known[:, None, :]
        for convolution in self.convolutions:
            hidden = functional.relu(convolution(hidden * hidden_known))
            # An even filter adds one place at the end.
            hidden = hidden[:, :, : known.shape[1]]
            found.append(hidden.masked_fill(~hidden_known, 0.0).amax(dim=2))
        return torch.cat(found, dim=1)


class PairNetwork(nn.Module):
    """Scores of each pair: one for each class before the softmax, or one number."""

    def __init__(self, values: Mapping[str, Any]) -> None:
        super().__init__()
        self.sides: tuple[Side, Side] = sides(values)
        first = Encoder("enc0", self.sides[0].vocabulary, values)
        own = values["enc1_network"] != "enc0"
        second = Encoder("enc1", self.sides[1].vocabulary, values) if own else first
        if own and values["tied_token_embedding_weight"]:
            second.tokens = first.tokens
        self.encoders = nn.ModuleList([first, second] if own else [first])
        self.comparators: list[str] = list(dict.fromkeys(values["comparator_list"]))
        width = values["enc_dim"] * sum(2 if one == "concat" else 1 for one in self.comparators)
        parts: list[nn.Module] = []
        for _ in range(values["mlp_layers"]):
            parts += [
                nn.Linear(width, values["mlp_dim"]),
                ACTIVATIONS[values["mlp_activation"]](),
                nn.Dropout(values["dropout"]),
            ]
            width = values["mlp_dim"]
        classes = values["num_classes"] if values["output_layer"] == SOFTMAX else 1
        parts.append(nn.Linear(width, classes))
        self.judge = nn.Sequential(*parts)

    def encode(self, side: int, tokens: torch.Tensor) -> torch.Tensor:
        return self.encoders[min(side, len(self.encoders) - 1)](tokens)

    def padding(self, side: int) -> int:
        return self.sides[side].vocabulary

    def forward(self, first: torch.Tensor, second: torch.Tensor) -> torch.Tensor:
        one, other = self.encode(0, first), self.encode(1, second)
        ways = {
            "hadamard": lambda: one * other,
            "concat": lambda: torch.cat([one, other], dim=1),
            "abs_diff": lambda: (one - other).abs(),
        }
        return self.judge(torch.cat([ways[name]() for name in self.comparators], dim=1))

    def arrays(self) -> dict[str, np.ndarray]:
        return {name: value.cpu().numpy() for name, value in self.state_dict().items()}
