"""The moments of a corpus that determine its topics, without ever forming a table of word pairs.

With c the counts of a document and n their sum, three words drawn from it without replacement
have cross moments that are polynomials in c. `alpha0`, the sum of the Dirichlet's parameters,
enters as a correction; the corrected second moment is a sum of squares of the topics, and the
third one of their cubes (Anandkumar et al., Tensor decompositions for learning latent variable
models, 2014).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.linalg import eigh
from scipy.sparse import csr_matrix
from scipy.sparse.linalg import LinearOperator, eigsh

DENSE_WORDS_MAX = 2000
WORDS_AT_ONCE = 4096
SEED = 0


@dataclass(frozen=True)
class Whitening:
    """`whiten` maps words to topics so that the second moment is one; `colour` maps back."""

    whiten: np.ndarray  # (words, topics)
    colour: np.ndarray  # (words, topics)


class Corpus:
    """Documents of at least three words, as counts."""

    def __init__(self, counts: csr_matrix, alpha0: float) -> None:
        lengths = np.asarray(counts.sum(axis=1), dtype=np.float64).ravel()
        kept = np.flatnonzero(lengths >= 3)
        self.counts = csr_matrix(counts[kept], dtype=np.float64)
        self.lengths, self.alpha0 = lengths[kept], alpha0
        self.documents, self.words = self.counts.shape
        n = self.lengths
        self.first = self._mean(1 / n) if self.documents else np.zeros(self.words)
        self._pairs = 1 / (n * (n - 1)) / max(self.documents, 1)
        self._triples = 1 / (n * (n - 1) * (n - 2)) / max(self.documents, 1)

    def _mean(self, weights: np.ndarray) -> np.ndarray:
        return np.asarray(self.counts.T @ weights).ravel() / self.documents

    def whitening(self, topics: int) -> Whitening:
        """From the largest eigenvalues of the second moment; fewer where it has no more."""
        values, vectors = self._leading(topics)
        kept = values > max(values.max(initial=0.0), 0.0) * 1e-10
        values, vectors = values[kept], vectors[:, kept]
        return Whitening(vectors / np.sqrt(values), vectors * np.sqrt(values))

    def _leading(self, count: int) -> tuple[np.ndarray, np.ndarray]:
        words = self.words
        if words <= DENSE_WORDS_MAX or count >= words - 1:
            dense = self._second(np.eye(words))
            return eigh((dense + dense.T) / 2, subset_by_index=(words - count, words - 1))
        operator = LinearOperator(
            (words, words), matvec=self._second, matmat=self._second, dtype=np.float64
        )
        start = np.random.default_rng(SEED).normal(size=words)
        return eigsh(operator, k=count, which="LA", v0=start)

    def _second(self, vectors: np.ndarray) -> np.ndarray:
        """The second moment times some vectors."""
        columns = vectors.reshape(self.words, -1)
        own = self.counts.T @ (self._pairs[:, None] * (self.counts @ columns))
        own -= np.asarray(self.counts.T @ self._pairs).reshape(-1, 1) * columns
        share = self.alpha0 / (self.alpha0 + 1)
        own -= share * np.outer(self.first, self.first @ columns)
        return np.asarray(own).reshape(vectors.shape)

    def third(self, whiten: np.ndarray) -> np.ndarray:
        """The third moment between whitened words: (topics, topics, topics)."""
        alpha0 = self.alpha0
        seen = self.counts @ whiten  # (documents, topics)
        weighted = self._triples[:, None] * seen
        total = _cubes(seen, seen, weighted)
        same = np.asarray(self.counts.T @ weighted)  # two of the three words are the same
        total -= _symmetric(_cubes(whiten, whiten, same))
        times = np.asarray(self.counts.T @ self._triples).reshape(-1, 1)
        total += 2 * _cubes(whiten, whiten, times * whiten)
        mean = whiten.T @ self.first
        pairs = (seen * self._pairs[:, None]).T @ seen
        pairs -= (whiten * np.asarray(self.counts.T @ self._pairs).reshape(-1, 1)).T @ whiten
        total -= alpha0 / (alpha0 + 2) * _symmetric(np.multiply.outer(pairs, mean))
        cube = np.multiply.outer(np.outer(mean, mean), mean)
        return total + 2 * alpha0**2 / ((alpha0 + 2) * (alpha0 + 1)) * cube


def _cubes(one: np.ndarray, other: np.ndarray, third: np.ndarray) -> np.ndarray:
    """The sum over rows of the products of all their entries."""
    size = one.shape[1]
    total = np.zeros((size * size, size))
    for start in range(0, len(one), WORDS_AT_ONCE):
        part = slice(start, start + WORDS_AT_ONCE)
        pairs = one[part][:, :, None] * other[part][:, None, :]
        total += pairs.reshape(len(pairs), -1).T @ third[part]
    return total.reshape(size, size, size)


def _symmetric(tensor: np.ndarray) -> np.ndarray:
    """The sum over the three places of the last index."""
    return tensor + tensor.transpose(0, 2, 1) + tensor.transpose(2, 0, 1)
