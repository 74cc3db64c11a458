"""The network: a residual network that keeps an eighth of the resolution, and one of three heads."""

from __future__ import annotations

import torch
from torch import nn
from torch.nn import functional

from clary.workloads.algorithms.vision.resnet import (
    WIDTH,
    Backbone,
    initialize,
    initialize_last,
    normalized,
)

BINS = (1, 2, 3, 6)
RATES = (6, 12, 18)
AUXILIARY_SHARE = 0.5
STRIDE = 8


class Pyramid(nn.Module):
    """PSP: what the image shows around each place, at four scales."""

    def __init__(self, inputs: int, inner: int) -> None:
        super().__init__()
        part = max(inputs // len(BINS) // 4, 1)
        self.parts = nn.ModuleList(_convolution(inputs, part, 1) for _ in BINS)
        self.last = _convolution(inputs + part * len(BINS), inner, 3)

    def forward(self, rows: torch.Tensor) -> torch.Tensor:
        size = rows.shape[2:]
        found = [rows]
        for bins, part in zip(BINS, self.parts):  # noqa: B905 - same length
            pooled = part(functional.adaptive_avg_pool2d(rows, bins))
            found.append(_resized(pooled, size))
        return self.last(torch.cat(found, dim=1))


class Atrous(nn.Module):
    """DeepLab: convolutions that look at growing distances, and at the image as a whole."""

    def __init__(self, inputs: int, inner: int) -> None:
        super().__init__()
        self.parts = nn.ModuleList([_convolution(inputs, inner, 1)])
        self.parts.extend(_convolution(inputs, inner, 3, rate) for rate in RATES)
        self.whole = _convolution(inputs, inner, 1)
        self.last = _convolution(inner * (len(RATES) + 2), inner, 1)

    def forward(self, rows: torch.Tensor) -> torch.Tensor:
        found = [part(rows) for part in self.parts]
        whole = self.whole(functional.adaptive_avg_pool2d(rows, 1))
        found.append(_resized(whole, rows.shape[2:]))
        return self.last(torch.cat(found, dim=1))


class Segmenter(nn.Module):
    def __init__(self, algorithm: str, layers: int, classes: int, width: int = WIDTH) -> None:
        super().__init__()
        self.backbone = Backbone(layers, width=width, dilated=True)
        inputs, before = self.backbone.outputs[-1], self.backbone.outputs[-2]
        inner = inputs // 4
        heads = {"psp": Pyramid, "deeplab": Atrous}
        # The plain head of FCN is one convolution.
        self.head = (
            heads[algorithm](inputs, inner)
            if algorithm in heads
            else _convolution(inputs, inner, 3)
        )
        self.classifier = nn.Conv2d(inner, classes, 1)
        self.auxiliary = nn.Sequential(
            _convolution(before, before // 4, 3), nn.Conv2d(before // 4, classes, 1)
        )
        initialize(self.head)
        initialize(self.auxiliary)
        initialize_last(self.classifier)
        initialize_last(self.auxiliary[-1])

    def forward(self, rows: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """The scores of the classes at each pixel, by the head and by an earlier stage."""
        maps = self.backbone(rows)
        size = rows.shape[2:]
        main = self.classifier(self.head(maps[-1]))
        return _resized(main, size), _resized(self.auxiliary(maps[-2]), size)


def _convolution(inputs: int, outputs: int, size: int, rate: int = 1) -> nn.Sequential:
    around = rate * (size // 2)
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, size, padding=around, dilation=rate, bias=False),
        normalized(outputs),
        nn.ReLU(inplace=True),
    )


def _resized(rows: torch.Tensor, size: torch.Size) -> torch.Tensor:
    return functional.interpolate(rows, size=size, mode="bilinear", align_corners=False)
