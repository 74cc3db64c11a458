"""The network: words of the source become words of the target."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import nn

from clary.workloads.algorithms.seq2seq import RNN
from clary.workloads.algorithms.seq2seq.layers import (
    ConvolutionalDecoder,
    ConvolutionalEncoder,
    Memory,
    RecurrentDecoder,
    RecurrentEncoder,
)

Tensor = torch.Tensor


class SequenceNetwork(nn.Module):
    """Scores of each next word of the target."""

    def __init__(self, values: Mapping[str, Any], sources: int, targets: int) -> None:
        super().__init__()
        widths = values["num_embed_source"], values["num_embed_target"]
        self.sources = nn.Embedding(sources, widths[0], padding_idx=0)
        self.targets = nn.Embedding(targets, widths[1], padding_idx=0)
        self.source_dropout = nn.Dropout(values["embed_dropout_source"])
        self.target_dropout = nn.Dropout(values["embed_dropout_target"])
        encoder = RecurrentEncoder if values["encoder_type"] == RNN else ConvolutionalEncoder
        decoder = RecurrentDecoder if values["decoder_type"] == RNN else ConvolutionalDecoder
        self.encoder = encoder(widths[0], values)
        self.decoder = decoder(widths[1], self.encoder.size, values)
        self.out = nn.Linear(self.decoder.size, targets)

    def forward(self, sources: Tensor, inputs: Tensor) -> Tensor:
        memory = self.encode(sources)
        return self.step(inputs, memory, self.decoder.start(memory))[0]

    def encode(self, sources: Tensor) -> Memory:
        return self.encoder(self.source_dropout(self.sources(sources)), sources != 0)

    def start(self, memory: Memory) -> Tensor:
        return self.decoder.start(memory)

    def step(self, inputs: Tensor, memory: Memory, state: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Scores after each input, the attention to the source, and the state after the last."""
        vectors = self.target_dropout(self.targets(inputs))
        found, weights, state = self.decoder(vectors, memory, state)
        return self.out(found), weights, state

    def arrays(self) -> dict[str, np.ndarray]:
        return {name: value.cpu().numpy() for name, value in self.state_dict().items()}


@torch.no_grad()
def initialize(network: nn.Module, values: Mapping[str, Any]) -> None:
    """Weights as `weight_init_type` says; biases begin at 0."""
    for parameter in network.parameters():
        if parameter.dim() < 2:
            parameter.zero_()
            continue
        bound = values["weight_init_scale"]
        if values["weight_init_type"] == "xavier":
            around = parameter[0, 0].numel()
            given, made = parameter.shape[1] * around, parameter.shape[0] * around
            size = {"in": given, "out": made, "avg": (given + made) / 2}
            bound = (bound / size[values["xavier_factor_type"]]) ** 0.5
        parameter.uniform_(-bound, bound)
