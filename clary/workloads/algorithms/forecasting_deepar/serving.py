"""Serving DeepAR: the mean, quantiles and samples of the values that follow a time series."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from clary.workloads.algorithms.execution_parameters import SINGLE_RECORD, execution_parameters
from clary.workloads.algorithms.first_party import json_exchange
from clary.workloads.algorithms.first_party.requests import JSON_LINES
from clary.workloads.algorithms.forecasting_deepar import QUANTILES, forecaster
from clary.workloads.algorithms.forecasting_deepar.forecaster import Forecaster
from clary.workloads.algorithms.forecasting_deepar.series import panel
from clary.workloads.serving.handlers import Answer, Rejected

SAMPLES_MAX = 10_000
OUTPUT_TYPES = ("mean", "quantiles", "samples")
INFERENCE_CONFIG = "DEEPAR_INFERENCE_CONFIG"


@dataclass(frozen=True)
class Configuration:
    """What an answer holds; quantiles are named as the request words them."""

    samples: int = 100
    output_types: tuple[str, ...] = ("mean", "quantiles")
    quantiles: tuple[str, ...] = tuple(str(one) for one in QUANTILES)

    @classmethod
    def parse(cls, document: Any) -> Configuration:
        """Raises ValueError."""
        if not isinstance(document, dict):
            raise ValueError("configuration must be an object")
        samples = document.get("num_samples", cls.samples)
        if type(samples) is not int or not 1 <= samples <= SAMPLES_MAX:
            raise ValueError(f"num_samples must be a whole number between 1 and {SAMPLES_MAX}")
        types = document.get("output_types", list(cls.output_types))
        if (
            not isinstance(types, list)
            or not types
            or any(one not in OUTPUT_TYPES for one in types)
        ):
            raise ValueError(f"output_types must be a list of some of {', '.join(OUTPUT_TYPES)}")
        quantiles = document.get("quantiles", list(cls.quantiles))
        if not isinstance(quantiles, list) or not all(map(_is_quantile, quantiles)):
            raise ValueError("quantiles must be a list of numbers between 0 and 1, as text")
        return cls(samples, tuple(types), tuple(str(one) for one in quantiles))

    def answer(self, paths: np.ndarray) -> dict[str, Any]:
        """The prediction of one series, from its sampled paths."""
        found: dict[str, Any] = {}
        if "quantiles" in self.output_types:
            levels = [float(one) for one in self.quantiles]
            rows = np.quantile(paths, levels, axis=0).tolist()
            found["quantiles"] = dict(zip(self.quantiles, rows))  # noqa: B905 - Python 3.8
        if "samples" in self.output_types:
            found["samples"] = paths.tolist()
        if "mean" in self.output_types:
            found["mean"] = paths.mean(axis=0).tolist()
        return found


def _is_quantile(found: Any) -> bool:
    if isinstance(found, bool) or not isinstance(found, (str, int, float)):
        return False
    try:
        return 0 < float(found) < 1
    except ValueError:
        return False


class ForecastHandler:
    """Answers each request alone: its configuration is its own."""

    def __init__(self, model: Forecaster, default: Configuration) -> None:
        self.model, self.default = model, default

    def ping(self) -> bool:
        return True

    def execution_parameters(self) -> dict[str, object]:
        return execution_parameters(SINGLE_RECORD)

    def invoke(
        self, body: bytes, content_type: str, accept: str, headers: Mapping[str, str]
    ) -> Answer:
        kind, _, wanted = json_exchange.negotiate(content_type, accept)
        with json_exchange.evaluating():
            answers = self._answers(*self._request(body, kind))
        return 200, wanted, json_exchange.told(answers, wanted)

    def _request(self, body: bytes, kind: str) -> tuple[list[Any], Configuration]:
        if kind == JSON_LINES:
            return json_exchange.lines(body), self.default
        document = json_exchange.document(body)
        own = document.get("configuration")
        return document["instances"], self.default if own is None else Configuration.parse(own)

    def _answers(self, instances: list[Any], wanted: Configuration) -> list[dict[str, Any]]:
        if not instances:
            raise ValueError("there are no instances")
        found = []
        for at, instance in enumerate(instances):
            try:
                found.append(self.model.form.series(instance, ahead=self.model.cutter.prediction))
            except ValueError as problem:
                raise ValueError(f"instance {at}: {problem}") from problem
        data = panel(found, self.model.form.dynamic or 0)
        # The same request has the same answer.
        torch.manual_seed(0)
        rows = np.arange(data.count)
        paths = self.model.forecast(data, rows, data.lengths, wanted.samples)
        return [wanted.answer(one) for one in paths]


def load(folder: Path) -> ForecastHandler:
    """The handler for a model folder; refuses with 500 where no model can be read."""
    given = os.environ.get(INFERENCE_CONFIG) or "{}"
    try:
        default = Configuration.parse(json.loads(given))
    except (ValueError, RecursionError) as problem:
        raise Rejected(500, f"{INFERENCE_CONFIG} cannot be read: {problem}") from problem
    return ForecastHandler(forecaster.load(folder), default)
