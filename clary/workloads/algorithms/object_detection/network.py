"""The detector: a backbone, smaller and smaller maps after it, and on each map two small heads.

      stride 8     16      32      64     128     256
image ──▶ stage ──▶ stage ──▶ stage ──▶ extra ──▶ extra ──▶ extra
            │        │        │        │        │        │
          heads    heads    heads    heads    heads    heads    classes and differences
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import nn
from torch.nn import functional

from clary.workloads.algorithms.object_detection import anchors as geometry
from clary.workloads.algorithms.vision.resnet import (
    WIDTH,
    Backbone,
    initialize,
    initialize_last,
    normalized,
)

EXTRAS = 3
NEGATIVES_A_POSITIVE = 3
VGG_STAGES = ((1, 2), (2, 2), (4, 3), (8, 3), (8, 3))  # width, convolutions


class Vgg(nn.Module):
    """The sixteen-layer network with batch normalisation, without its classifier."""

    def __init__(self, width: int) -> None:
        super().__init__()
        parts: list[nn.Module] = []
        self.ends, inputs = [], 3
        for factor, count in VGG_STAGES:
            for _ in range(count):
                outputs = width * factor
                parts += [
                    nn.Conv2d(inputs, outputs, 3, padding=1),
                    nn.BatchNorm2d(outputs),
                    nn.ReLU(inplace=True),
                ]
                inputs = outputs
            parts.append(nn.MaxPool2d(2, 2, ceil_mode=True))
            self.ends.append(len(parts))
        self.features = nn.Sequential(*parts)
        self.outputs = [width * factor for factor, _ in VGG_STAGES][2:]
        initialize(self)

    def forward(self, rows: torch.Tensor) -> list[torch.Tensor]:
        found = []
        for at, part in enumerate(self.features, 1):
            rows = part(rows)
            if at in self.ends[2:]:
                found.append(rows)
        return found


class Detector(nn.Module):
    def __init__(self, base_network: str, classes: int, width: int = WIDTH) -> None:
        super().__init__()
        self.is_vgg = base_network == "vgg-16"
        self.backbone = Vgg(width) if self.is_vgg else Backbone(50, width=width)
        outputs: list[int] = list(self.backbone.outputs[-3:])
        inner = outputs[-1] // 4
        self.extras = nn.ModuleList()
        for _ in range(EXTRAS):
            self.extras.append(_halving(outputs[-1], inner, inner * 2))
            outputs.append(inner * 2)
        kinds = [len(one) + 1 for one in geometry.ratios(len(outputs))]
        self.classes = classes
        self.class_heads, self.box_heads = nn.ModuleList(), nn.ModuleList()
        for inputs, count in zip(outputs, kinds):  # noqa: B905 - same length
            self.class_heads.append(nn.Conv2d(inputs, count * (classes + 1), 3, padding=1))
            self.box_heads.append(nn.Conv2d(inputs, count * 4, 3, padding=1))
        initialize(self.extras)
        initialize_last(self.class_heads)
        initialize_last(self.box_heads)
        self._anchors: dict[tuple[tuple[int, int], ...], torch.Tensor] = {}

    def forward(self, rows: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """The scores of the classes and the differences of each anchor; and the anchors."""
        maps = self.backbone(rows)[-3:]
        for extra in self.extras:
            maps.append(extra(maps[-1]))
        scores = [
            _flat(head(one), self.classes + 1)
            for head, one in zip(self.class_heads, maps)  # noqa: B905 - same length
        ]
        differences = [
            _flat(head(one), 4)
            for head, one in zip(self.box_heads, maps)  # noqa: B905 - same length
        ]
        shapes = tuple((one.shape[2], one.shape[3]) for one in maps)
        if shapes not in self._anchors:
            self._anchors = {shapes: geometry.grid(shapes).to(rows.device)}
        return torch.cat(scores, dim=1), torch.cat(differences, dim=1), self._anchors[shapes]


def _halving(inputs: int, inner: int, outputs: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(inputs, inner, 1, bias=False),
        normalized(inner),
        nn.ReLU(inplace=True),
        nn.Conv2d(inner, outputs, 3, 2, 1, bias=False),
        normalized(outputs),
        nn.ReLU(inplace=True),
    )


def _flat(found: torch.Tensor, values: int) -> torch.Tensor:
    """(images, kinds x values, height, width) as (images, anchors, values)."""
    return found.permute(0, 2, 3, 1).reshape(len(found), -1, values)


def losses(
    scores: torch.Tensor,
    differences: torch.Tensor,
    anchors: torch.Tensor,
    truth: Sequence[torch.Tensor],
) -> Mapping[str, torch.Tensor]:
    """The cross entropy and the smooth L1 distance, for each anchor that has a box.

    Nearly all anchors have none: of these, only the ones that are most wrong are learned from.
    """
    pairs = [geometry.matched(anchors.cpu(), boxes) for boxes in truth]
    classes = torch.stack([pair[0] for pair in pairs]).to(scores.device)
    wanted = torch.stack([pair[1] for pair in pairs]).to(scores.device)
    positive = classes > 0
    entropy = functional.cross_entropy(scores.transpose(1, 2), classes, reduction="none")
    hardness = torch.where(positive, -1.0, entropy.detach())
    rank = hardness.argsort(dim=1, descending=True).argsort(dim=1)
    allowed = (NEGATIVES_A_POSITIVE * positive.sum(dim=1, keepdim=True)).clamp(min=1)
    chosen = positive | ((rank < allowed) & ~positive)
    count = positive.sum().clamp(min=1)
    distance = functional.smooth_l1_loss(differences[positive], wanted[positive], reduction="sum")
    return {"cross_entropy": entropy[chosen].sum() / count, "smooth_l1": distance / count}
