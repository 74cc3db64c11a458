"""Residual networks of 18 to 200 layers, and of 20 to 110 for small images.

Layers have the names that published weights of these networks have (`layer1.0.conv1.weight`), so
that such weights can be loaded.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import nn

BASIC = {18: (2, 2, 2, 2), 34: (3, 4, 6, 3)}
BOTTLENECK = {
    50: (3, 4, 6, 3),
    101: (3, 4, 23, 3),
    152: (3, 8, 36, 3),
    200: (3, 24, 36, 3),
}
SMALL = {layers: ((layers - 2) // 6,) * 3 for layers in (20, 32, 44, 56, 110)}
LAYERS = (*SMALL, *BASIC, *BOTTLENECK)
WIDTH, SMALL_WIDTH = 64, 16
LAST_SPREAD = 0.01


@dataclass(frozen=True)
class Convolution:
    """The shape of the middle convolution of a block."""

    stride: int = 1
    dilation: int = 1


class Basic(nn.Module):
    expansion = 1

    def __init__(self, inputs: int, width: int, middle: Convolution) -> None:
        super().__init__()
        self.conv1 = _three(inputs, width, middle)
        self.bn1 = nn.BatchNorm2d(width)
        self.conv2 = _three(width, width, Convolution(1, middle.dilation))
        self.bn2 = nn.BatchNorm2d(width)
        self.relu = nn.ReLU(inplace=True)
        self.downsample = _shortcut(inputs, width, middle.stride)
        nn.init.zeros_(self.bn2.weight)

    def forward(self, rows: torch.Tensor) -> torch.Tensor:
        found = self.relu(self.bn1(self.conv1(rows)))
        found = self.bn2(self.conv2(found))
        return self.relu(found + (rows if self.downsample is None else self.downsample(rows)))


class Bottleneck(nn.Module):
    expansion = 4

    def __init__(self, inputs: int, width: int, middle: Convolution) -> None:
        super().__init__()
        outputs = width * self.expansion
        self.conv1 = nn.Conv2d(inputs, width, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.conv2 = _three(width, width, middle)
        self.bn2 = nn.BatchNorm2d(width)
        self.conv3 = nn.Conv2d(width, outputs, 1, bias=False)
        self.bn3 = nn.BatchNorm2d(outputs)
        self.relu = nn.ReLU(inplace=True)
        self.downsample = _shortcut(inputs, outputs, middle.stride)
        # A block that starts as the identity lets deep networks learn from the first step.
        nn.init.zeros_(self.bn3.weight)

    def forward(self, rows: torch.Tensor) -> torch.Tensor:
        found = self.relu(self.bn1(self.conv1(rows)))
        found = self.relu(self.bn2(self.conv2(found)))
        found = self.bn3(self.conv3(found))
        return self.relu(found + (rows if self.downsample is None else self.downsample(rows)))


class Backbone(nn.Module):
    """All but the last layer; `forward` gives the outputs of every stage.

    With `dilated`, the last two stages keep the resolution, and look wider instead.
    """

    def __init__(
        self, layers: int, *, channels: int = 3, width: int | None = None, dilated: bool = False
    ) -> None:
        super().__init__()
        self.is_small = layers in SMALL
        block = Bottleneck if layers in BOTTLENECK else Basic
        counts = {**SMALL, **BASIC, **BOTTLENECK}[layers]
        first = width or (SMALL_WIDTH if self.is_small else WIDTH)
        stem = Convolution(1) if self.is_small else Convolution(2)
        size = 3 if self.is_small else 7
        self.conv1 = nn.Conv2d(channels, first, size, stem.stride, size // 2, bias=False)
        self.bn1 = nn.BatchNorm2d(first)
        self.relu = nn.ReLU(inplace=True)
        self.maxpool = nn.Identity() if self.is_small else nn.MaxPool2d(3, 2, 1)
        inputs, self.outputs = first, []
        for stage, count in enumerate(counts):
            middle = _middle(stage, dilated=dilated)
            inner = first << stage
            parts: list[nn.Module] = []
            for at in range(count):
                parts.append(block(inputs, inner, middle if not at else _later(middle)))
                inputs = inner * block.expansion
            self.add_module(f"layer{stage + 1}", nn.Sequential(*parts))
            self.outputs.append(inputs)
        initialize(self)

    def forward(self, rows: torch.Tensor) -> list[torch.Tensor]:
        rows = self.maxpool(self.relu(self.bn1(self.conv1(rows))))
        found = []
        for stage in range(len(self.outputs)):
            rows = getattr(self, f"layer{stage + 1}")(rows)
            found.append(rows)
        return found


class ResNet(Backbone):
    """A classifier."""

    def __init__(self, layers: int, classes: int, channels: int = 3) -> None:
        super().__init__(layers, channels=channels)
        self.fc = nn.Linear(self.outputs[-1], classes)

    def forward(self, rows: torch.Tensor) -> torch.Tensor:  # type: ignore[override]
        return self.fc(super().forward(rows)[-1].mean(dim=(2, 3)))


def _middle(stage: int, *, dilated: bool) -> Convolution:
    if dilated and stage >= 2:
        return Convolution(1, 2 ** (stage - 1))
    return Convolution(1 if stage == 0 else 2)


def _later(middle: Convolution) -> Convolution:
    return Convolution(1, middle.dilation)


def _three(inputs: int, outputs: int, shape: Convolution) -> nn.Conv2d:
    return nn.Conv2d(
        inputs, outputs, 3, shape.stride, shape.dilation, dilation=shape.dilation, bias=False
    )


def _shortcut(inputs: int, outputs: int, stride: int) -> nn.Module | None:
    if stride == 1 and inputs == outputs:
        return None
    return nn.Sequential(nn.Conv2d(inputs, outputs, 1, stride, bias=False), nn.BatchNorm2d(outputs))


def normalized(channels: int) -> nn.GroupNorm:
    """For small maps: of a few pixels, a batch tells too little to be normalised by."""
    return nn.GroupNorm(next(count for count in (8, 4, 2, 1) if channels % count == 0), channels)


def initialize(network: nn.Module) -> None:
    for part in network.modules():
        if isinstance(part, nn.Conv2d):
            nn.init.kaiming_normal_(part.weight, mode="fan_out", nonlinearity="relu")
            if part.bias is not None:
                nn.init.zeros_(part.bias)


def initialize_last(head: nn.Module) -> None:
    """A layer that gives scores begins near zero: large wrong scores would have to be unlearned."""
    for part in head.modules():
        if isinstance(part, nn.Conv2d):
            nn.init.normal_(part.weight, std=LAST_SPREAD)
            if part.bias is not None:
                nn.init.zeros_(part.bias)
