"""Kernel SHAP: how much each feature of a record moves a prediction away from that of a baseline. Pure.

A coalition is a set of features that keep the record's values while the others take the baseline's,
written as an integer whose bit i is feature i. The attributions are the weighted least squares of the
predictions of coalitions, under the constraint that they add up to the whole difference (Lundberg and
Lee, 2017). Few features have all their coalitions looked at; of many, the sizes that weigh most are
whole and the rest is sampled in complementary pairs.
"""

from __future__ import annotations

import math
import random
from collections.abc import Sequence
from itertools import combinations

SAMPLES_EXTRA = 2048
RIDGE = 1e-12
Row = list[float]  # one value for each class


def sample_count(features: int, wanted: int | None) -> int:
    """n_samples as the service documents it: MIN(NumberOfSamples, 2^n - 2), by default 2n + 2048."""
    most = 2**features - 2
    return max(0, min(wanted or 2 * features + SAMPLES_EXTRA, most))


def coalitions(features: int, samples: int, seed: int | None) -> dict[int, float]:
    """Coalitions and their weights, neither empty nor whole; the weights add up to one."""
    if features < 2:
        return {}
    # Few samples tell nothing of most features: the system would have no single solution.
    samples = max(samples, min(2 * features, 2**features - 2))
    sizes = range(1, features // 2 + 1)
    share = [_kernel(size, features) for size in sizes]
    total = sum(share)
    share = [one / total for one in share]
    found: dict[int, float] = {}
    left = samples
    for number, size in enumerate(sizes):
        subsets = math.comb(features, size) * (1 if 2 * size == features else 2)
        rest = sum(share[number:])
        if left * share[number] / rest < subsets * (1 - 1e-9):
            sampled = _sampled(features, left, share[number:], size, random.Random(seed))
            count = sum(sampled.values())
            return found | {mask: rest * one / count for mask, one in sampled.items()}
        for members in combinations(range(features), size):
            mask = sum(1 << member for member in members)
            found[mask] = found[_complement(mask, features)] = share[number] / subsets
        left -= subsets
    return found


def attributions(
    masks: dict[int, float], predictions: Sequence[Row], none: Row, whole: Row, features: int
) -> list[Row]:
    """The attribution of each feature to each class; `predictions` are those of the masks, in their order."""
    classes = range(len(whole))
    total = [whole[one] - none[one] for one in classes]
    if features == 1:
        return [total]
    products = _products(masks, features)
    last = features - 1
    corner = products[last][last]
    matrix = [
        [
            products[i][j] - products[i][last] - products[j][last] + corner + (RIDGE * (i == j))
            for j in range(last)
        ]
        for i in range(last)
    ]
    sides = [[0.0] * len(total) for _ in range(last)]
    for (mask, weight), predicted in zip(masks.items(), predictions, strict=True):
        has_last = mask >> last & 1
        left = [weight * (predicted[k] - none[k] - has_last * total[k]) for k in classes]
        for i in range(last):
            sign = (mask >> i & 1) - has_last
            if sign:
                side = sides[i]
                for k in classes:
                    side[k] += sign * left[k]
    solved = _solve(matrix, sides)
    return [*solved, [total[k] - sum(row[k] for row in solved) for k in classes]]


def _kernel(size: int, features: int) -> float:
    weight = (features - 1) / (size * (features - size))
    return weight if 2 * size == features else 2 * weight


def _complement(mask: int, features: int) -> int:
    return ((1 << features) - 1) ^ mask


def _sampled(
    features: int, samples: int, share: Sequence[float], first: int, chance: random.Random
) -> dict[int, int]:
    """Coalitions of the sizes from `first` on, drawn by weight, and how often each was drawn."""
    drawn: dict[int, int] = {}
    sizes = range(first, first + len(share))
    for _ in range(4 * samples):
        if len(drawn) >= samples:
            break
        size = chance.choices(sizes, share)[0]
        mask = sum(1 << member for member in chance.sample(range(features), size))
        for one in (mask, _complement(mask, features)):
            drawn[one] = drawn.get(one, 0) + 1
    return drawn


def _products(masks: dict[int, float], features: int) -> list[list[float]]:
    """Of each pair of features, the weight of the coalitions that hold both.

    Coalitions of one weight are counted together, by the bits that two columns have in common.
    """
    columns: dict[float, list[int]] = {}
    for number, (mask, weight) in enumerate(masks.items()):
        column = columns.setdefault(weight, [0] * features)
        bit = 1 << number
        for feature in range(features):
            if mask >> feature & 1:
                column[feature] |= bit
    found = [[0.0] * features for _ in range(features)]
    for i in range(features):
        for j in range(i, features):
            both = sum(w * (one[i] & one[j]).bit_count() for w, one in columns.items())
            found[i][j] = found[j][i] = both
    return found


def _solve(matrix: list[list[float]], sides: list[Row]) -> list[Row]:
    """Gaussian elimination with partial pivoting, of several right-hand sides at once."""
    size = len(matrix)
    rows = [[*matrix[i], *sides[i]] for i in range(size)]
    for at in range(size):
        best = max(range(at, size), key=lambda one: abs(rows[one][at]))
        rows[at], rows[best] = rows[best], rows[at]
        pivot = rows[at]
        for below in rows[at + 1 :]:
            factor = below[at] / pivot[at]
            if factor:
                for column in range(at, len(pivot)):
                    below[column] -= factor * pivot[column]
    found: list[Row] = [[] for _ in range(size)]
    for at in reversed(range(size)):
        row = rows[at]
        found[at] = [
            (row[size + k] - sum(row[j] * found[j][k] for j in range(at + 1, size))) / row[at]
            for k in range(len(row) - size)
        ]
    return found
