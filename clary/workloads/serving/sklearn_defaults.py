"""The scikit-learn image's defaults for what a user's script does not define."""

from __future__ import annotations

from typing import Any

import numpy

from clary.workloads.serving import content_types

ROWWISE_PACKAGES = ("sklearn", "xgboost", "lightgbm", "catboost", "imblearn")
MISSING_MODEL_FN = (
    "Please provide a model_fn implementation.\n"
    "See documentation for model_fn at https://github.com/aws/sagemaker-python-sdk"
)


def model_fn(model_dir: str) -> Any:
    """Refuse: how a scikit-learn model was saved is the user's choice."""
    raise NotImplementedError(MISSING_MODEL_FN)


def input_fn(body: bytes, content_type: str) -> numpy.ndarray:
    """Return one row a line; text becomes float32, as in the public image."""
    if isinstance(body, str):
        body = body.encode("utf-8")
    array = content_types.decode(body, content_type)
    if getattr(array, "ndim", 2) == 1:
        array = array.reshape(1, -1)
    if content_types.media_type(content_type) in content_types.TEXT_TYPES:
        try:
            return array.astype(numpy.float32)
        except ValueError as problem:
            raise content_types.Rejected(400, f"The request holds text: {problem}") from problem
    return array


def predict_fn(rows: Any, model: Any) -> Any:
    """Return the model's own prediction."""
    return model.predict(rows)


def output_fn(prediction: Any, accept: str) -> tuple[bytes, str]:
    """Encode a prediction as JSON, CSV, JSON lines or npy."""
    kind = content_types.negotiate(accept, content_types.JSON, content_types.ENCODED)
    return content_types.encode(prediction, kind), kind


def is_rowwise(model: Any) -> bool:
    """Say whether rows of different requests may be predicted together.

    A class of the user's own may look across its rows, so only known libraries are folded.
    """
    return type(model).__module__.partition(".")[0] in ROWWISE_PACKAGES
