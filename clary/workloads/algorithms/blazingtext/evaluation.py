"""How well word vectors agree with people: WordSim-353 (Finkelstein and others, 2002)."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import gensim
import numpy as np
from scipy.stats import spearmanr

NAME = "EN-WS-353-ALL.txt"  # as SageMaker's container calls the pairs
PAIRS = Path(gensim.__file__).parent / "test" / "test_data" / "wordsim353.tsv"


def pairs() -> list[tuple[str, str, float]]:
    """Two words, and how similar people found them, from 0 to 10."""
    found = []
    for line in PAIRS.read_text(encoding="utf-8").splitlines():
        if line and not line.startswith("#"):
            one, other, score = line.split("\t")
            found.append((one.lower(), other.lower(), float(score)))
    return found


def word_similarity(model: Any) -> dict[str, Any]:
    """Spearman's rank correlation over the pairs whose words are known; 0 where that has no value."""
    known = set(model.get_words())
    every = pairs()
    judged = [(a, b, score) for a, b, score in every if a in known and b in known]
    rho = 0.0
    if len(judged) > 1:
        cosines = [_cosine(model, a, b) for a, b, _ in judged]
        found = float(spearmanr(cosines, [score for _, _, score in judged]).statistic)
        rho = found if np.isfinite(found) else 0.0
    report = {
        "not_found": len(every) - len(judged),
        "spearmans_rho": rho,
        "total_pairs": len(every),
    }
    return {NAME: report, "mean_rho": rho}


def _cosine(model: Any, one: str, other: str) -> float:
    a, b = model.get_word_vector(one), model.get_word_vector(other)
    return float(a @ b / max(np.linalg.norm(a) * np.linalg.norm(b), 1e-12))
