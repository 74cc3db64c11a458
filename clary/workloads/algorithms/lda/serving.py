"""Serving LDA: the mixture of topics of each document."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from clary.workloads.algorithms.first_party import model_files, requests
from clary.workloads.algorithms.first_party.serving import TabularHandler
from clary.workloads.algorithms.lda.topics import Topics, mixtures


class Mixtures:
    """The topics of a model."""

    content_types = requests.ALL
    list_name = "predictions"
    csv_columns = ("topic_mixture",)

    def __init__(self, topics: Topics) -> None:
        self.topics = topics
        self.features: int = topics.beta.shape[1]

    def predict(self, rows: Any) -> np.ndarray:
        return mixtures(rows, self.topics)

    def columns(self, results: np.ndarray, *, verbose: bool) -> Mapping[str, np.ndarray]:
        return {"topic_mixture": results}


def load(folder: Path) -> TabularHandler:
    """The handler for a model folder; refuses with 500 where no model can be read."""
    arrays = model_files.load(folder, "lda").arrays
    topics = Topics(arrays["alpha"].astype(np.float64), arrays["beta"].astype(np.float64))
    return TabularHandler(Mixtures(topics), os.environ)
