"""The network: an LSTM that sees lagged values, the calendar and the categories of a series."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import nn

from clary.workloads.algorithms.forecasting_deepar.likelihoods import LIKELIHOODS, Likelihood
from clary.workloads.algorithms.forecasting_deepar.windows import Scaling, Windows


class DeepARNetwork(nn.Module):
    """What it says of each position it says from earlier values alone, as a share of the scale."""

    def __init__(
        self,
        values: Mapping[str, Any],
        cardinality: Sequence[int],
        lags: Sequence[int],
        features: int,
        scaling: Scaling,
    ) -> None:
        super().__init__()
        self.lags, self.context = list(lags), int(values["context_length"])
        self.prediction = int(values["prediction_length"])
        self.default_scale = scaling.default_scale
        self.likelihood: Likelihood = LIKELIHOODS[values["likelihood"]]
        width = values["embedding_dimension"]
        self.embeddings = nn.ModuleList(nn.Embedding(size, width) for size in cardinality)
        # Of each lag the value and whether there is one; and two numbers of level and scale.
        inputs = 2 * len(self.lags) + features + width * len(self.embeddings) + 2
        layers, rate = values["num_layers"], values["dropout_rate"]
        self.lstm = nn.LSTM(
            inputs, values["num_cells"], layers, batch_first=True, dropout=rate if layers > 1 else 0
        )
        self.dropout = nn.Dropout(rate)
        self.out = nn.Linear(values["num_cells"], self.likelihood.outputs)

    def loss(self, windows: Windows) -> tuple[torch.Tensor, torch.Tensor]:
        """The sum over all known values of context and prediction, and how many they are."""
        raw, _ = self._unroll(windows, 0, self.context + self.prediction)
        reach = self.lags[-1]
        target, known = windows.target[:, reach:], windows.known[:, reach:]
        losses = self.likelihood.loss(raw, windows.level[:, None], windows.scale[:, None], target)
        return torch.where(known, losses, torch.zeros_like(losses)).sum(), known.sum()

    @torch.no_grad()
    def sample(self, windows: Windows, samples: int) -> torch.Tensor:
        """Paths of the values to come: windows x samples x prediction_length."""
        _, state = self._unroll(windows, 0, self.context)
        state = tuple(one.repeat_interleave(samples, dim=1) for one in state)
        level = windows.level[:, None].expand(-1, samples)
        scale = windows.scale[:, None].expand(-1, samples)
        drawn = torch.empty(windows.count, samples, self.prediction, device=scale.device)
        for step in range(self.prediction):
            inputs = self._next_inputs(windows, drawn, step)
            hidden, state = self.lstm(inputs.flatten(0, 1)[:, None], state)
            raw = self.out(hidden[:, 0]).unflatten(0, (windows.count, samples))
            drawn[:, :, step] = self.likelihood.sample(raw, level, scale)
        return drawn

    def _unroll(self, windows: Windows, start: int, end: int) -> tuple[torch.Tensor, Any]:
        """The network's numbers for some positions after the lags."""
        reach = self.lags[-1]
        spans = [slice(reach + start - lag, reach + end - lag) for lag in self.lags]
        scaled = (windows.target - windows.level[:, None]) / windows.scale[:, None]
        scaled = scaled * windows.known
        values = torch.stack([scaled[:, span] for span in spans], dim=-1)
        known = torch.stack([windows.known[:, span] for span in spans], dim=-1)
        static = self._static(windows)[:, None].expand(-1, end - start, -1)
        parts = [values, known.to(values.dtype), windows.features[:, start:end], static]
        hidden, state = self.lstm(torch.cat(parts, dim=-1))
        return self.out(self.dropout(hidden)), state

    def _next_inputs(self, windows: Windows, drawn: torch.Tensor, step: int) -> torch.Tensor:
        """The inputs of one position to be forecast, for each sample."""
        samples, at = drawn.shape[1], self.lags[-1] + self.context + step
        level, scale = windows.level[:, None, None], windows.scale[:, None, None]
        near = bisect_right(self.lags, step)  # so many lags reach into what was drawn
        past = [at - lag for lag in self.lags[near:]]
        values = torch.cat(
            [
                drawn[:, :, [step - lag for lag in self.lags[:near]]],
                windows.target[:, None, past].expand(-1, samples, -1),
            ],
            dim=-1,
        )
        known = torch.cat(
            [
                torch.ones(windows.count, samples, near, device=drawn.device),
                windows.known[:, None, past].expand(-1, samples, -1).to(drawn.dtype),
            ],
            dim=-1,
        )
        features = windows.features[:, None, self.context + step]
        rest = torch.cat([features, self._static(windows)[:, None]], dim=-1)
        return torch.cat(
            [(values - level) / scale * known, known, rest.expand(-1, samples, -1)], dim=-1
        )

    def _static(self, windows: Windows) -> torch.Tensor:
        level, scale = windows.level[:, None], windows.scale[:, None]
        parts = [torch.log(scale / self.default_scale), torch.asinh(level / scale)]
        parts += [
            embedding(windows.categories[:, at]) for at, embedding in enumerate(self.embeddings)
        ]
        return torch.cat(parts, dim=-1)
