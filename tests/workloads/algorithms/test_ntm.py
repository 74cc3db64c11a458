"""NTM: the contract of all algorithms, and what is its own."""

from __future__ import annotations

import json

import numpy
import pytest
from first_party_contract import FirstPartyContract, image, metric, on_two_hosts, train
from sklearn.datasets import load_digits
from sklearn.decomposition import LatentDirichletAllocation
from sklearn.metrics import normalized_mutual_info_score

from clary.workloads.formats import csv_rows

TOPICS, WORDS, DOCUMENTS = 3, 24, 180
QUICK = {
    "optimizer": "adam",
    "learning_rate": "0.02",
    "mini_batch_size": "32",
    "encoder_layers_activation": "tanh",
}


def truth() -> numpy.ndarray:
    return numpy.arange(DOCUMENTS) % TOPICS


class TestNTM(FirstPartyContract):
    name = "ntm"
    image = image("ntm")
    hyperparameters = {"feature_dim": str(WORDS), "num_topics": "3", "epochs": "25", **QUICK}
    wrong_hyperparameter = ("optimizer", "lbfgs", "'lbfgs' is not one of ['sgd', 'adam'")
    takes_labels = False

    @staticmethod
    def table() -> numpy.ndarray:
        """Each document has words of one topic, and a few of any."""
        random = numpy.random.default_rng(0)
        rates = numpy.full((TOPICS, WORDS), 0.2)
        for topic in range(TOPICS):
            rates[topic, topic * 8 : topic * 8 + 8] = 4.0
        return random.poisson(rates[truth()]).astype(float)

    def right(self, predictions: list[dict], table: numpy.ndarray) -> float:
        weights = numpy.array([one["topic_weights"] for one in predictions])
        assert weights.sum(axis=1) == pytest.approx(numpy.ones(len(table)))
        return float(normalized_mutual_info_score(truth(), weights.argmax(axis=1)))

    def test_the_topics_of_digits_tell_them_apart_as_well_as_the_library_s(self, workshop):
        digits = load_digits()
        hyperparameters = {**QUICK, "feature_dim": "64", "num_topics": "10", "epochs": "40"}
        hyperparameters["encoder_layers_activation"] = "sigmoid"
        data = csv_rows.write(digits.data)
        trained = train(workshop, hyperparameters, train=data, validation=data)
        endpoint = workshop.serve(trained.model)
        try:
            answer = endpoint.ask(data, "text/csv", "application/json").json()["predictions"]
        finally:
            endpoint.close()
        topics = numpy.array([one["topic_weights"] for one in answer]).argmax(axis=1)
        direct = LatentDirichletAllocation(10, random_state=0, max_iter=10)
        theirs = direct.fit_transform(digits.data).argmax(axis=1)
        ours = normalized_mutual_info_score(digits.target, topics)
        assert ours > 0.9 * normalized_mutual_info_score(digits.target, theirs)
        losses = metric(trained.log, "ntm", "validation:total_loss")
        assert len(losses) == 1 and losses[0] > 0

    def test_the_words_of_each_topic_are_told(self, workshop):
        base = workshop.opt_ml(
            self.hyperparameters,
            {
                "train": {"a.csv": csv_rows.write(self.table())},
                "auxiliary": {"vocab.txt": "\n".join(f"word{at}" for at in range(WORDS)).encode()},
            },
        )
        config = base / "input" / "config" / "inputdataconfig.json"
        channels = json.loads(config.read_text())
        channels["auxiliary"]["ContentType"] = "text/plain"
        config.write_text(json.dumps(channels))
        trained = workshop.train(base)
        assert trained.code == 0, trained.failure
        lines = trained.log.split("(num_topics:3) [tu ")[1].splitlines()[1:4]
        found = {frozenset(word for word in line.split() if "word" in word) for line in lines}
        own = [{f"word{at}" for at in range(topic * 8, topic * 8 + 8)} for topic in range(TOPICS)]
        assert all(any(words <= topic for topic in found) for words in own)

    def test_negative_counts_are_refused(self, workshop):
        table = self.table()
        table[3, 3] = -1
        base = workshop.opt_ml(self.hyperparameters, {"train": {"a": csv_rows.write(table)}})
        trained = workshop.train(base)
        assert "Channel 'train' has the value -1: NTM takes the counts of words" in trained.failure

    def test_two_hosts_learn_one_model(self, workshop):
        table = self.table()
        halves = [csv_rows.write(table[:100]), csv_rows.write(table[100:])]
        hyperparameters = {**self.hyperparameters, "epochs": "40", "num_patience_epochs": "10"}
        bases, logs = on_two_hosts(workshop, hyperparameters, halves)
        assert not list((bases[1] / "model").iterdir())
        endpoint = workshop.serve(bases[0] / "model")
        try:
            answer = endpoint.ask(csv_rows.write(table), "text/csv").json()["predictions"]
        finally:
            endpoint.close()
        assert self.right(answer, table) > 0.9
        losses = [
            [line for line in log.splitlines() if "train total_loss" in line][-1].split("=")[-1]
            for log in logs
        ]
        assert losses[0] == losses[1]
