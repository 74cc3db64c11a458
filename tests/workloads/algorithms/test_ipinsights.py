"""IP Insights: the contract of all algorithms, for pairs of words in place of numbers."""

from __future__ import annotations

import json

import numpy
import pytest
from algorithm_contract import AlgorithmContract
from first_party_contract import image, metric, on_two_hosts, train

ENTITIES = 40
EVENTS = 1600


def pairs(seed: int) -> list[tuple[str, str]]:
    """Each user comes from one of four networks, and from anywhere within it."""
    random = numpy.random.default_rng(seed)
    users = random.integers(0, ENTITIES, EVENTS)
    networks = ["10.1", "81.200", "140.7", "201.33"]
    ends = random.integers(0, 256, (EVENTS, 2))
    return [
        (f"user_{user}", f"{networks[user % 4]}.{a}.{b}")
        for user, (a, b) in zip(users, ends, strict=True)
    ]


def csv(seed: int) -> bytes:
    return "".join(f"{entity},{address}\n" for entity, address in pairs(seed)).encode()


class TestIPInsights(AlgorithmContract):
    name = "ipinsights"
    image = image("ipinsights")
    hyperparameters = {
        "num_entity_vectors": "1000",
        "vector_dim": "16",
        "epochs": "15",
        "mini_batch_size": "200",
        "learning_rate": "0.01",
    }
    wrong_hyperparameter = ("vector_dim", "3", "'3' is not valid under any of the given schemas")

    @pytest.fixture(scope="class")
    @classmethod
    def trained(cls, workshop):
        return train(workshop, cls.hyperparameters, train=csv(0), validation=csv(1))

    def test_training_takes_recordio_protobuf(self, workshop):
        """It takes text alone, and says so."""
        base = workshop.opt_ml(
            self.hyperparameters, {"train": {"a": b"x"}}, "application/x-recordio-protobuf"
        )
        assert "Channel 'train' takes text/csv" in workshop.train(base).failure

    def test_csv_in_gives_json_out(self, endpoint):
        good, bad = b"user_0,10.1.3.4\nuser_1,81.200.9.9\n", b"user_0,81.200.9.9\nuser_1,10.1.3.4"
        answer = endpoint.ask(good + bad, "text/csv", "application/json")
        assert (answer.status, answer.content_type) == (200, "application/json")
        products = [one["dot_product"] for one in answer.json()["predictions"]]
        assert min(products[:2]) > 0 > max(products[2:])

    def test_json_lines_hold_one_prediction_a_line(self, endpoint):
        body = b"user_0,10.1.3.4\nuser_1,81.200.9.9\n"
        lines = endpoint.ask(body, "text/csv", "application/jsonlines").body.splitlines()
        whole = endpoint.ask(body, "text/csv", "application/json").json()["predictions"]
        assert [json.loads(line) for line in lines] == whole

    def test_recordio_in_gives_the_same_as_csv(self, endpoint):
        """Here: every form of a request has the same answer."""
        features = ["user_0", "10.1.3.4"]
        forms = ({"features": features}, {"data": {"features": {"values": features}}})
        plain = endpoint.ask(b"user_0,10.1.3.4", "text/csv").json()
        for form in forms:
            body = json.dumps({"instances": [form]}).encode()
            assert endpoint.ask(body, "application/json").json() == plain
            line = json.dumps(form).encode()
            assert endpoint.ask(line, "application/jsonlines").json() == plain

    def test_recordio_out_has_one_record_a_row(self, endpoint):
        """Here: a verbose answer has both vectors, whose product is the score."""
        answer = endpoint.ask(b"user_0,10.1.3.4", "text/csv", "application/json;verbose=True")
        one = answer.json()["predictions"][0]
        assert len(one["entity_embedding"]) == len(one["ip_embedding"]) == 16
        product = numpy.dot(one["entity_embedding"], one["ip_embedding"])
        assert one["dot_product"] == pytest.approx(product, rel=1e-4)

    def test_an_unknown_accept_is_refused(self, endpoint):
        assert endpoint.ask(b"user_0,10.1.3.4", "text/csv", "image/png").status == 406

    def test_pairs_that_were_seen_are_told_from_random_ones(self, trained):
        found = metric(trained.log, self.name, "validation:discriminator_auc")
        assert len(found) == 15 and found[-1] > 0.95
        accuracies = metric(trained.log, self.name, "train:binary_classification_accuracy:epoch")
        losses = metric(trained.log, self.name, "train:binary_classification_cross_entropy:epoch")
        assert accuracies[-1] > accuracies[0] and losses[-1] < losses[0]
        assert metric(trained.log, self.name, "train:binary_classification_accuracy")
        assert metric(trained.log, self.name, "train:progress")[-1] == 100

    def test_two_hosts_learn_from_the_data_of_both(self, workshop):
        lines = csv(0).splitlines(keepends=True)
        halves = [b"".join(lines[:1000]), b"".join(lines[1000:])]
        bases, logs = on_two_hosts(workshop, self.hyperparameters, halves)
        losses = [
            metric(log, self.name, "train:binary_classification_cross_entropy:epoch")
            for log in logs
        ]
        assert losses[0] == losses[1] and losses[0][-1] < 0.5
        assert (bases[0] / "model" / "model_algo-1").exists()
        assert not (bases[1] / "model" / "model_algo-1").exists()

    @pytest.mark.parametrize(
        ("line", "told"),
        [
            (b"bob,1.2.3.400", "'1.2.3.400' is not an IPv4 address"),
            (b"bob,1.2.3", "'1.2.3' is not an IPv4 address"),
            (b",1.2.3.4", "the entity is missing"),
            (b"bob,1.2.3.4,x", "3 columns, where an entity and an IPv4 address belong"),
        ],
    )
    def test_a_wrong_line_is_named_by_file_and_place(self, workshop, line, told):
        data = b"ann,1.2.3.4\n\n" + line + b"\n"
        trained = workshop.train(workshop.opt_ml(self.hyperparameters, {"train": {"a.csv": data}}))
        assert trained.code == 1 and f"'a.csv', line 3: {told}" in trained.failure

    def test_an_empty_channel_fails(self, workshop):
        trained = workshop.train(workshop.opt_ml(self.hyperparameters, {"train": {"a.csv": b""}}))
        assert "No training data processed" in trained.failure

    def test_an_address_that_is_none_is_refused(self, endpoint):
        answer = endpoint.ask(b"user_0,abc", "text/csv")
        assert answer.status == 400 and b"'abc' is not an IPv4 address" in answer.body
