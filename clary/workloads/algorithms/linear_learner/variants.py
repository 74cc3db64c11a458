"""The models that are trained side by side: how strongly each is held back."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

MODELS_AUTO = 32
# Where models are fitted one after the other, as many as still pay off.
MODELS_AUTO_IN_TURN = 6
L2 = (1e-7, 1e-5, 1e-4, 1e-3, 1e-2, 1e-1, 3e-6, 3e-3)
L1 = (0.0, 1e-5, 1e-4, 1e-3)


@dataclass(frozen=True)
class Variant:
    """One model's penalties."""

    l2: float
    l1: float


def variants(values: Mapping[str, Any], *, in_turn: bool) -> list[Variant]:
    """As many as `num_models` says, those first that differ most; a given `wd` or `l1` is kept.

    Under tuning SageMaker trains one model, for the tuning job does the search.
    """
    l2 = L2 if values["wd"] == "auto" else (values["wd"],)
    l1 = L1 if values["l1"] == "auto" else (values["l1"],)
    every = [Variant(two, one) for one in l1 for two in l2]
    wanted = values["num_models"]
    if wanted == "auto":
        wanted = MODELS_AUTO_IN_TURN if in_turn else MODELS_AUTO
    return every[: max(1, wanted)]
