"""Factorization machines: the contract of all algorithms, and what is their own."""

from __future__ import annotations

import json
from collections.abc import Iterator

import numpy
import pytest
from first_party_contract import (
    FirstPartyContract,
    as_json,
    image,
    metric,
    on_two_hosts,
    train,
)
from scipy.sparse import csr_matrix
from sklearn.datasets import load_breast_cancer, load_diabetes
from sklearn.linear_model import LinearRegression, LogisticRegression
from sklearn.metrics import roc_auc_score

from clary.workloads.formats import csv_rows, recordio_protobuf

RECORDIO = "application/x-recordio-protobuf"
LEARNING = {
    "epochs": "40",
    "mini_batch_size": "50",
    "bias_lr": "0.02",
    "linear_lr": "0.02",
    "factors_lr": "0.01",
    "factors_init_sigma": "0.05",
}


def scaled(rows: numpy.ndarray) -> numpy.ndarray:
    return (rows - rows.mean(axis=0)) / rows.std(axis=0)


class TestFactorizationMachines(FirstPartyContract):
    name = "factorization-machines"
    image = image("factorization-machines")
    hyperparameters = {
        "feature_dim": "30",
        "num_factors": "4",
        "predictor_type": "binary_classifier",
        **LEARNING,
    }
    wrong_hyperparameter = (
        "bias_lr",
        "-1",
        "'-1' is not valid under any of the given schemas",
    )

    @staticmethod
    def table() -> numpy.ndarray:
        rows, labels = load_breast_cancer(return_X_y=True)
        return numpy.column_stack([labels, scaled(rows)]).astype(numpy.float32)

    def right(self, predictions: list[dict], table: numpy.ndarray) -> float:
        found = numpy.array([one["predicted_label"] for one in predictions])
        return float((found == table[:, 0]).mean())

    @staticmethod
    def records(table: numpy.ndarray) -> bytes:
        return recordio_protobuf.write_records(table[:, 1:], table[:, 0])

    # SageMaker's image takes no CSV, neither to train nor to serve.

    @pytest.fixture(scope="class")
    @classmethod
    def trained(cls, workshop) -> Iterator:
        yield train(workshop, cls.hyperparameters, RECORDIO, train=cls.records(cls.table()))

    def test_csv_in_gives_json_out(self, endpoint):
        table = self.table()
        assert endpoint.ask(csv_rows.write(table[:, 1:]), "text/csv").status == 415
        answer = endpoint.ask(as_json(table[:, 1:].tolist()), "application/json")
        assert self.right(answer.json()["predictions"], table) > 0.95

    def test_json_lines_hold_one_prediction_a_line(self, endpoint):
        body = as_json(self.features()[:3].tolist())
        lines = endpoint.ask(body, "application/json", "application/jsonlines").body.splitlines()
        whole = endpoint.ask(body, "application/json").json()["predictions"]
        assert [json.loads(line) for line in lines] == whole

    def test_json_instances_give_the_same_as_csv(self, endpoint):
        rows = self.features()[:3].tolist()
        lines = "\n".join(json.dumps({"features": row}) for row in rows).encode()
        whole = endpoint.ask(as_json(rows), "application/json").json()
        assert endpoint.ask(lines, "application/jsonlines").json() == whole

    def test_recordio_in_gives_the_same_as_csv(self, endpoint):
        rows = self.features()[:5]
        body = recordio_protobuf.write_records(rows)
        whole = endpoint.ask(as_json(rows.tolist()), "application/json").json()
        assert endpoint.ask(body, RECORDIO, "application/json").json() == whole

    def test_recordio_out_has_one_record_a_row(self, endpoint):
        body = as_json(self.features()[:4].tolist())
        answer = endpoint.ask(body, "application/json", RECORDIO)
        records = list(recordio_protobuf.read_records(answer.body))
        assert [sorted(one.label) for one in records] == [["predicted_label", "score"]] * 4

    def test_an_unknown_accept_is_refused(self, endpoint):
        body = as_json(self.features()[:1].tolist())
        assert endpoint.ask(body, "application/json", "image/png").status == 406

    def test_data_of_another_width_than_feature_dim_is_told(self, workshop):
        hyperparameters = {**self.hyperparameters, "feature_dim": "37"}
        files = {"train": {"a": self.records(self.table())}}
        failure = workshop.train(workshop.opt_ml(hyperparameters, files, RECORDIO)).failure
        assert "does not match the hyperparameter feature_dim (37)" in failure

    def test_a_wrong_field_is_named_by_file_line_and_column(self, workshop):
        table = self.table()
        table[3, 4] = numpy.nan
        files = {"train": {"a.pbr": self.records(table)}}
        failure = workshop.train(workshop.opt_ml(self.hyperparameters, files, RECORDIO)).failure
        assert "'a.pbr', from byte 0: a feature is not a finite number" in failure

    def test_a_short_row_is_named_by_file_and_line(self, workshop):
        files = {"train": {"a.pbr": self.records(self.table())[:-8]}}
        failure = workshop.train(workshop.opt_ml(self.hyperparameters, files, RECORDIO)).failure
        assert "'a.pbr', from byte" in failure and "is cut off" in failure

    def test_a_missing_value_is_named_by_file_line_and_column(self, workshop):
        files = {"train": {"a.csv": csv_rows.write(self.table())}}
        failure = workshop.train(workshop.opt_ml(self.hyperparameters, files)).failure
        assert "No iterator has been registered for ContentType ('text/csv', '1.0')" in failure

    # What is their own.

    def test_tumours_are_told_apart_as_well_as_by_a_logistic_regression(self, workshop):
        table = self.table()
        learned, asked = table[:400], table[400:]
        trained = train(
            workshop,
            self.hyperparameters,
            RECORDIO,
            train=self.records(learned),
            test=self.records(asked),
        )
        endpoint = workshop.serve(trained.model)
        try:
            answer = endpoint.ask(as_json(asked[:, 1:].tolist()), "application/json")
        finally:
            endpoint.close()
        scores = [one["score"] for one in answer.json()["predictions"]]
        direct = LogisticRegression(max_iter=1000).fit(learned[:, 1:], learned[:, 0])
        wanted = roc_auc_score(asked[:, 0], direct.decision_function(asked[:, 1:]))
        assert roc_auc_score(asked[:, 0], scores) > wanted - 0.01
        for name in ("binary_classification_accuracy", "binary_f_beta"):
            assert metric(trained.log, self.name, f"test:{name}")[0] > 0.95

    def test_products_of_features_are_learned(self, workshop):
        random = numpy.random.default_rng(0)
        rows = random.normal(size=(4000, 6)).astype(numpy.float32)
        labels = rows[:, 0] * rows[:, 1] - 2 * rows[:, 2] * rows[:, 3] + rows[:, 4] + 3
        table = numpy.column_stack([labels, rows]).astype(numpy.float32)
        hyperparameters = {
            **LEARNING,
            "feature_dim": "6",
            "num_factors": "4",
            "predictor_type": "regressor",
            "factors_wd": "0",
            "linear_wd": "0",
            "bias_wd": "0",
            "epochs": "30",
        }
        trained = train(
            workshop,
            hyperparameters,
            RECORDIO,
            train=self.records(table[:3000]),
            test=self.records(table[3000:]),
        )
        # Without the products, the deviation that is left is about 2.2.
        assert metric(trained.log, self.name, "test:rmse")[0] < 0.2

    def test_a_regressor_is_as_good_as_a_linear_regression(self, workshop):
        rows, labels = load_diabetes(return_X_y=True)
        rows, labels = scaled(rows), (labels - labels.mean()) / labels.std()
        table = numpy.column_stack([labels, rows]).astype(numpy.float32)
        hyperparameters = {
            **LEARNING,
            "feature_dim": "10",
            "num_factors": "2",
            "predictor_type": "regressor",
            "factors_wd": "0.1",
        }
        trained = train(
            workshop,
            hyperparameters,
            RECORDIO,
            train=self.records(table[:300]),
            test=self.records(table[300:]),
        )
        direct = LinearRegression().fit(rows[:300], labels[:300])
        wanted = ((direct.predict(rows[300:]) - labels[300:]) ** 2).mean()
        assert metric(trained.log, self.name, "test:mse")[0] < 1.1 * wanted

    def test_sparse_records_learn_the_same_as_dense_ones(self, workshop):
        table = self.table()
        table[:, 1:][numpy.abs(table[:, 1:]) < 0.5] = 0
        hyperparameters = {**self.hyperparameters, "epochs": "3"}
        losses = []
        for features in (table[:, 1:], csr_matrix(table[:, 1:])):
            data = recordio_protobuf.write_records(features, table[:, 0])
            log = train(workshop, hyperparameters, RECORDIO, train=data).log
            losses += metric(log, self.name, "train:binary_classification_cross_entropy")
        assert losses[0] == pytest.approx(losses[1], rel=1e-4)

    def test_two_hosts_learn_one_model(self, workshop):
        table = self.table()
        halves = [self.records(table[at::2]) for at in range(2)]
        bases, logs = on_two_hosts(workshop, self.hyperparameters, halves, RECORDIO)
        accuracy = metric(logs[0], self.name, "train:binary_classification_accuracy")[-1]
        assert accuracy > 0.97 and not list((bases[1] / "model").iterdir())
