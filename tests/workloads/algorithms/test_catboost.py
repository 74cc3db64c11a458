"""CatBoost: the contract of all algorithms, and what is its own."""

from __future__ import annotations

import gzip

import numpy
import pytest
from first_party_contract import image
from script_mode_contract import ScriptModeContract, csv, document, metric, train
from sklearn.datasets import load_breast_cancer, load_diabetes, load_wine
from sklearn.metrics import log_loss, root_mean_squared_error

from clary.workloads.formats import csv_rows

DIRECT = """
import sys, catboost, numpy
data = numpy.load(sys.argv[1])
model = catboost.CatBoost(dict(loss_function=sys.argv[3], iterations=60, learning_rate=0.1,
    random_seed=1, allow_writing_files=False, verbose=0))
model.fit(catboost.Pool(data["x"], data["y"]))
kind = "RawFormulaVal" if sys.argv[3] == "RMSE" else "Probability"
numpy.save(sys.argv[2], model.predict(data["vx"], prediction_type=kind))
"""


class TestCatBoost(ScriptModeContract):
    name = "catboost"
    image = image("catboost")
    hyperparameters = {"iterations": "20", "learning_rate": "0.2"}
    wrong_hyperparameter = ("depth", "17", "value 17 not in range [1, 16]")

    @staticmethod
    def table() -> numpy.ndarray:
        data = load_breast_cancer()
        return numpy.column_stack([data.target, data.data])

    def found_and_direct(self, workshop, tmp_path, data, loss: str) -> tuple[float, numpy.ndarray]:
        """The best score of the job, the rows it was measured on, and the library's own answers."""
        table = numpy.column_stack([data.target, data.data])
        table = table[numpy.random.default_rng(0).permutation(len(table))]
        one, other = table[::2], table[1::2]
        hyperparameters = {
            "iterations": "60",
            "learning_rate": "0.1",
            "early_stopping_rounds": "0",
        }
        log = train(workshop, hyperparameters, {"training": csv(one), "validation": csv(other)}).log
        arrays = {"x": one[:, 1:], "y": one[:, 0], "vx": other[:, 1:]}
        numpy.savez(tmp_path / "data.npz", **arrays)
        (tmp_path / "direct.py").write_text(DIRECT)
        argv = [str(tmp_path / name) for name in ("direct.py", "data.npz", "found.npy")]
        program = workshop.parent.run([*argv, loss], tmp_path, is_module=False)
        try:
            text = program.stdout.read()
            assert program.wait() == 0, text
        finally:
            program.close()
        return metric(log, "catboost", loss)[-1], other[:, 0], numpy.load(tmp_path / "found.npy")

    def test_breast_cancer_is_told_apart_as_well_as_by_the_library(self, workshop, tmp_path):
        data = load_breast_cancer()
        found, labels, direct = self.found_and_direct(workshop, tmp_path, data, "Logloss")
        assert found < 1.1 * log_loss(labels, direct[:, 1])

    def test_diabetes_is_a_regression_and_as_good_as_by_the_library(self, workshop, tmp_path):
        data = load_diabetes()
        found, labels, direct = self.found_and_direct(workshop, tmp_path, data, "RMSE")
        assert found < 1.05 * root_mean_squared_error(labels, direct)

    def test_the_metric_that_was_asked_for_is_the_only_one_told(self, workshop):
        for name, asked in (("eval_metric", "AUC"), ("_tuning_objective_metric", "F1")):
            hyperparameters = {**self.hyperparameters, name: asked}
            log = train(workshop, hyperparameters, {"training": csv(self.table())}).log
            (found,) = metric(log, "catboost", asked)
            assert 0.9 < found <= 1
            for other in {"Accuracy", "AUC", "F1", "Logloss", "MAE"} - {asked}:
                assert metric(log, "catboost", other) == []

    def test_several_classes_keep_their_own_labels(self, workshop):
        data = load_wine()
        table = numpy.column_stack([data.target * 10 + 5, data.data])
        trained = train(workshop, self.hyperparameters, {"training": csv(table)})
        assert document(trained.model)["classes"] == [5, 15, 25]
        endpoint = workshop.serve(trained.model)
        try:
            body = csv_rows.write(data.data)
            answer = endpoint.ask(body, "text/csv", "application/json;verbose").json()
        finally:
            endpoint.close()
        assert numpy.mean(numpy.array(answer["predicted_label"]) == table[:, 0]) > 0.95

    def test_categories_may_be_words(self, workshop):
        random = numpy.random.default_rng(0)
        words = random.choice(["red", "green", "blue", ""], size=400)
        lines = [
            f"{'yes' if word in ('red', '') else 'no'},{at % 7}.5,{word}"
            for at, word in enumerate(words)
        ]
        files = {
            "data.csv": "\n".join(lines).encode(),
            "categorical_index.json": b'{"cat_index_list": [2]}',
        }
        trained = train(workshop, self.hyperparameters, {"training": files})
        endpoint = workshop.serve(trained.model)
        try:
            body = b"1.5,red\n1.5,blue\n2.5,\n2.5,green\n"
            answer = endpoint.ask(body, "text/csv", "application/json;verbose").json()
            wrong = endpoint.ask(b"x,red\n", "text/csv")
        finally:
            endpoint.close()
        assert answer["labels"] == ["no", "yes"]
        assert answer["predicted_label"] == ["yes", "no", "yes", "no"]
        assert wrong.status == 400 and b"'x' is not a number" in wrong.body

    def test_compressed_data_with_words_is_refused_with_what_to_do(self, workshop):
        files = {
            "data.csv": gzip.compress(b"1,2,red\n0,3,blue\n"),
            "categorical_index.json": b'{"cat_index_list": [2]}',
        }
        failure = workshop.train(workshop.opt_ml({}, {"training": files})).failure
        assert failure.startswith("ClientError: 'data.csv' is compressed with gzip")

    @pytest.mark.parametrize(
        ("hyperparameters", "text"),
        [
            ({"eval_metric": "RMSLE"}, "eval_metric: RMSLE is not in ['auto', 'RMSE'"),
            ({"eval_metric": "MultiClass"}, "does not fit a binary problem"),
            ({"max_bin": "0"}, "max_bin: 0 is not in ['Auto', '1 to 65535']"),
            ({"grow_policy": "Lossguide", "boosting_type": "Ordered"}, "CatBoost could not train"),
        ],
    )
    def test_what_cannot_be_is_the_users_error(self, workshop, hyperparameters, text):
        base = workshop.opt_ml(hyperparameters, {"training": csv(self.table())})
        trained = workshop.train(base)
        assert trained.code == 1 and text in trained.failure

    @pytest.mark.parametrize("policy", ["Depthwise", "Lossguide"])
    def test_all_ways_of_growing_train(self, workshop, policy):
        hyperparameters = {"iterations": "3", "grow_policy": policy, "verbose": "0"}
        trained = train(workshop, hyperparameters, {"training": csv(self.table())})
        assert metric(trained.log, "catboost", "Logloss")[0] < 0.7
