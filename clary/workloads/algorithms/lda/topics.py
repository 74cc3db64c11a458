"""Topics from moments, by tensor power iterations; and a document's mixture of known topics."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.sparse import csr_matrix
from scipy.special import digamma

from clary.workloads.algorithms.lda.moments import Corpus

SEED = 0
PROBABILITY_MIN = 1e-10
DOCUMENT_CELLS_AT_ONCE = 4_000_000
DOCUMENT_ITERATIONS_MAX = 200
DOCUMENT_TOLERANCE = 1e-4


@dataclass(frozen=True)
class Topics:
    """`alpha` are the parameters of the Dirichlet, `beta` the probabilities of words by topic."""

    alpha: np.ndarray
    beta: np.ndarray


def learn(
    corpus: Corpus, count: int, *, restarts: int, iterations_max: int, tolerance: float
) -> Topics:
    """The topics of a corpus; those that the moments do not tell apart are the corpus itself."""
    alpha0 = corpus.alpha0
    space = corpus.whitening(count)
    tensor = corpus.third(space.whiten)
    random = np.random.default_rng(SEED)
    alpha, beta = [], []
    for _ in range(tensor.shape[0]):
        value, vector = _strongest(tensor, random, restarts, iterations_max, tolerance)
        if value <= 0:
            break
        tensor = tensor - value * np.multiply.outer(np.outer(vector, vector), vector)
        alpha.append(4 * alpha0 * (alpha0 + 1) / ((alpha0 + 2) * value) ** 2)
        beta.append(_distribution(space.colour @ vector))
    while len(alpha) < count:
        alpha.append(min(alpha, default=alpha0))
        beta.append(_distribution(corpus.first))
    weights = np.array(alpha)
    return Topics(weights * (alpha0 / weights.sum()), np.stack(beta))


def _strongest(
    tensor: np.ndarray, random: np.random.Generator, restarts: int, iterations_max: int, tol: float
) -> tuple[float, np.ndarray]:
    """The largest eigenvalue and its vector, from the best of several starts."""
    size = tensor.shape[0]
    flat = tensor.reshape(size * size, size)
    best, found = -np.inf, np.zeros(size)
    for _ in range(restarts):
        vector = random.normal(size=size)
        vector /= np.linalg.norm(vector)
        for _ in range(iterations_max):
            after = (flat @ vector).reshape(size, size) @ vector
            length = np.linalg.norm(after)
            if not length:
                break
            after /= length
            moved = float(np.linalg.norm(after - vector))
            vector = after
            if moved < tol:
                break
        value = float(vector @ (flat @ vector).reshape(size, size) @ vector)
        if value > best:
            best, found = value, vector
    return best, found


def _distribution(values: np.ndarray) -> np.ndarray:
    """The nearest probabilities: noise makes some words slightly negative."""
    positive = np.maximum(values if values.sum() >= 0 else -values, PROBABILITY_MIN)
    return positive / positive.sum()


def mixtures(counts: Any, topics: Topics) -> np.ndarray:
    """How much of each topic is in each document, by variational inference."""
    words = topics.beta.shape[1]
    step = max(1, DOCUMENT_CELLS_AT_ONCE // words)
    parts = [
        _mixtures(_dense(counts[start : start + step]), topics)
        for start in range(0, counts.shape[0], step)
    ]
    return np.concatenate(parts) if parts else np.empty((0, len(topics.alpha)))


def _mixtures(counts: np.ndarray, topics: Topics) -> np.ndarray:
    gamma = np.full((len(counts), len(topics.alpha)), 1.0) * (
        topics.alpha + counts.sum(axis=1, keepdims=True) / len(topics.alpha)
    )
    for _ in range(DOCUMENT_ITERATIONS_MAX):
        expected = np.exp(digamma(gamma) - digamma(gamma.sum(axis=1, keepdims=True)))
        likely = np.maximum(expected @ topics.beta, PROBABILITY_MIN)
        after = topics.alpha + expected * ((counts / likely) @ topics.beta.T)
        moved = np.abs(after - gamma).mean()
        gamma = after
        if moved < DOCUMENT_TOLERANCE:
            break
    return gamma / gamma.sum(axis=1, keepdims=True)


def log_likelihood(counts: Any, topics: Topics) -> tuple[float, float]:
    """The sum of the words' log probabilities, and the number of words."""
    words = topics.beta.shape[1]
    step = max(1, DOCUMENT_CELLS_AT_ONCE // words)
    total, number = 0.0, 0.0
    for start in range(0, counts.shape[0], step):
        part = _dense(counts[start : start + step])
        likely = np.maximum(_mixtures(part, topics) @ topics.beta, PROBABILITY_MIN)
        total += float((part * np.log(likely)).sum())
        number += float(part.sum())
    return total, number


def _dense(rows: Any) -> np.ndarray:
    found = rows.toarray() if isinstance(rows, csr_matrix) else rows
    return np.asarray(found, dtype=np.float64)
