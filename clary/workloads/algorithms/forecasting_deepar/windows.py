"""Windows of series as tensors: what came before a point of time, and what follows it.

        lags            context        prediction
├────────────────────┼──────────────┼──────────────┤     positions of `target`
                     ├──────────────┴──────────────┤     positions of `features`
                                    ▲ a window's origin: the first value to be forecast
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch

from clary.workloads.algorithms.forecasting_deepar.frequency import Frequency
from clary.workloads.algorithms.forecasting_deepar.series import Panel

_PRIOR_VALUES = 2


@dataclass(frozen=True)
class Windows:
    """A batch; missing values of `target` are 0 and not `known`."""

    target: torch.Tensor  # windows x positions
    known: torch.Tensor
    features: torch.Tensor  # windows x positions x features
    categories: torch.Tensor
    # Of each window the middle and the spread of its context: the network sees and tells of
    # (value - level) / scale.
    level: torch.Tensor
    scale: torch.Tensor

    @property
    def count(self) -> int:
        return len(self.target)

    def to(self, device: torch.device) -> Windows:
        return Windows(
            self.target.to(device),
            self.known.to(device),
            self.features.to(device),
            self.categories.to(device),
            self.level.to(device),
            self.scale.to(device),
        )


@dataclass(frozen=True)
class Scaling:
    """How level and scale are told from the known values of a context."""

    # Without it the level is 0 and the scale the mean: for values that must not be negative.
    is_centred: bool
    # Of windows whose context has no known value.
    default_level: float = 0.0
    default_scale: float = 1.0
    # The usual deviation as a share of the mean: few values say little of their deviation.
    usual_share: float = 1.0

    def of(self, values: np.ndarray, known: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Levels and scales, one for each row."""
        count = known.sum(axis=1)
        safe = np.maximum(count, 1)
        size = np.abs(values).sum(axis=1, dtype=np.float64) / safe
        if not self.is_centred:
            scale = np.where(size > 0, size, self.default_scale)
            return np.zeros(len(scale), np.float32), scale.astype(np.float32)
        level = values.sum(axis=1, dtype=np.float64) / safe
        squares = (np.where(known, values - level[:, None], 0.0) ** 2).sum(axis=1)
        prior = _PRIOR_VALUES * (self.usual_share * size) ** 2
        scale = np.sqrt((squares + prior) / (count + _PRIOR_VALUES))
        level = np.where(count > 0, level, self.default_level)
        return level.astype(np.float32), np.where(scale > 0, scale, self.default_scale).astype(
            np.float32
        )


@dataclass(frozen=True)
class Cutter:
    """Cuts windows of one shape."""

    frequency: Frequency
    context: int
    prediction: int
    scaling: Scaling
    dynamic_means: np.ndarray
    dynamic_deviations: np.ndarray

    @property
    def reach(self) -> int:
        return self.frequency.lags()[-1]

    def cut(self, panel: Panel, rows: np.ndarray, origins: np.ndarray) -> Windows:
        """The windows of some series; `origins` count from the start of each."""
        first = origins - self.context - self.reach
        width = self.reach + self.context + self.prediction
        at = first[:, None] + np.arange(width)
        inside = (at >= 0) & (at < panel.slots[rows][:, None])
        places = np.where(inside, panel.offsets[rows][:, None] + at, 0)
        values = panel.target[places] if panel.target.size else np.zeros(at.shape, np.float32)
        known = inside & ~np.isnan(values)
        values = np.where(known, values, 0).astype(np.float32)
        own, context = slice(self.reach, None), slice(self.reach, self.reach + self.context)
        level, scale = self.scaling.of(values[:, context], known[:, context])
        return Windows(
            target=torch.from_numpy(values),
            known=torch.from_numpy(known),
            features=torch.from_numpy(
                self._features(panel, rows, at[:, own], places[:, own], inside[:, own])
            ),
            categories=torch.from_numpy(panel.categories[rows]),
            level=torch.from_numpy(level),
            scale=torch.from_numpy(scale),
        )

    def _features(
        self,
        panel: Panel,
        rows: np.ndarray,
        at: np.ndarray,
        places: np.ndarray,
        inside: np.ndarray,
    ) -> np.ndarray:
        """The calendar, the age of the series, and the features that the user brings."""
        points = panel.starts[rows][:, None] + at * self.frequency.step
        age = np.log10(2.0 + np.maximum(at, 0))[..., None]
        parts = [self.frequency.features(points), age.astype(np.float32)]
        if len(panel.dynamic):
            found = np.moveaxis(panel.dynamic[:, places], 0, -1)
            found = (found - self.dynamic_means) / self.dynamic_deviations
            parts.append(np.where(inside[..., None], found, 0).astype(np.float32))
        return np.concatenate(parts, axis=-1)
