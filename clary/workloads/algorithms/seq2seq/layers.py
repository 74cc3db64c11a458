"""Encoders, attention and decoders, recurrent and convolutional.

    source ──encoder──▶ memory ─┐
    words so far ──decoder──▶ query ──attention──▶ context ──▶ a vector for each next word

A decoder reads a whole target at once while it learns; to write one it goes word by word, with a
state whose first axis counts sentences, so that a search may choose among them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from torch.nn import functional

Tensor = torch.Tensor
_CELLS = {"lstm": nn.LSTM, "gru": nn.GRU}
_ACTIVATIONS = {
    "relu": functional.relu,
    "softrelu": functional.softplus,
    "sigmoid": torch.sigmoid,
    "tanh": torch.tanh,
}


@dataclass(frozen=True)
class Memory:
    """What the encoder made of the sources: sentences x words x numbers."""

    vectors: Tensor
    known: Tensor  # where there is a word
    summary: Tensor  # of each sentence one vector

    def repeated(self, count: int) -> Memory:
        return Memory(
            self.vectors.repeat_interleave(count, 0),
            self.known.repeat_interleave(count, 0),
            self.summary.repeat_interleave(count, 0),
        )


class RecurrentEncoder(nn.Module):
    """The first layer reads in both directions, half of the numbers each; further ones forwards."""

    def __init__(self, width: int, values: Mapping[str, Any]) -> None:
        super().__init__()
        cell, self.size = _CELLS[values["rnn_cell_type"]], values["rnn_num_hidden"]
        self.first = cell(width, self.size // 2, batch_first=True, bidirectional=True)
        self.upper = nn.ModuleList(
            cell(self.size, self.size, batch_first=True)
            for _ in range(values["num_layers_encoder"] - 1)
        )
        self.residual_from = _residual_from(values)
        self.summary = values["rnn_decoder_state_init"]

    def forward(self, vectors: Tensor, known: Tensor) -> Memory:
        packed = nn.utils.rnn.pack_padded_sequence(
            vectors, known.sum(dim=1).cpu(), batch_first=True, enforce_sorted=False
        )
        hidden, _ = nn.utils.rnn.pad_packed_sequence(
            self.first(packed)[0], batch_first=True, total_length=known.shape[1]
        )
        for number, layer in enumerate(self.upper, 2):
            found = layer(hidden)[0]
            hidden = found + hidden if number >= self.residual_from else found
        return Memory(hidden, known, _summary(hidden, known, self.summary))


class ConvolutionalEncoder(nn.Module):
    """Each layer sees some neighbours more, and adds to what it was given."""

    def __init__(self, width: int, values: Mapping[str, Any]) -> None:
        super().__init__()
        self.size = values["cnn_num_hidden"]
        self.enter = nn.Linear(width, self.size)
        self.places = nn.Embedding(values["max_seq_len_source"], self.size)
        self.blocks = nn.ModuleList(
            _Convolution(values["cnn_kernel_width_encoder"], values)
            for _ in range(values["num_layers_encoder"])
        )
        self.summary = values["rnn_decoder_state_init"]

    def forward(self, vectors: Tensor, known: Tensor) -> Memory:
        hidden = _placed(self.enter(vectors), self.places)
        for block in self.blocks:
            hidden = hidden * known[..., None]
            hidden = hidden + block(hidden, (block.width - 1) // 2, block.width // 2)
        return Memory(hidden, known, _summary(hidden, known, self.summary))


class Attention(nn.Module):
    """How much each word of the source counts for a query: `dot`, `bilinear`, `mlp` or `fixed`."""

    def __init__(self, kind: str, query: int, memory: int, hidden: int) -> None:
        super().__init__()
        self.kind = kind
        if kind == "mlp":
            self.of_query, self.of_memory = nn.Linear(query, hidden), nn.Linear(memory, hidden)
            self.judge = nn.Linear(hidden, 1, bias=False)
        elif kind == "bilinear":
            self.of_query = nn.Linear(query, memory, bias=False)
        elif kind == "dot":
            self.of_query = nn.Linear(query, hidden, bias=False)
            self.of_memory = nn.Linear(memory, hidden, bias=False)

    def forward(self, queries: Tensor, memory: Memory) -> tuple[Tensor, Tensor]:
        """Contexts and weights; a row of weights for each query."""
        scores = self._scores(queries, memory).masked_fill(~memory.known[:, None], -torch.inf)
        weights = torch.softmax(scores, dim=-1)
        return weights @ memory.vectors, weights

    def _scores(self, queries: Tensor, memory: Memory) -> Tensor:
        if self.kind == "mlp":
            pairs = self.of_query(queries)[:, :, None] + self.of_memory(memory.vectors)[:, None]
            return self.judge(torch.tanh(pairs))[..., 0]
        if self.kind == "bilinear":
            return self.of_query(queries) @ memory.vectors.transpose(1, 2)
        if self.kind == "dot":
            keys = self.of_memory(memory.vectors)
            return self.of_query(queries) @ keys.transpose(1, 2) / keys.shape[-1] ** 0.5
        # The last word alone, whatever the query: a summary of fixed size.
        last = memory.known.sum(dim=1, keepdim=True) - 1
        at = torch.arange(memory.known.shape[1], device=last.device)
        only = torch.where(at == last, 0.0, -torch.inf)
        return only[:, None].expand(-1, queries.shape[1], -1)


class RecurrentDecoder(nn.Module):
    """The first layer asks; what it learns goes to the upper layers, if they shall have it."""

    def __init__(self, width: int, memory: int, values: Mapping[str, Any]) -> None:
        super().__init__()
        kind, self.size = values["rnn_cell_type"], values["rnn_num_hidden"]
        self.is_lstm, self.tells_upper = kind == "lstm", values["rnn_attention_in_upper_layers"]
        upper = self.size + (memory if self.tells_upper else 0)
        self.layers = nn.ModuleList(
            _CELLS[kind](upper if at else width, self.size, batch_first=True)
            for at in range(values["num_layers_decoder"])
        )
        hidden = values["rnn_attention_num_hidden"] or self.size
        self.attention = Attention(values["rnn_attention_type"], self.size, memory, hidden)
        self.starts_at_zero = values["rnn_decoder_state_init"] == "zero"
        parts = len(self.layers) * (2 if self.is_lstm else 1)
        self.begin = None if self.starts_at_zero else nn.Linear(memory, parts * self.size)
        self.residual_from = _residual_from(values)
        self.dropout = nn.Dropout(values["rnn_decoder_hidden_dropout"])
        self.out = nn.Linear(self.size + memory, self.size)

    def start(self, memory: Memory) -> Tensor:
        """Sentences x layers x parts of a state x numbers."""
        parts = 2 if self.is_lstm else 1
        shape = (len(memory.summary), len(self.layers), parts, self.size)
        if self.begin is None:
            return torch.zeros(shape, device=memory.summary.device)
        return torch.tanh(self.begin(memory.summary)).view(shape)

    def forward(
        self, vectors: Tensor, memory: Memory, state: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        """A vector for each next word, the attention, and the state after the last word."""
        states, hidden = [], vectors
        context = weights = vectors  # the first layer says what they are
        for number, layer in enumerate(self.layers, 1):
            given = torch.cat([hidden, context], -1) if number > 1 and self.tells_upper else hidden
            begin = [one[None].contiguous() for one in state[:, number - 1].unbind(1)]
            found, after = layer(given, tuple(begin) if self.is_lstm else begin[0])
            states.append(torch.cat(after if self.is_lstm else (after,)).transpose(0, 1))
            if number == 1:
                context, weights = self.attention(found, memory)
            hidden = found + hidden if number >= self.residual_from else found
        both = self.dropout(torch.cat([hidden, context], -1))
        return torch.tanh(self.out(both)), weights, torch.stack(states, dim=1)


class ConvolutionalDecoder(nn.Module):
    """Each layer sees some earlier words more and asks anew; its state is the words so far."""

    def __init__(self, width: int, memory: int, values: Mapping[str, Any]) -> None:
        super().__init__()
        self.size, self.width = values["cnn_num_hidden"], width
        self.enter = nn.Linear(width, self.size)
        self.places = nn.Embedding(values["max_seq_len_target"] + 1, self.size)
        count = values["num_layers_decoder"]
        kernel = values["cnn_kernel_width_decoder"]
        self.blocks = nn.ModuleList(_Convolution(kernel, values) for _ in range(count))
        self.attentions = nn.ModuleList(
            Attention("dot", self.size, memory, self.size) for _ in range(count)
        )
        self.contexts = nn.ModuleList(nn.Linear(memory, self.size) for _ in range(count))

    def start(self, memory: Memory) -> Tensor:
        return torch.zeros(len(memory.summary), 0, self.width, device=memory.summary.device)

    def forward(
        self, vectors: Tensor, memory: Memory, state: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        seen = torch.cat([state, vectors], dim=1)
        hidden = _placed(self.enter(seen), self.places)
        weights = hidden
        for block, attention, of_context in zip(self.blocks, self.attentions, self.contexts):  # noqa: B905
            found = block(hidden, block.width - 1, 0)
            context, weights = attention(found + hidden, memory)
            hidden = hidden + found + of_context(context)
        count = vectors.shape[1]
        return hidden[:, -count:], weights[:, -count:], seen


class _Convolution(nn.Module):
    """One convolution and its activation; a gated one computes twice as many numbers."""

    def __init__(self, width: int, values: Mapping[str, Any]) -> None:
        super().__init__()
        size = values["cnn_num_hidden"]
        self.width, self.activation = width, values["cnn_activation_type"]
        self.convolution = nn.Conv1d(size, size * (2 if self.activation == "glu" else 1), width)
        self.dropout = nn.Dropout(values["cnn_hidden_dropout"])

    def forward(self, hidden: Tensor, before: int, after: int) -> Tensor:
        rows = functional.pad(self.dropout(hidden).transpose(1, 2), (before, after))
        found = self.convolution(rows).transpose(1, 2)
        if self.activation == "glu":
            return functional.glu(found, dim=-1)
        return _ACTIVATIONS[self.activation](found)


def _placed(vectors: Tensor, places: nn.Embedding) -> Tensor:
    at = torch.arange(vectors.shape[1], device=vectors.device)
    return vectors + places(at.clamp(max=places.num_embeddings - 1))


def _summary(hidden: Tensor, known: Tensor, kind: str) -> Tensor:
    if kind == "last":
        last = (known.sum(dim=1) - 1)[:, None, None].expand(-1, 1, hidden.shape[2])
        return hidden.gather(1, last)[:, 0]
    return (hidden * known[..., None]).sum(dim=1) / known.sum(dim=1, keepdim=True)


def _residual_from(values: Mapping[str, Any]) -> float:
    """The number of the first layer that adds to what it was given."""
    return (
        values["rnn_first_residual_layer"] if values["rnn_residual_connections"] else float("inf")
    )
