"""Anchors: the boxes that a detector starts from, and how others are told relative to them.

Anchors are centre and size, boxes are corners; both count from 0 to 1 of the image.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import torch

END_RATIOS, MIDDLE_RATIOS = (1, 2, 0.5), (1, 2, 0.5, 3, 1 / 3)
SIZE_FIRST, SIZE_SECOND, SIZE_LAST = 0.1, 0.2, 0.95
CENTER_SPREAD, SIZE_SPREAD = 0.1, 0.2  # what differences are divided by
CANDIDATES_MAX = 400
SCORE_MIN = 0.01


def ratios(levels: int) -> list[tuple[float, ...]]:
    """The aspect ratios at each level; one more square comes between the sizes of two levels."""
    return [
        END_RATIOS if level in (0, levels - 2, levels - 1) else MIDDLE_RATIOS
        for level in range(levels)
    ]


def grid(shapes: Sequence[tuple[int, int]]) -> torch.Tensor:
    """The anchors of feature maps of these heights and widths, in the order of the heads."""
    levels = len(shapes)
    sizes = [SIZE_FIRST, *np.linspace(SIZE_SECOND, SIZE_LAST, levels - 1), 1.05]
    found = []
    for level, (height, width) in enumerate(shapes):
        size, between = sizes[level], math.sqrt(sizes[level] * sizes[level + 1])
        kinds = [
            (size * math.sqrt(ratio), size / math.sqrt(ratio)) for ratio in ratios(levels)[level]
        ]
        kinds.append((between, between))
        tops, lefts = np.meshgrid(
            (np.arange(height) + 0.5) / height, (np.arange(width) + 0.5) / width, indexing="ij"
        )
        centers = np.stack([lefts, tops], axis=-1)[:, :, None, :]
        sides = np.broadcast_to(np.array(kinds), (height, width, len(kinds), 2))
        both = np.concatenate([np.broadcast_to(centers, sides.shape), sides], axis=-1)
        found.append(both.reshape(-1, 4))
    return torch.from_numpy(np.concatenate(found).astype(np.float32))


def corners(anchors: torch.Tensor) -> torch.Tensor:
    half = anchors[..., 2:] / 2
    return torch.cat([anchors[..., :2] - half, anchors[..., :2] + half], dim=-1)


def overlaps(one: torch.Tensor, other: torch.Tensor) -> torch.Tensor:
    """Intersection over union of each box with each other box."""
    low = torch.maximum(one[:, None, :2], other[None, :, :2])
    high = torch.minimum(one[:, None, 2:], other[None, :, 2:])
    shared = (high - low).clamp(min=0).prod(dim=2)
    areas = [(boxes[:, 2:] - boxes[:, :2]).prod(dim=1) for boxes in (one, other)]
    return shared / (areas[0][:, None] + areas[1][None] - shared).clamp(min=1e-9)


def matched(
    anchors: torch.Tensor, truth: torch.Tensor, overlap_min: float = 0.5
) -> tuple[torch.Tensor, torch.Tensor]:
    """For each anchor its class (0 is none) and the differences to its box."""
    if not len(truth):
        return torch.zeros(len(anchors), dtype=torch.long), torch.zeros(len(anchors), 4)
    shared = overlaps(corners(anchors), truth[:, 1:])
    best, chosen = shared.max(dim=1)
    # Each box gets the anchor that is nearest to it, however far that is.
    for box, anchor in enumerate(shared.argmax(dim=0).tolist()):
        best[anchor], chosen[anchor] = 2.0, box
    classes = torch.where(best > overlap_min, truth[chosen, 0].long() + 1, 0)
    boxes = truth[chosen, 1:]
    centers, sides = (boxes[:, :2] + boxes[:, 2:]) / 2, boxes[:, 2:] - boxes[:, :2]
    moved = (centers - anchors[:, :2]) / anchors[:, 2:] / CENTER_SPREAD
    grown = torch.log(sides / anchors[:, 2:]) / SIZE_SPREAD
    return classes, torch.cat([moved, grown], dim=1)


def boxes_of(differences: torch.Tensor, anchors: torch.Tensor) -> torch.Tensor:
    """Corners, from what the network says of each anchor."""
    centers = anchors[:, :2] + differences[..., :2] * CENTER_SPREAD * anchors[:, 2:]
    sides = anchors[:, 2:] * torch.exp((differences[..., 2:] * SIZE_SPREAD).clamp(max=6))
    return corners(torch.cat([centers, sides], dim=-1)).clamp(0, 1)


def detections(
    probabilities: torch.Tensor, boxes: torch.Tensor, nms_threshold: float
) -> np.ndarray:
    """Rows of class, score, left, top, right, bottom of one image, the best first.

    Of boxes of one class that overlap by more than the threshold, the best stays.
    """
    scores = probabilities[:, 1:]
    count = min(CANDIDATES_MAX, scores.numel())
    values, flat = scores.reshape(-1).topk(count)
    flat, values = flat[values > SCORE_MIN], values[values > SCORE_MIN]
    anchor, kind = flat // scores.shape[1], flat % scores.shape[1]
    found = boxes[anchor]
    # Boxes of different classes are moved apart, so that they do not suppress one another.
    apart = found + 2.0 * kind[:, None]
    shared = (overlaps(apart, apart) > nms_threshold).cpu().numpy()
    kept = np.ones(len(found), dtype=bool)
    for at in range(len(found)):
        if kept[at]:
            kept[at + 1 :] &= ~shared[at, at + 1 :]
    rows = torch.cat([kind[:, None].float(), values[:, None], found], dim=1)
    return rows.cpu().numpy()[kept]
