"""BLEU: how many short sequences of words translations share with their references."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence

WORDS_MAX = 4


def bleu(found: Sequence[Sequence[int]], references: Sequence[Sequence[int]]) -> float:
    """Of a whole corpus, between 0 and 1; lengths that no translation has are left out."""
    hits, totals = [0] * WORDS_MAX, [0] * WORDS_MAX
    for one, reference in zip(found, references):  # noqa: B905 - Python 3.8
        for size in range(1, WORDS_MAX + 1):
            own, other = _sequences(one, size), _sequences(reference, size)
            hits[size - 1] += sum((own & other).values())
            totals[size - 1] += sum(own.values())
    shares = [hit / total for hit, total in zip(hits, totals) if total]  # noqa: B905
    if not shares or not all(shares):
        return 0.0
    written, wanted = sum(map(len, found)), sum(map(len, references))
    brevity = min(0.0, 1 - wanted / written)
    return math.exp(brevity + sum(map(math.log, shares)) / len(shares))


def _sequences(words: Sequence[int], size: int) -> Counter[tuple[int, ...]]:
    return Counter(tuple(words[at : at + size]) for at in range(len(words) - size + 1))
