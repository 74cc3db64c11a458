"""k-nearest neighbors: the contract of all algorithms, and what is its own."""

from __future__ import annotations

import json

import numpy
import pytest
from first_party_contract import FirstPartyContract, as_json, image, metric, on_two_hosts, train
from sklearn.datasets import load_diabetes, load_digits, load_wine
from sklearn.neighbors import KNeighborsClassifier, KNeighborsRegressor

from clary.workloads.formats import csv_rows

DIGITS = {
    "feature_dim": "64",
    "k": "5",
    "predictor_type": "classifier",
    "sample_size": "5000",
}


def digits() -> tuple[numpy.ndarray, numpy.ndarray]:
    """Training and test rows, the label first."""
    found = load_digits()
    table = numpy.column_stack([found.target, found.data])
    return table[:1300], table[1300:]


class TestKNN(FirstPartyContract):
    name = "knn"
    image = image("knn")
    hyperparameters = {
        "feature_dim": "13",
        "k": "1",
        "predictor_type": "classifier",
        "sample_size": "1000",
    }
    wrong_hyperparameter = (
        "index_metric",
        "L1",
        "'L1' is not one of ['L2', 'INNER_PRODUCT', 'COSINE']",
    )

    @staticmethod
    def table() -> numpy.ndarray:
        found = load_wine()
        return numpy.column_stack([found.target, found.data])

    def right(self, predictions: list[dict], table: numpy.ndarray) -> float:
        found = numpy.array([one["predicted_label"] for one in predictions])
        return float((found == table[:, 0]).mean())

    @pytest.mark.parametrize(
        ("more", "loss"),
        [
            ({}, 0.0),
            ({"index_metric": "COSINE"}, 0.01),
            ({"index_type": "faiss.IVFFlat", "faiss_index_ivf_nlists": "16"}, 0.01),
            ({"index_type": "faiss.IVFPQ", "faiss_index_pq_m": "16"}, 0.04),
            ({"dimension_reduction_type": "sign", "dimension_reduction_target": "40"}, 0.05),
            ({"dimension_reduction_type": "fjlt", "dimension_reduction_target": "40"}, 0.05),
        ],
    )
    def test_digits_are_told_apart_as_well_as_by_the_library(self, workshop, more, loss):
        learned, asked = digits()
        trained = train(
            workshop,
            {**DIGITS, **more},
            train=csv_rows.write(learned),
            test=csv_rows.write(asked),
        )
        direct = KNeighborsClassifier(5).fit(learned[:, 1:], learned[:, 0])
        wanted = direct.score(asked[:, 1:], asked[:, 0])
        found = metric(trained.log, "knn", "test:accuracy")
        assert len(found) == 1 and found[0] >= wanted - loss - 0.003

    def test_a_regressor_answers_with_the_mean(self, workshop):
        found = load_diabetes()
        table = numpy.column_stack([found.target, found.data])
        learned, asked = table[:300], table[300:]
        hyperparameters = {
            "feature_dim": "10",
            "k": "7",
            "predictor_type": "regressor",
            "sample_size": "300",
        }
        trained = train(
            workshop,
            hyperparameters,
            train=csv_rows.write(learned),
            test=csv_rows.write(asked),
        )
        direct = KNeighborsRegressor(7).fit(learned[:, 1:], learned[:, 0])
        wanted = ((direct.predict(asked[:, 1:]) - asked[:, 0]) ** 2).mean()
        assert metric(trained.log, "knn", "test:mse")[0] == pytest.approx(wanted, rel=0.01)

    def test_verbose_answers_have_the_neighbours(self, workshop):
        learned, asked = digits()
        trained = train(workshop, DIGITS, train=csv_rows.write(learned))
        endpoint = workshop.serve(trained.model)
        try:
            body = as_json(asked[:4, 1:])
            answer = endpoint.ask(body, "application/json", "application/json; verbose=true")
            plain = endpoint.ask(body, "application/json", "application/json")
        finally:
            endpoint.close()
        direct = KNeighborsClassifier(5).fit(learned[:, 1:], learned[:, 0])
        distances, places = direct.kneighbors(asked[:4, 1:])
        found = answer.json()["predictions"]
        assert list(found[0]) == ["predicted_label", "distances", "labels"]
        assert numpy.allclose([one["distances"] for one in found], distances, rtol=1e-5)
        assert [one["labels"] for one in found] == learned[places, 0].tolist()
        assert [list(one) for one in plain.json()["predictions"]] == [["predicted_label"]] * 4

    def test_the_artifacts_are_those_of_sagemaker(self, trained):
        names = sorted(path.name for path in trained.model.iterdir())
        assert names == ["model_algo-1", "model_algo-1.json", "model_algo-1.labels"]
        document = json.loads((trained.model / "model_algo-1.json").read_text())
        assert document["k"] == 1 and document["version"] == "1.0"
        labels = numpy.fromfile(trained.model / "model_algo-1.labels", dtype="<f4")
        assert sorted(labels) == sorted(self.table()[:, 0])

    def test_the_sample_is_no_larger_than_asked_for(self, workshop):
        hyperparameters = {**self.hyperparameters, "sample_size": "50"}
        trained = train(workshop, hyperparameters, train=csv_rows.write(self.table()))
        assert (trained.model / "model_algo-1.labels").stat().st_size == 4 * 50

    def test_two_hosts_bring_their_samples_together(self, workshop):
        learned, _ = digits()
        halves = [csv_rows.write(learned[:900]), csv_rows.write(learned[900:])]
        bases, _ = on_two_hosts(workshop, DIGITS, halves)
        labels = numpy.fromfile(bases[0] / "model" / "model_algo-1.labels", dtype="<f4")
        assert (labels == learned[:, 0]).all() and not list((bases[1] / "model").iterdir())

    @pytest.mark.parametrize(
        ("more", "text"),
        [
            ({"dimension_reduction_type": "sign"}, "must be given together"),
            (
                {"dimension_reduction_type": "sign", "dimension_reduction_target": "13"},
                "dimension_reduction_target (13) must be less than feature_dim (13).",
            ),
            ({"k": "2000"}, "k (2000) must not be greater than sample_size (1000)."),
            ({"index_type": "faiss.IVFPQ"}, "'faiss_index_pq_m' is required"),
        ],
    )
    def test_hyperparameters_that_do_not_fit_together_are_refused(self, workshop, more, text):
        base = workshop.opt_ml({**self.hyperparameters, **more}, {"train": {"a": b"1,2\n"}})
        assert text in workshop.train(base).failure
