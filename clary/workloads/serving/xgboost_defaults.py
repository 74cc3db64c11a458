"""The XGBoost image's defaults for what a user's script does not define."""

from __future__ import annotations

from typing import Any

from clary.workloads.formats import csv_rows, libsvm, recordio_protobuf
from clary.workloads.serving import content_types
from clary.workloads.serving.handlers import Rejected

LIBSVM_TYPES = ("text/libsvm", "text/x-libsvm", "libsvm")
CSV_TYPES = ("text/csv", "csv")
RECORDIO_TYPES = ("application/x-recordio-protobuf", "recordio-protobuf")


def model_fn(model_dir: str) -> Any:
    """Refuse: how an XGBoost model was saved is the user's choice."""
    raise NotImplementedError(
        "Please provide a model_fn implementation.\n"
        "See documentation for model_fn at https://github.com/aws/sagemaker-python-sdk"
    )


def rows(body: bytes | str, content_type: str) -> Any:
    """Return the request's rows as a matrix, dense or sparse."""
    kind = content_types.media_type(content_type)
    if not body and kind in CSV_TYPES + LIBSVM_TYPES + RECORDIO_TYPES:
        raise Rejected(400, "The request body is empty.")
    content = body.encode("utf-8") if isinstance(body, str) else body
    try:
        if kind in CSV_TYPES:
            return csv_rows.read(content, delimiter=None)
        if kind in LIBSVM_TYPES:
            return libsvm.read(content)[0]
        if kind in RECORDIO_TYPES:
            return recordio_protobuf.read_matrix(content)[0]
    except ValueError as problem:
        raise Rejected(400, f"The request body is not {kind}: {problem}") from problem
    raise Rejected(
        415,
        f"Content type {kind or '(none)'} is not supported by this framework. Please implement "
        "input_fn to deserialize the request data.",
    )


def input_fn(body: bytes | str, content_type: str) -> Any:
    """Return the request's rows as a DMatrix, which a user's predict_fn expects."""
    import xgboost

    return xgboost.DMatrix(rows(body, content_type))


def predict_fn(data: Any, model: Any) -> Any:
    """Predict without a check of feature names: requests carry none."""
    import xgboost

    if not isinstance(data, xgboost.DMatrix):
        data = xgboost.DMatrix(data)
    if isinstance(model, xgboost.Booster):
        return model.predict(data, validate_features=False)
    return model.predict(data)


def output_fn(prediction: Any, accept: str) -> tuple[bytes, str]:
    """Encode a prediction as JSON, CSV, JSON lines or npy."""
    kind = content_types.negotiate(accept, content_types.JSON, content_types.ENCODED)
    return content_types.encode(prediction, kind), kind


def is_rowwise(model: Any) -> bool:
    """Only a plain Booster is known to answer each row for itself."""
    import xgboost

    return isinstance(model, xgboost.Booster)
