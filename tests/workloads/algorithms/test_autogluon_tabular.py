"""AutoGluon-Tabular: the contract of all algorithms, and what is its own."""

from __future__ import annotations

import numpy
import pytest
from first_party_contract import image
from script_mode_contract import ScriptModeContract, csv, document, metric, train
from sklearn.datasets import load_breast_cancer, load_diabetes

from clary.images import build, catalogue
from clary.settings import Settings
from clary.workloads.formats import csv_rows

IMAGE = image("autogluon-tabular")


def is_built() -> bool:
    settings = Settings.load()
    return build.is_built(catalogue.resolve(IMAGE, settings).environment, settings)


pytestmark = pytest.mark.skipif(
    not is_built(),
    reason=f"AutoGluon's environment is large and not built; `clary images build {IMAGE}` does it",
)


class TestAutoGluonTabular(ScriptModeContract):
    name = "autogluon-tabular"
    image = IMAGE
    # A few small models, of the presets that the library has the quickest.
    hyperparameters = {"presets": "interpretable", "verbosity": "0"}
    wrong_hyperparameter = ("num_stack_levels", "4", "value 4 not in range [0, 3]")

    @staticmethod
    def table() -> numpy.ndarray:
        data = load_breast_cancer()
        return numpy.column_stack([data.target, data.data[:, :4]])[:200]

    def test_diabetes_is_a_regression_by_several_models(self, workshop):
        data = load_diabetes()
        table = numpy.column_stack([data.target, data.data])[:200]
        # Of other splits CatBoost follows the last digits for minutes.
        channels = {"training": csv(table[:160]), "validation": csv(table[160:])}
        trained = train(workshop, {"eval_metric": "r2"}, channels)
        assert document(trained.model)["problem"] == "regression"
        assert metric(trained.log, "autogluon-tabular", "validation:score")[0] > 0.3
        for kind in ("LightGBM", "CatBoost", "RandomForest", "WeightedEnsemble_L2"):
            assert kind in trained.log
        endpoint = workshop.serve(trained.model)
        try:
            answer = endpoint.ask(csv_rows.write(data.data), "text/csv").json()["prediction"]
        finally:
            endpoint.close()
        assert numpy.corrcoef(answer, data.target)[0, 1] > 0.7

    def test_one_fold_is_the_users_error(self, workshop):
        base = workshop.opt_ml({"num_bag_folds": "1"}, {"training": csv(self.table())})
        assert "num_bag_folds: value 1 not in 0, 2 to 10" in workshop.train(base).failure
