"""Serving NTM: the share of each topic in a document."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch

from clary.workloads.algorithms.first_party import model_files, requests
from clary.workloads.algorithms.first_party.serving import TabularHandler
from clary.workloads.algorithms.ntm.network import TopicNetwork
from clary.workloads.serving.handlers import Rejected


class Topics:
    """The encoder of a model."""

    content_types = requests.ALL
    list_name = "predictions"
    csv_columns = ("topic_weights",)

    def __init__(self, network: TopicNetwork, features: int) -> None:
        self.network = network.eval()
        self.features = features

    @torch.no_grad()
    def predict(self, rows: Any) -> np.ndarray:
        dense = rows if isinstance(rows, np.ndarray) else rows.toarray()
        counts = torch.from_numpy(np.ascontiguousarray(dense, dtype=np.float32))
        return self.network.weights(counts).numpy().astype(np.float64)

    def columns(self, results: np.ndarray, *, verbose: bool) -> Mapping[str, np.ndarray]:
        return {"topic_weights": results}


def load(folder: Path) -> TabularHandler:
    """The handler for a model folder; refuses with 500 where no model can be read."""
    artifact = model_files.load(folder, "ntm")
    document = artifact.document
    try:
        network = TopicNetwork(
            document["feature_dim"],
            document["num_topics"],
            document["layers"],
            document["activation"],
            batch_norm=document["batch_norm"],
        )
        state = {name: torch.from_numpy(value) for name, value in artifact.arrays.items()}
        network.load_state_dict(state)
    except (KeyError, TypeError, RuntimeError) as problem:
        raise Rejected(500, f"Unable to load model: {problem}") from problem
    return TabularHandler(Topics(network, document["feature_dim"]), os.environ)
