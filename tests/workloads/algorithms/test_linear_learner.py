"""Linear learner: the contract of all algorithms, and what is its own."""

from __future__ import annotations

import json

import numpy
import pytest
from first_party_contract import FirstPartyContract, as_json, image, metric, on_two_hosts, train
from scipy.sparse import csr_matrix
from sklearn.datasets import load_breast_cancer, load_diabetes, load_digits
from sklearn.linear_model import LogisticRegression, QuantileRegressor, Ridge
from sklearn.metrics import log_loss, roc_auc_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from clary.workloads.formats import csv_rows, recordio_protobuf

NAME = "linear-learner"
BATCH = {"mini_batch_size": "50"}
BINARY = {"predictor_type": "binary_classifier", **BATCH}
REGRESSOR = {"predictor_type": "regressor", **BATCH}
DIGITS = {"predictor_type": "multiclass_classifier", "num_classes": "10", **BATCH}


def shuffled(features: numpy.ndarray, labels: numpy.ndarray) -> numpy.ndarray:
    table = numpy.column_stack([labels, features])
    return table[numpy.random.default_rng(0).permutation(len(table))]


def cancer() -> numpy.ndarray:
    return shuffled(*load_breast_cancer(return_X_y=True))


def diabetes() -> numpy.ndarray:
    return shuffled(*load_diabetes(return_X_y=True))


def digits() -> numpy.ndarray:
    return shuffled(*load_digits(return_X_y=True))


class TestLinearLearner(FirstPartyContract):
    name = NAME
    image = image(NAME)
    hyperparameters = {**BINARY, "num_models": "4"}
    wrong_hyperparameter = (
        "predictor_type",
        "ranker",
        "'ranker' is not one of ['regressor', 'binary_classifier', 'multiclass_classifier']",
    )

    @staticmethod
    def table() -> numpy.ndarray:
        return cancer()

    def right(self, predictions: list[dict], table: numpy.ndarray) -> float:
        found = numpy.array([one["predicted_label"] for one in predictions])
        return float((found == table[:, 0]).mean())

    def answers(self, workshop, trained, rows: numpy.ndarray) -> list[dict]:
        endpoint = workshop.serve(trained.model)
        try:
            return endpoint.ask(as_json(rows.tolist()), "application/json").json()["predictions"]
        finally:
            endpoint.close()

    def test_tumours_are_told_apart_as_well_as_by_the_library(self, workshop):
        table = cancer()
        learned, held_out, asked = table[:300], table[300:400], table[400:]
        trained = train(
            workshop,
            BINARY,
            train=csv_rows.write(learned),
            validation=csv_rows.write(held_out),
            test=csv_rows.write(asked),
        )
        assert "Training 32 models side by side" in trained.log
        direct = make_pipeline(StandardScaler(), LogisticRegression())
        direct.fit(learned[:, 1:], learned[:, 0])
        wanted = roc_auc_score(asked[:, 0], direct.decision_function(asked[:, 1:]))
        assert metric(trained.log, NAME, "test:roc_auc_score")[0] > wanted - 0.005
        accuracy = direct.score(asked[:, 1:], asked[:, 0])
        found = metric(trained.log, NAME, "test:binary_classification_accuracy")
        assert found[0] > accuracy - 0.02
        for side in ("train", "validation"):
            assert metric(trained.log, NAME, f"{side}:objective_loss")
            assert len(metric(trained.log, NAME, f"{side}:objective_loss:final")) == 1
        for name in ("binary_f_beta", "precision", "recall", "roc_auc_score"):
            assert len(metric(trained.log, NAME, f"validation:{name}")) == 1

    def test_a_given_penalty_is_that_of_the_library(self, workshop):
        table = cancer()
        wd = 0.01
        hyperparameters = {**BINARY, "wd": str(wd), "l1": "0", "epochs": "50"}
        trained = train(workshop, hyperparameters, train=csv_rows.write(table))
        assert "Training 1 models" in trained.log
        answers = self.answers(workshop, trained, table[:, 1:])
        direct = make_pipeline(
            StandardScaler(), LogisticRegression(C=1 / (wd * len(table)), tol=1e-8, max_iter=5000)
        ).fit(table[:, 1:], table[:, 0])
        wanted = direct.predict_proba(table[:, 1:])[:, 1]
        assert numpy.abs(wanted - [one["score"] for one in answers]).max() < 1e-3

    def test_an_l1_penalty_leaves_few_features(self, workshop):
        hyperparameters = {**BINARY, "wd": "0", "l1": "0.05"}
        trained = train(workshop, hyperparameters, train=csv_rows.write(cancer()))
        weights = numpy.load(trained.model / "model_algo-1")["weights"]
        direct = LogisticRegression(
            C=1 / (0.05 * 569), l1_ratio=1, solver="saga", tol=1e-6, max_iter=5000
        )
        table = cancer()
        direct.fit(StandardScaler().fit_transform(table[:, 1:]), table[:, 0])
        assert abs(int((weights != 0).sum()) - int((direct.coef_ != 0).sum())) <= 1

    def test_a_regression_is_as_good_as_the_librarys(self, workshop):
        table = diabetes()
        learned, asked = table[:300], table[300:]
        trained = train(
            workshop, REGRESSOR, train=csv_rows.write(learned), test=csv_rows.write(asked)
        )
        direct = Ridge().fit(StandardScaler().fit_transform(learned[:, 1:]), learned[:, 0])
        scale = StandardScaler().fit(learned[:, 1:])
        gaps = direct.predict(scale.transform(asked[:, 1:])) - asked[:, 0]
        found = metric(trained.log, NAME, "test:mse")
        assert found[0] < 1.05 * (gaps**2).mean()
        assert metric(trained.log, NAME, "test:rmse")[0] == pytest.approx(found[0] ** 0.5)
        answers = self.answers(workshop, trained, asked[:5, 1:])
        assert all(list(one) == ["score"] for one in answers)

    @pytest.mark.parametrize(
        ("loss", "more", "quantile"),
        [
            ("absolute_loss", {}, 0.5),
            ("quantile_loss", {"quantile": "0.9"}, 0.9),
            ("eps_insensitive_absolute_loss", {}, 0.5),
        ],
    )
    def test_quantiles_are_those_of_the_library(self, workshop, loss, more, quantile):
        table = diabetes()
        hyperparameters = {**REGRESSOR, "loss": loss, **more, "wd": "0", "l1": "0"}
        trained = train(workshop, hyperparameters, train=csv_rows.write(table))
        found = numpy.array([one["score"] for one in self.answers(workshop, trained, table[:, 1:])])
        direct = QuantileRegressor(quantile=quantile, alpha=0).fit(table[:, 1:], table[:, 0])

        def loss_of(scores: numpy.ndarray) -> float:
            gaps = table[:, 0] - scores
            return float(numpy.maximum(quantile * gaps, (quantile - 1) * gaps).mean())

        assert loss_of(found) < 1.01 * loss_of(direct.predict(table[:, 1:]))

    @pytest.mark.parametrize("loss", ["eps_insensitive_squared_loss", "huber_loss"])
    def test_every_other_regression_loss_is_learned(self, workshop, loss):
        data = csv_rows.write(diabetes())
        log = train(workshop, {**REGRESSOR, "loss": loss}, train=data, test=data).log
        assert f"train {loss}_objective <loss>=" in log
        assert metric(log, NAME, "test:mse")[0] < 3100  # the variance is 5930

    def test_a_hinge_loss_answers_with_margins(self, workshop):
        table = cancer()
        hyperparameters = {**BINARY, "loss": "hinge_loss", "num_models": "4"}
        trained = train(workshop, hyperparameters, train=csv_rows.write(table))
        answers = self.answers(workshop, trained, table[:, 1:])
        scores = numpy.array([one["score"] for one in answers])
        assert scores.min() < -1 and scores.max() > 1
        assert self.right(answers, table) > 0.97

    def test_digits_are_told_apart_as_well_as_by_the_library(self, workshop):
        table = digits()
        learned, asked = table[:1300], table[1300:]
        trained = train(
            workshop,
            {**DIGITS, "num_models": "4"},
            train=csv_rows.write(learned),
            validation=csv_rows.write(asked[:200]),
            test=csv_rows.write(asked),
        )
        scale = StandardScaler().fit(learned[:, 1:])
        direct = LogisticRegression(max_iter=300)
        direct.fit(scale.transform(learned[:, 1:]), learned[:, 0])
        wanted = direct.score(scale.transform(asked[:, 1:]), asked[:, 0])
        assert metric(trained.log, NAME, "test:multiclass_accuracy")[0] > wanted - 0.015
        top = metric(trained.log, NAME, "test:multiclass_top_k_accuracy")[0]
        assert top > 0.98 and "multiclass_top_k_accuracy_3" in trained.log
        for name in ("dcg", "macro_recall", "macro_precision", "macro_f_beta"):
            assert metric(trained.log, NAME, f"test:{name}")[0] > 0.9
        one = self.answers(workshop, trained, asked[:1, 1:])[0]
        assert len(one["score"]) == 10 and sum(one["score"]) == pytest.approx(1)
        assert one["predicted_label"] == int(numpy.argmax(one["score"]))

    def test_sparse_and_wide_data_are_learned(self, workshop):
        table = digits()
        features = csr_matrix((table[:, 1:] > 8).astype(numpy.float32))
        wide = csr_matrix(
            (features.data, features.indices * 500, features.indptr), shape=(1797, 32_000)
        )
        labels = (table[:, 0] > 4).astype(numpy.float32)
        data = recordio_protobuf.write_records(wide, labels)
        hyperparameters = {**BINARY, "wd": "0.001", "l1": "0", "epochs": "5"}
        trained = train(workshop, hyperparameters, "application/x-recordio-protobuf", train=data)
        direct = LogisticRegression().fit(features.toarray(), labels)
        found = metric(trained.log, NAME, "train:objective_loss:final")[0]
        assert found < 1.1 * log_loss(labels, direct.predict_proba(features.toarray()))

    @pytest.mark.parametrize(
        ("criterion", "more", "checked"),
        [
            ("precision_at_target_recall", {"target_recall": "0.99"}, "recall"),
            ("recall_at_target_precision", {"target_precision": "0.99"}, "precision"),
        ],
    )
    def test_the_threshold_meets_its_target(self, workshop, criterion, more, checked):
        hyperparameters = {
            **self.hyperparameters,
            "binary_classifier_model_selection_criteria": criterion,
            **more,
        }
        data = csv_rows.write(cancer())
        log = train(workshop, hyperparameters, train=data, validation=data).log
        assert metric(log, NAME, f"validation:{checked}")[0] >= 0.99

    def test_heavier_positives_are_found_more_often(self, workshop):
        data = csv_rows.write(cancer())
        by_loss = {
            **BINARY,
            "binary_classifier_model_selection_criteria": "loss_function",
            "wd": "0.1",
            "l1": "0",
        }
        recalls = [
            metric(
                train(
                    workshop,
                    {**by_loss, "positive_example_weight_mult": factor},
                    train=data,
                    validation=data,
                ).log,
                NAME,
                "validation:recall",
            )[0]
            for factor in ("0.05", "1", "20")
        ]
        assert recalls[0] < recalls[1] <= recalls[2]

    def test_two_hosts_learn_the_model_of_the_data_of_both(self, workshop):
        table = cancer()
        hyperparameters = {**BINARY, "wd": "0.01", "l1": "0", "epochs": "40"}
        whole = train(workshop, hyperparameters, train=csv_rows.write(table))
        halves = [csv_rows.write(table[at::2]) for at in range(2)]
        bases, logs = on_two_hosts(workshop, hyperparameters, halves)
        together = numpy.load(bases[0] / "model" / "model_algo-1")["weights"]
        alone = numpy.load(whole.model / "model_algo-1")["weights"]
        assert numpy.allclose(together, alone, rtol=1e-3, atol=1e-5 * numpy.abs(alone).max())
        assert not list((bases[1] / "model").iterdir())
        auc = metric(logs[0], NAME, "train:objective_loss:final")
        assert auc == pytest.approx(metric(whole.log, NAME, "train:objective_loss:final"), rel=1e-4)

    def test_what_has_no_effect_is_told(self, workshop):
        hyperparameters = {**self.hyperparameters, "learning_rate": "0.1", "optimizer": "sgd"}
        log = train(workshop, hyperparameters, train=csv_rows.write(cancer())).log
        assert "Hyperparameter learning_rate=0.1 has no effect here" in log
        assert "Hyperparameter optimizer=sgd has no effect here" in log

    @pytest.mark.parametrize(
        ("hyperparameters", "data", "text"),
        [
            (BINARY, b"2,1,2\n0,1,3\n", "labels of a binary_classifier must be 0 or 1"),
            (DIGITS, b"10,1\n0,2\n", "whole numbers from 0 to num_classes - 1 (9)"),
            (
                {"predictor_type": "multiclass_classifier"},
                b"",
                "'num_classes' is a required property",
            ),
            (
                {**BINARY, "loss": "huber_loss"},
                b"",
                "loss huber_loss is not supported for predictor_type binary_classifier",
            ),
            (BINARY, b"", "ClientError: No training data processed."),
            (BINARY, b"1,2,3\n0,4,5\n" * 24, "or the mini-batch size is too high"),
        ],
    )
    def test_what_cannot_be_learned_is_told(self, workshop, hyperparameters, data, text):
        base = workshop.opt_ml(hyperparameters, {"train": {"a.csv": data}})
        trained = workshop.train(base)
        assert trained.code == 1 and text in trained.failure

    def test_a_csv_answer_has_the_score(self, endpoint):
        body = csv_rows.write(self.features()[:2])
        lines = endpoint.ask(body, "text/csv", "text/csv").body.decode().splitlines()
        whole = endpoint.ask(body, "text/csv").json()["predictions"]
        assert [float(line) for line in lines] == [one["score"] for one in whole]
        assert json.dumps(whole[0]["predicted_label"]) in ("0", "1")
