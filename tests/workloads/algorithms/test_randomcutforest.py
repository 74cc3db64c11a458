"""Random cut forest: the contract of all algorithms, and what is its own."""

from __future__ import annotations

import numpy
from first_party_contract import FirstPartyContract, image, metric, on_two_hosts, train
from sklearn.datasets import load_breast_cancer
from sklearn.ensemble import IsolationForest
from sklearn.metrics import roc_auc_score

from clary.workloads.formats import csv_rows


def planted(count: int = 2000, anomalies: int = 20) -> numpy.ndarray:
    """A label and five features; the anomalies, labelled 1, are far from two clouds."""
    random = numpy.random.default_rng(0)
    rows = random.normal(size=(count, 5)) + 4 * random.integers(0, 2, size=(count, 1))
    labels = numpy.zeros(count)
    chosen = random.choice(count, anomalies, replace=False)
    rows[chosen] = random.uniform(-1, 1, size=(anomalies, 5)) * 4 + random.choice(
        [-20, 20], size=(anomalies, 1)
    )
    labels[chosen] = 1
    return numpy.column_stack([labels, rows])


class TestRandomCutForest(FirstPartyContract):
    name = "randomcutforest"
    image = image("randomcutforest")
    hyperparameters = {"feature_dim": "5", "num_trees": "50"}
    wrong_hyperparameter = (
        "num_trees",
        "20",
        "'20' is not valid under any of the given schemas",
    )
    takes_labels = False
    list_name = "scores"

    @staticmethod
    def table() -> numpy.ndarray:
        return planted()[:, 1:]

    def right(self, predictions: list[dict], table: numpy.ndarray) -> float:
        scores = [one["score"] for one in predictions]
        return float(roc_auc_score(planted()[:, 0], scores))

    def scores(self, workshop, trained, rows: numpy.ndarray) -> numpy.ndarray:
        endpoint = workshop.serve(trained.model)
        try:
            answer = endpoint.ask(csv_rows.write(rows), "text/csv")
        finally:
            endpoint.close()
        return numpy.array([one["score"] for one in answer.json()["scores"]])

    def test_planted_anomalies_rank_first(self, workshop, trained):
        table = planted()
        scores = self.scores(workshop, trained, table[:, 1:])
        assert roc_auc_score(table[:, 0], scores) > 0.999
        assert scores[table[:, 0] == 1].min() > numpy.median(scores) * 1.5

    def test_tumours_are_as_unusual_as_an_isolation_forest_says(self, workshop):
        rows, labels = load_breast_cancer(return_X_y=True)
        rows = (rows - rows.mean(axis=0)) / rows.std(axis=0)
        malignant, benign = rows[labels == 0], rows[labels == 1]
        learned, asked = benign[:250], numpy.vstack([benign[250:], malignant])
        truth = numpy.concatenate([numpy.zeros(len(benign) - 250), numpy.ones(len(malignant))])
        hyperparameters = {"feature_dim": "30"}
        trained = train(workshop, hyperparameters, train=csv_rows.write(learned))
        found = roc_auc_score(truth, self.scores(workshop, trained, asked))
        direct = IsolationForest(random_state=0).fit(learned)
        wanted = roc_auc_score(truth, -direct.score_samples(asked))
        assert found > wanted - 0.01

    def test_the_test_channel_is_judged_by_three_deviations(self, workshop):
        table = planted()
        base = workshop.opt_ml(
            self.hyperparameters,
            {
                "train": {"a": csv_rows.write(table[:, 1:])},
                "test": {"b": csv_rows.write(table)},
            },
        )
        log = workshop.train(base).log
        assert metric(log, self.name, "test:f1")[0] > 0.9
        assert metric(log, self.name, "test:recall")[0] > 0.9
        assert metric(log, self.name, "test:precision")[0] > 0.9
        assert metric(log, self.name, "test:accuracy")[0] > 0.99

    def test_equal_points_are_not_unusual(self, workshop):
        rows = numpy.vstack([numpy.ones((500, 5)), numpy.full((1, 5), 9.0)])
        trained = train(workshop, self.hyperparameters, train=csv_rows.write(rows))
        common, rare = self.scores(workshop, trained, numpy.array([[1.0] * 5, [9.0] * 5]))
        assert rare > 3 * common

    def test_two_hosts_bring_their_samples_together(self, workshop):
        table = planted()
        halves = [csv_rows.write(table[at::2, 1:]) for at in range(2)]
        bases, _ = on_two_hosts(workshop, self.hyperparameters, halves)
        assert (bases[0] / "model" / "model_algo-1").exists()
        assert not list((bases[1] / "model").iterdir())

    def test_several_hosts_need_sharded_data(self, workshop):
        base = workshop.opt_ml(
            self.hyperparameters,
            {"train": {"a": csv_rows.write(self.table())}},
            resourceconfig={"current_host": "a", "hosts": ["a", "b"]},
        )
        assert "S3DistributionType=ShardedByS3Key" in workshop.train(base).failure
