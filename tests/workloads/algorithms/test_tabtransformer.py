"""TabTransformer: the contract of all algorithms, and what is its own."""

from __future__ import annotations

import numpy
from first_party_contract import image
from script_mode_contract import ScriptModeContract, csv, document, metric, train
from sklearn.datasets import load_breast_cancer, load_diabetes, load_wine
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from clary.workloads.formats import csv_rows


class TestTabTransformer(ScriptModeContract):
    name = "tabtransformer"
    image = image("tabtransformer")
    hyperparameters = {
        "n_epochs": "4",
        "batch_size": "64",
        "input_dim": "16",
        "n_blocks": "1",
        "learning_rate": "0.003",
    }
    wrong_hyperparameter = ("input_dim", "20", "input_dim: 20 is not in ['16', '32'")

    @staticmethod
    def table() -> numpy.ndarray:
        data = load_breast_cancer()
        return numpy.column_stack([data.target, data.data])

    def test_breast_cancer_is_told_apart_as_well_as_by_a_linear_model(self, trained, endpoint):
        """scikit-learn's, fitted to the same rows; JumpStart's own library is not to be had."""
        table = self.table()
        direct = make_pipeline(StandardScaler(), LogisticRegression()).fit(
            table[:, 1:], table[:, 0]
        )
        answer = endpoint.ask(csv_rows.write(table[:, 1:]), "text/csv").json()["probabilities"]
        found = self.right(answer, table)
        assert found > direct.score(table[:, 1:], table[:, 0]) - 0.03
        assert metric(trained.log, "tabtransformer", "f1_score")[-1] > 0.9

    def test_categories_of_words_are_told_apart(self, workshop):
        random = numpy.random.default_rng(0)
        words = random.choice(["red", "green", "blue"], size=(600, 2))
        lines = [
            f"{'same' if one == other else 'other'},{at % 7}.5,{one},{other}"
            for at, (one, other) in enumerate(words)
        ]
        files = {
            "data.csv": "\n".join(lines).encode(),
            "categorical_index.json": b'{"cat_index_list": [2, 3]}',
        }
        hyperparameters = {**self.hyperparameters, "n_epochs": "8", "attn_dropout": "0"}
        trained = train(workshop, hyperparameters, {"training": files})
        endpoint = workshop.serve(trained.model)
        try:
            body = b"1.5,red,red\n,blue,red\n2.5,unseen,red\n"
            answer = endpoint.ask(body, "text/csv", "application/json;verbose").json()
        finally:
            endpoint.close()
        assert answer["labels"] == ["other", "same"]
        assert answer["predicted_label"][:2] == ["same", "other"]

    def test_a_regression_predicts_in_the_scale_of_its_labels(self, workshop):
        data = load_diabetes()
        table = numpy.column_stack([data.target, data.data])
        trained = train(
            workshop, {**self.hyperparameters, "n_epochs": "10"}, {"training": csv(table)}
        )
        assert max(metric(trained.log, "tabtransformer", "r2")) > 0.3
        endpoint = workshop.serve(trained.model)
        try:
            answer = endpoint.ask(csv_rows.write(data.data), "text/csv").json()["prediction"]
        finally:
            endpoint.close()
        assert abs(numpy.mean(answer) - data.target.mean()) < 25

    def test_several_classes_report_their_accuracy(self, workshop):
        data = load_wine()
        table = numpy.column_stack([data.target + 1, data.data])
        trained = train(
            workshop, {**self.hyperparameters, "n_epochs": "8"}, {"training": csv(table)}
        )
        assert document(trained.model)["classes"] == [1, 2, 3]
        assert max(metric(trained.log, "tabtransformer", "accuracy_score")) > 0.9
