"""PCA: the contract of all algorithms, and what is its own."""

from __future__ import annotations

import numpy
import pytest
from first_party_contract import FirstPartyContract, image, on_two_hosts, train
from scipy.sparse import csr_matrix
from sklearn.datasets import load_digits, load_wine
from sklearn.decomposition import PCA

from clary.workloads.formats import csv_rows, recordio_protobuf

DIGITS = {"feature_dim": "64", "num_components": "10", "mini_batch_size": "500"}


def same_up_to_sign(found: numpy.ndarray, wanted: numpy.ndarray, tolerance: float) -> bool:
    """Whether the columns are equal but for their signs."""
    signs = numpy.sign((found * wanted).sum(axis=0))
    return bool(numpy.allclose(found * signs, wanted, atol=tolerance))


class TestPCA(FirstPartyContract):
    name = "pca"
    image = image("pca")
    hyperparameters = {"feature_dim": "13", "num_components": "3", "mini_batch_size": "50"}
    wrong_hyperparameter = (
        "algorithm_mode",
        "exact",
        "'exact' is not one of ['regular', 'randomized']",
    )
    takes_labels = False
    list_name = "projections"

    @staticmethod
    def table() -> numpy.ndarray:
        return load_wine().data

    def right(self, predictions: list[dict], table: numpy.ndarray) -> float:
        found = numpy.array([one["projection"] for one in predictions])[:, ::-1]
        wanted = PCA(3).fit_transform(table)
        return float(same_up_to_sign(found, wanted, 1e-2))

    @pytest.mark.parametrize("mode", ["regular", "randomized"])
    def test_the_components_are_those_of_the_library(self, workshop, mode):
        rows = load_digits().data
        trained = train(
            workshop,
            {**DIGITS, "algorithm_mode": mode},
            "text/csv;label_size=0",
            train=csv_rows.write(rows),
        )
        model = numpy.load(trained.model / "model_algo-1")
        direct = PCA(10).fit(rows)
        assert model["v"].shape == (64, 10)
        assert numpy.allclose(model["mean"], direct.mean_, atol=1e-4)
        assert numpy.allclose(model["s"], direct.singular_values_[::-1], rtol=2e-3)
        tolerance = 1e-3 if mode == "regular" else 3e-2
        assert same_up_to_sign(model["v"][:, ::-1], direct.components_.T, tolerance)

    def test_a_large_mean_does_not_spoil_the_components(self, workshop):
        rows = load_digits().data + 1e5
        data = recordio_protobuf.write_records(rows.astype(numpy.float32))
        trained = train(workshop, DIGITS, "application/x-recordio-protobuf", train=data)
        found = numpy.load(trained.model / "model_algo-1")["s"]
        assert numpy.allclose(found, PCA(10).fit(rows).singular_values_[::-1], rtol=1e-2)

    def test_without_subtracting_the_mean_it_is_a_singular_value_decomposition(self, workshop):
        rows = load_wine().data
        hyperparameters = {**self.hyperparameters, "subtract_mean": "false"}
        trained = train(workshop, hyperparameters, train=csv_rows.write(rows))
        model = numpy.load(trained.model / "model_algo-1")
        wanted = numpy.linalg.svd(rows, compute_uv=False)[:3][::-1]
        assert not model["mean"].any() and numpy.allclose(model["s"], wanted, rtol=1e-3)

    @pytest.mark.parametrize("mode", ["regular", "randomized"])
    def test_sparse_records_have_the_components_of_dense_ones(self, workshop, mode):
        rows = load_digits().data.astype(numpy.float32)
        singular = [
            numpy.load(
                train(
                    workshop,
                    {**DIGITS, "algorithm_mode": mode},
                    "application/x-recordio-protobuf",
                    train=recordio_protobuf.write_records(data),
                ).model
                / "model_algo-1"
            )["s"]
            for data in (rows, csr_matrix(rows))
        ]
        assert numpy.allclose(*singular, rtol=1e-4)

    def test_two_hosts_find_the_components_of_the_data_of_both(self, workshop):
        rows = load_digits().data
        halves = [csv_rows.write(rows[:500]), csv_rows.write(rows[500:])]
        bases, _ = on_two_hosts(workshop, DIGITS, halves)
        found = numpy.load(bases[0] / "model" / "model_algo-1")["s"]
        assert numpy.allclose(found, PCA(10).fit(rows).singular_values_[::-1], rtol=1e-4)
        assert not list((bases[1] / "model").iterdir())

    def test_more_components_than_features_are_refused(self, workshop):
        base = workshop.opt_ml({**self.hyperparameters, "num_components": "14"}, {"train": {}})
        text = "num_components (14) must be less than or equal to feature_dim (13)."
        assert text in workshop.train(base).failure

    def test_a_csv_answer_has_the_projection_in_a_line(self, endpoint):
        body = csv_rows.write(self.table()[:2])
        lines = endpoint.ask(body, "text/csv", "text/csv").body.decode().splitlines()
        whole = endpoint.ask(body, "text/csv").json()["projections"]
        assert [list(map(float, line.split(","))) for line in lines] == [
            one["projection"] for one in whole
        ]
