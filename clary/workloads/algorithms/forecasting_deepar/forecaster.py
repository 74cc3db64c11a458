"""A model that forecasts: the network, how its windows are cut, and its form in a file."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from clary.workloads.algorithms.first_party import model_files
from clary.workloads.algorithms.first_party.session import Session
from clary.workloads.algorithms.forecasting_deepar import DETERMINISTIC_L1
from clary.workloads.algorithms.forecasting_deepar.frequency import Frequency
from clary.workloads.algorithms.forecasting_deepar.likelihoods import LIKELIHOODS
from clary.workloads.algorithms.forecasting_deepar.network import DeepARNetwork
from clary.workloads.algorithms.forecasting_deepar.series import Form, Panel
from clary.workloads.algorithms.forecasting_deepar.windows import Cutter, Scaling
from clary.workloads.serving.handlers import Rejected

PATHS_AT_ONCE = 1 << 14
_MEANS, _DEVIATIONS, _NETWORK = "dynamic_means", "dynamic_deviations", "network."


@dataclass(frozen=True)
class Forecaster:
    """`values` are the hyperparameters; of `form` everything is known."""

    values: Mapping[str, Any]
    form: Form
    cutter: Cutter
    network: DeepARNetwork

    @classmethod
    def make(cls, values: Mapping[str, Any], form: Form, cutter: Cutter) -> Forecaster:
        features = cutter.frequency.features(np.zeros(1, dtype=np.int64)).shape[-1]
        network = DeepARNetwork(
            values,
            form.cardinality or [],
            cutter.frequency.lags(),
            features + 1 + (form.dynamic or 0),  # and the age
            cutter.scaling,
        )
        return cls(values, form, cutter, network)

    def forecast(
        self, panel: Panel, rows: np.ndarray, origins: np.ndarray, samples: int
    ) -> Iterator[np.ndarray]:
        """Of each series paths of the values after its origin: samples x prediction_length."""
        self.network.eval()
        device = next(self.network.parameters()).device
        # All samples of a model that knows one forecast only are the same.
        drawn = 1 if self.values["likelihood"] == DETERMINISTIC_L1 else samples
        at_once = max(1, PATHS_AT_ONCE // drawn)
        for start in range(0, len(rows), at_once):
            part = slice(start, start + at_once)
            windows = self.cutter.cut(panel, rows[part], origins[part]).to(device)
            paths = self.network.sample(windows, drawn).cpu().numpy().astype(np.float64)
            yield from np.repeat(paths, samples // drawn, axis=1)

    def save(self, run: Session) -> None:
        state = self.network.state_dict()
        run.save(
            {
                _MEANS: self.cutter.dynamic_means,
                _DEVIATIONS: self.cutter.dynamic_deviations,
                **{_NETWORK + name: value.cpu().numpy() for name, value in state.items()},
            },
            values=dict(self.values),
            cardinality=self.form.cardinality,
            dynamic=self.form.dynamic,
            scaling=asdict(self.cutter.scaling),
        )


def load(folder: Path) -> Forecaster:
    """The model of a folder; refuses with 500 where there is none."""
    artifact = model_files.load(folder, "forecasting-deepar")
    try:
        document, arrays = artifact.document, artifact.arrays
        values = document["values"]
        frequency = Frequency.parse(values["time_freq"])
        support = LIKELIHOODS[values["likelihood"]].support
        form = Form(frequency, document["cardinality"], document["dynamic"], support)
        cutter = Cutter(
            frequency,
            values["context_length"],
            values["prediction_length"],
            Scaling(**document["scaling"]),
            arrays[_MEANS],
            arrays[_DEVIATIONS],
        )
        found = Forecaster.make(values, form, cutter)
        found.network.load_state_dict(
            {
                name[len(_NETWORK) :]: torch.from_numpy(value)
                for name, value in arrays.items()
                if name.startswith(_NETWORK)
            }
        )
    except (KeyError, TypeError, ValueError, RuntimeError) as problem:
        raise Rejected(500, f"Unable to load model: {problem}") from problem
    return found
