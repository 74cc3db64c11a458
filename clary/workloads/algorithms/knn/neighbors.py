"""The index of a k-nearest-neighbors model: what it holds, and what it says of rows."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import faiss
import numpy as np

ROWS_AT_ONCE = 8192


@dataclass(frozen=True)
class Neighbors:
    """A faiss index with the labels of its vectors, in their order."""

    index: Any
    labels: np.ndarray
    k: int
    classifies: bool
    metric: str  # "L2", "INNER_PRODUCT", "COSINE"
    projection: np.ndarray | None

    def prepared(self, rows: Any) -> np.ndarray:
        return prepared(rows, self.projection, self.metric)

    def search(self, rows: Any) -> np.ndarray:
        """For each row: the predicted label, the k distances (ascending), the k labels."""
        rows = rows if isinstance(rows, np.ndarray) else rows.toarray()
        parts = [
            self._search(rows[start : start + ROWS_AT_ONCE])
            for start in range(0, len(rows), ROWS_AT_ONCE)
        ]
        return np.concatenate(parts)

    def _search(self, rows: np.ndarray) -> np.ndarray:
        distances, places = self.index.search(self.prepared(rows), self.k)
        distances = distances.astype(np.float64)
        if self.metric == "L2":
            distances = np.sqrt(np.maximum(distances, 0.0))
        else:
            # Likeness falls along the list; as a distance it rises.
            distances = (1.0 if self.metric == "COSINE" else 0.0) - distances
        found = self.labels[np.maximum(places, 0)].astype(np.float64)
        # An inverted file may visit too few vectors to find k of them.
        missing = places < 0
        found[missing], distances[missing] = np.nan, np.inf
        if self.classifies:
            answer = _vote(found)
        else:
            answer = np.nanmean(found, axis=1)
        if missing.any():
            nearest = np.where(np.isnan(found[:, :1]), 0.0, found[:, :1])
            found = np.where(missing, nearest, found)
            distances = np.where(missing, distances[:, :1], distances)
        return np.column_stack([answer, distances, found])


def prepared(rows: np.ndarray, projection: np.ndarray | None, metric: str) -> np.ndarray:
    """The vectors as the index holds them."""
    found = rows.astype(np.float32, copy=False)
    if projection is not None:
        found = found @ projection
    found = np.ascontiguousarray(found)
    if metric == "COSINE":
        lengths = np.linalg.norm(found, axis=1, keepdims=True)
        found = found / np.where(lengths == 0, 1, lengths)
    return found


def _vote(labels: np.ndarray) -> np.ndarray:
    """The most frequent label of each row; the smallest where several are equally frequent."""
    known = labels[~np.isnan(labels)]
    classes = np.unique(known)
    if not classes.size:
        return np.zeros(len(labels))
    counts = np.zeros((len(labels), len(classes)), dtype=np.int32)
    places = np.searchsorted(classes, np.where(np.isnan(labels), classes[0], labels))
    np.add.at(counts, (np.arange(len(labels))[:, None], places), ~np.isnan(labels))
    return classes[counts.argmax(axis=1)]


def new_index(
    rows: np.ndarray, *, kind: str, metric: str, lists: int | str, quantizers: int, sample: int
) -> Any:
    """An index trained for the rows, without them."""
    width = rows.shape[1]
    measure = faiss.METRIC_L2 if metric == "L2" else faiss.METRIC_INNER_PRODUCT
    flat = faiss.IndexFlatL2(width) if metric == "L2" else faiss.IndexFlatIP(width)
    if kind == "faiss.Flat":
        return flat
    count = int(np.sqrt(sample)) if lists == "auto" else int(lists)
    count = max(1, min(count, len(rows)))
    if kind == "faiss.IVFFlat":
        index = faiss.IndexIVFFlat(flat, width, count, measure)
    else:
        # 256 code words need as many vectors to be learned from.
        bits = max(1, min(8, int(np.log2(len(rows)))))
        index = faiss.IndexIVFPQ(flat, width, count, quantizers, bits, measure)
    # Without this faiss prints a warning for each few vectors that a cell has.
    index.cp.min_points_per_centroid = 1
    index.train(rows)
    index.own_fields = True
    flat.this.disown()
    index.nprobe = max(1, min(count, max(8, count // 8)))
    return index
