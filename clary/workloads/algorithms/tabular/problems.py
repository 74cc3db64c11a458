"""What a table asks for, by its labels: a number, one of two classes, or one of several."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from clary.workloads.algorithms.errors import UserError
from clary.workloads.algorithms.job import Job

REGRESSION, BINARY, MULTICLASS = "regression", "binary", "multiclass"
# Whole numbers count as classes where they are few and each of them comes often.
CLASSES_MAX = 100
ROWS_OF_A_CLASS_MIN = 10
_TASK = re.compile("classification|regression")


@dataclass(frozen=True)
class Problem:
    """The kind of the problem and the classes, in ascending order."""

    kind: str
    classes: tuple[Any, ...] = ()

    @property
    def is_regression(self) -> bool:
        return self.kind == REGRESSION

    def encoded(self, labels: np.ndarray) -> np.ndarray:
        """Labels as the library wants them: numbers, or places in `classes`."""
        if self.is_regression:
            return labels
        places = np.searchsorted(np.asarray(self.classes), labels)
        places = np.minimum(places, len(self.classes) - 1)
        wrong = np.asarray(self.classes)[places] != labels
        if wrong.any():
            raise UserError(
                f"The label {_plain(labels[wrong][0])} of the validation data is not in the "
                "training data."
            )
        return places

    def as_document(self) -> dict[str, Any]:
        return {"problem": self.kind, "classes": list(self.classes)}


def from_document(document: Mapping[str, Any]) -> Problem:
    return Problem(str(document["problem"]), tuple(document.get("classes") or ()))


def of(distinct: np.ndarray, rows: int, stated: str = "") -> Problem:
    """The problem of labels; `stated` is what the job says of it, if it does.

    `distinct` holds each label once, in ascending order.
    """
    numeric = distinct.dtype.kind in "iuf"
    if numeric and np.isnan(distinct.astype(np.float64)).any():
        raise UserError("The label in the first column is missing in some rows.")
    if stated == REGRESSION or (not stated and numeric and not _is_few(distinct, rows)):
        if not numeric:
            raise UserError("The labels of a regression must be numbers.")
        return Problem(REGRESSION)
    if len(distinct) < 2:
        raise UserError("The training data has only one label; there is nothing to tell apart.")
    if len(distinct) > max(CLASSES_MAX, rows // ROWS_OF_A_CLASS_MIN):
        raise UserError(
            f"The training data has {len(distinct)} distinct labels, which are too many for a "
            "classification."
        )
    classes = tuple(_plain(one) for one in distinct)
    return Problem(BINARY if len(classes) == 2 else MULTICLASS, classes)


def _is_few(distinct: np.ndarray, rows: int) -> bool:
    if len(distinct) <= 2:
        return True
    whole = bool((distinct == np.floor(distinct)).all())
    return whole and len(distinct) <= min(CLASSES_MAX, rows // ROWS_OF_A_CLASS_MIN)


def _plain(label: Any) -> Any:
    value = label.item() if hasattr(label, "item") else label
    return int(value) if isinstance(value, float) and value.is_integer() else value


def stated(job: Job, metric: str, by_metric: Mapping[str, Sequence[str]]) -> str:
    """`regression`, `classification` or nothing: what the metric or JumpStart's script says."""
    for kind, metrics in by_metric.items():
        if metric in metrics:
            return kind
    source = str(job.folders.read("hyperparameters").get("sagemaker_submit_directory") or "")
    found = _TASK.search(source) if "jumpstart" in source else None
    return found[0] if found else ""
