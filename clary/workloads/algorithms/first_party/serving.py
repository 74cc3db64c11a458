"""Serving: one handler for all first-party algorithms, around a model that maps rows to numbers.

body ──decode──▶ float32 rows ──predict──▶ float64 results ──columns──▶ JSON, CSV, records
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from clary.workloads.algorithms.channels import parse_content_type
from clary.workloads.algorithms.execution_parameters import execution_parameters
from clary.workloads.algorithms.first_party import requests
from clary.workloads.algorithms.first_party.requests import CSV, JSON, JSON_LINES, RECORDIO
from clary.workloads.formats import recordio_protobuf
from clary.workloads.serving.handlers import Rejected

ACCEPTED = (JSON, JSON_LINES, CSV, RECORDIO)
SHORT = {"json": JSON, "jsonlines": JSON_LINES, "csv": CSV, "recordio-protobuf": RECORDIO}


class Model(Protocol):
    """What an algorithm serves."""

    features: int
    content_types: tuple[str, ...]
    list_name: str  # "predictions", "projections", "scores"
    csv_columns: tuple[str, ...]  # what a line of a CSV answer holds

    def predict(self, rows: Any) -> np.ndarray:
        """One row of numbers for each row; rows are dense, or CSR where they are very wide."""
        ...

    def columns(self, results: np.ndarray, *, verbose: bool) -> Mapping[str, np.ndarray]:
        """The outputs by name, in the order of the answer; the first axis counts rows."""
        ...


class TabularHandler:
    """Answers requests with one model."""

    batchable = True

    def __init__(self, model: Model, environment: Mapping[str, str]) -> None:
        self.model = model
        self.default_accept = environment.get("SAGEMAKER_DEFAULT_INVOCATIONS_ACCEPT") or JSON

    def ping(self) -> bool:
        return True

    def execution_parameters(self) -> dict[str, object]:
        return execution_parameters()

    def decode(self, body: bytes, content_type: str) -> Any:
        return requests.decode(body, content_type, self.model.features, self.model.content_types)

    def predict(self, rows: Any) -> np.ndarray:
        return self.model.predict(rows)

    def encode(self, results: np.ndarray, accept: str) -> tuple[str, bytes]:
        """The content type and the body; refuses with 406."""
        kind, parameters = _negotiated(accept, self.default_accept)
        columns = self.model.columns(results, verbose=parameters.get("verbose") == "true")
        if kind == RECORDIO:
            outputs = {
                name: np.asarray(values, dtype=np.float32) for name, values in columns.items()
            }
            return kind, recordio_protobuf.write_outputs(outputs)
        if kind == CSV:
            return kind, _csv([columns[name] for name in self.model.csv_columns])
        names = list(columns)
        values = zip(*(columns[name].tolist() for name in names))  # noqa: B905 - Python 3.8
        rows = [dict(zip(names, one)) for one in values]  # noqa: B905 - Python 3.8
        if kind == JSON_LINES:
            return kind, b"".join(requests.as_json(row) + b"\n" for row in rows)
        return kind, requests.as_json({self.model.list_name: rows})

    def invoke(
        self, body: bytes, content_type: str, accept: str, headers: Mapping[str, str]
    ) -> tuple[int, str, bytes]:
        """Answer one request by itself."""
        return (200, *self.encode(self.predict(self.decode(body, content_type)), accept))


def _negotiated(accept: str, default: str) -> tuple[str, Mapping[str, str]]:
    for one in (accept or "").split(","):
        wanted, parameters = parse_content_type(one)
        if wanted in ("", "*/*"):
            wanted, parameters = parse_content_type(default)
        kind = SHORT.get(wanted, wanted)
        if kind in ACCEPTED:
            return kind, parameters
    raise Rejected(
        406, f"Accept type {accept} is not supported. Supported types: {', '.join(ACCEPTED)}."
    )


def _csv(columns: list[np.ndarray]) -> bytes:
    lines = [
        [number for value in row for number in (value if isinstance(value, list) else [value])]
        for row in zip(*(column.tolist() for column in columns))  # noqa: B905 - Python 3.8
    ]
    return "".join(",".join(map(str, line)) + "\n" for line in lines).encode()


def model_file(folder: Path, name: str) -> Path:
    """The artifact; refuses with 500 where there is none."""
    path = folder / name
    if not path.is_file():
        raise Rejected(500, f"Unable to load model: there is no {name} in {folder}")
    return path
