"""Request bodies of models that take numbers only."""

from __future__ import annotations

import numpy as np

from clary.workloads.algorithms.tabular.serving import unfit
from clary.workloads.formats import csv_rows


def decode(body: bytes, features: int) -> np.ndarray:
    """The rows of a CSV body, a missing value as NaN; refuses with 400."""
    try:
        rows = csv_rows.read(body)
    except (ValueError, OverflowError) as problem:
        raise unfit(f"the body is not CSV of numbers: {problem}") from problem
    if rows.shape[1] != features:
        raise unfit(
            f"the rows have {rows.shape[1]} features, the model was trained with {features}"
        )
    return rows
