"""Mean average precision: how well boxes are found, over all classes and all scores."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch

from clary.workloads.algorithms.object_detection.anchors import overlaps


def mean_average_precision(
    found: Sequence[np.ndarray], truth: Sequence[np.ndarray], overlap_min: float
) -> float:
    """Of rows of class, score, box, and of class, box, of each image.

    The mean is over the classes that any image has.
    """
    classes = sorted({int(number) for rows in truth for number in rows[:, 0]})
    scores = [_average(found, truth, number, overlap_min) for number in classes]
    return float(np.mean(scores)) if scores else 0.0


def _average(
    found: Sequence[np.ndarray], truth: Sequence[np.ndarray], number: int, overlap_min: float
) -> float:
    """The area under the curve of precision over recall of one class."""
    total, judged = 0, []
    for detected, real in zip(found, truth):  # noqa: B905 - one each an image
        own, boxes = detected[detected[:, 0] == number], real[real[:, 0] == number, 1:]
        total += len(boxes)
        judged.append(_judge(own, boxes, overlap_min))
    rows = np.concatenate(judged)
    order = np.argsort(-rows[:, 0], kind="stable")
    hits = np.cumsum(rows[order, 1])
    recall = hits / max(total, 1)
    precision = hits / np.arange(1, len(hits) + 1)
    # At each recall the best precision that is reached at it or beyond.
    best = np.maximum.accumulate(precision[::-1])[::-1]
    return float((np.diff(recall, prepend=0.0) * best).sum())


def _judge(detected: np.ndarray, boxes: np.ndarray, overlap_min: float) -> np.ndarray:
    """The score of each detection, and whether it is the first to find its box."""
    judged = np.zeros((len(detected), 2))
    judged[:, 0] = detected[:, 1]
    if not len(boxes) or not len(detected):
        return judged
    shared = overlaps(torch.from_numpy(detected[:, 2:]), torch.from_numpy(boxes)).numpy()
    taken = np.zeros(len(boxes), dtype=bool)
    for at in np.argsort(-detected[:, 1], kind="stable"):
        best = int(shared[at].argmax())
        if shared[at, best] >= overlap_min and not taken[best]:
            taken[best], judged[at, 1] = True, 1
    return judged
