"""Serving k-nearest neighbors: the label, and with `verbose=true` the neighbors themselves."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import faiss
import numpy as np

from clary.workloads.algorithms.first_party import requests
from clary.workloads.algorithms.first_party.model_files import NAME
from clary.workloads.algorithms.first_party.serving import TabularHandler
from clary.workloads.algorithms.knn import projection
from clary.workloads.algorithms.knn.neighbors import Neighbors
from clary.workloads.serving.handlers import Rejected


class Answers:
    """What a model says of rows."""

    content_types = requests.ALL
    list_name = "predictions"
    csv_columns = ("predicted_label",)

    def __init__(self, neighbors: Neighbors, features: int) -> None:
        self.neighbors, self.features = neighbors, features

    def predict(self, rows: Any) -> np.ndarray:
        return self.neighbors.search(rows)

    def columns(self, results: np.ndarray, *, verbose: bool) -> Mapping[str, np.ndarray]:
        found = {"predicted_label": results[:, 0]}
        if verbose:
            k = self.neighbors.k
            found["distances"] = results[:, 1 : 1 + k]
            found["labels"] = results[:, 1 + k :]
        return found


def load(folder: Path) -> TabularHandler:
    """The handler for a model folder; refuses with 500 where no model can be read."""
    try:
        document = json.loads((folder / f"{NAME}.json").read_text(encoding="utf-8"))
        labels = np.fromfile(folder / f"{NAME}.labels", dtype="<f4")
        index = faiss.read_index(str(folder / NAME))
        reduction = document.get("dimension_reduction")
        matrix = None
        if reduction:
            matrix = projection.matrix(
                reduction["type"],
                int(reduction["seed"]),
                int(reduction["input_dim"]),
                int(reduction["target_dim"]),
            )
        features = int(document["feature_dim"])
        if index.ntotal != len(labels) or index.d != (
            features if matrix is None else matrix.shape[1]
        ):
            raise ValueError("the files of the model do not belong together")
        neighbors = Neighbors(
            index,
            labels,
            int(document["k"]),
            document["predictor_type"] == "classifier",
            document["index_metric"],
            matrix,
        )
    except (OSError, ValueError, KeyError, TypeError, RuntimeError) as problem:
        raise Rejected(500, f"Unable to load model: {problem}") from problem
    # Requests are the parallelism of a server.
    faiss.omp_set_num_threads(1)
    return TabularHandler(Answers(neighbors, features), os.environ)
