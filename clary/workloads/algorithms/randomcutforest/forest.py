"""A forest of random cut trees, and the score that it gives a point.

A tree halves its sample again and again: by a coordinate chosen with a chance in proportion to
the sample's extent along it, at a place chosen evenly on that extent (Guha, Mishra, Roy and
Schrijvers, 2016). Were a new point part of the sample, the cut at a node would part it from all
the others with the chance

    (extent of the node's box with the point - extent of the box without) / (extent with the point)

A point that is parted high up, where many points are on the other side, is unusual. The score is
the expected inverse of the depth of the parting, over all places where it may happen, relative to
a sample of that size; the mean over the trees.

All trees are one set of arrays: node 0 to T-1 are the roots. Points and trees go down together,
one level at a time, so that numpy does the work for all of them at once.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np

# Cells of a working array, points x trees x features: few enough to stay in the cache.
CELLS_MAX = 1 << 17
# Once a point is parted almost surely, what is below cannot change its score.
CHANCE_MIN = 1e-4


@dataclass(frozen=True)
class Forest:
    """`left` is -1 at leaves; `mass` counts the sample's points below a node."""

    low: np.ndarray  # nodes x features: the corners of a node's box
    high: np.ndarray
    dimension: np.ndarray
    cut: np.ndarray
    left: np.ndarray
    right: np.ndarray
    mass: np.ndarray
    trees: int

    @cached_property
    def extent(self) -> np.ndarray:
        """The sum of the sides of each node's box."""
        return (self.high - self.low).sum(axis=1, dtype=np.float64)

    def scores(self, points: np.ndarray) -> np.ndarray:
        """One score for each row; the larger, the more unusual."""
        points = np.ascontiguousarray(points, dtype=np.float32)
        rows_at_once = max(1, CELLS_MAX // (self.trees * self.low.shape[1]))
        parts = [
            self._scores(points[start : start + rows_at_once])
            for start in range(0, len(points), rows_at_once)
        ]
        return np.concatenate(parts) if parts else np.empty(0)

    def _scores(self, points: np.ndarray) -> np.ndarray:
        count = len(points)
        point = np.repeat(np.arange(count), self.trees)
        node = np.tile(np.arange(self.trees), count)
        whole = self.mass[node].astype(np.float64)
        chance = np.ones(len(point))  # of not having been parted above
        total = np.zeros(count)
        depth = 0
        while point.size:
            mass = self.mass[node].astype(np.float64)
            outside = _outside(
                points.take(point, 0), self.low.take(node, 0), self.high.take(node, 0)
            )
            inside = self.extent[node]
            is_leaf = self.left[node] < 0
            with np.errstate(invalid="ignore", divide="ignore"):
                parted = np.where(outside > 0, outside / (outside + inside), 0.0)
            if depth == 0 and not np.isfinite(parted).all():
                parted = np.nan_to_num(parted, nan=1.0)
            gain = chance * parted / (depth + 1)
            # A point that no cut can part from a leaf lies on it: deeper by the leaf's own points,
            # and the less unusual the more of the sample are there.
            met = (1 - mass / (2 * whole)) / (depth + np.log2(mass + 1))
            gain += np.where(is_leaf, chance * (1 - parted) * met, 0.0)
            np.add.at(total, point, gain * np.log2(whole + 1))
            chance = chance * (1 - parted)
            going = ~is_leaf & (chance > CHANCE_MIN)
            point, node, whole, chance = point[going], node[going], whole[going], chance[going]
            values = points[point, self.dimension[node]]
            node = np.where(values <= self.cut[node], self.left[node], self.right[node])
            depth += 1
        return total / self.trees


def _outside(rows: np.ndarray, low: np.ndarray, high: np.ndarray) -> np.ndarray:
    """How far each row is outside its box, summed over the features; writes over the boxes."""
    np.subtract(low, rows, out=low)
    np.subtract(rows, high, out=high)
    gap = np.maximum(low, high, out=low)
    np.maximum(gap, 0, out=gap)
    return (gap @ np.ones(gap.shape[1], dtype=np.float32)).astype(np.float64)


def grow(samples: list[np.ndarray], seed: int) -> Forest:
    """One tree for each sample."""
    random = np.random.default_rng(seed)
    builder = _Builder(samples[0].shape[1])
    for _ in samples:
        builder.add()
    for root, sample in enumerate(samples):
        waiting = [(root, sample)]
        while waiting:
            node, rows = waiting.pop()
            waiting.extend(builder.divide(node, rows, random))
    return builder.forest(len(samples))


class _Builder:
    """Nodes as they are made."""

    def __init__(self, width: int) -> None:
        self.width = width
        self.low: list[np.ndarray] = []
        self.high: list[np.ndarray] = []
        self.cells: list[list[float]] = []  # dimension, cut, left, right, mass

    def add(self) -> int:
        nothing = np.zeros(self.width, dtype=np.float32)
        self.low.append(nothing)
        self.high.append(nothing)
        self.cells.append([-1, 0.0, -1, -1, 0])
        return len(self.cells) - 1

    def divide(
        self, node: int, rows: np.ndarray, random: np.random.Generator
    ) -> list[tuple[int, np.ndarray]]:
        """Describe a node, and return its two children with their rows, if it has any."""
        low, high = rows.min(axis=0), rows.max(axis=0)
        self.low[node], self.high[node] = low, high
        self.cells[node][4] = len(rows)
        reach = np.cumsum(high.astype(np.float64) - low)
        if not reach[-1] > 0:
            return []
        at = random.random() * reach[-1]
        dimension = min(int(np.searchsorted(reach, at, side="right")), self.width - 1)
        before = reach[dimension - 1] if dimension else 0.0
        cut = np.float32(low[dimension] + (at - before))
        if not low[dimension] <= cut < high[dimension]:
            # Rounding: the largest value has to stay on the right side of its cut.
            cut = low[dimension]
            if not low[dimension] < high[dimension]:
                dimension = int((high - low).argmax())
                cut = low[dimension]
        is_left = rows[:, dimension] <= cut
        left, right = self.add(), self.add()
        self.cells[node][:4] = [dimension, float(cut), left, right]
        return [(left, rows[is_left]), (right, rows[~is_left])]

    def forest(self, trees: int) -> Forest:
        table = np.array(self.cells, dtype=np.float64)
        return Forest(
            low=np.stack(self.low),
            high=np.stack(self.high),
            dimension=table[:, 0].astype(np.int32),
            cut=table[:, 1].astype(np.float32),
            left=table[:, 2].astype(np.int32),
            right=table[:, 3].astype(np.int32),
            mass=table[:, 4].astype(np.int32),
            trees=trees,
        )


ARRAYS = ("low", "high", "dimension", "cut", "left", "right", "mass")
