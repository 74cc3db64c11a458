"""LDA: the contract of all algorithms, and what is its own."""

from __future__ import annotations

import numpy
import pytest
from first_party_contract import FirstPartyContract, image, metric, train
from scipy.sparse import csr_matrix
from sklearn.datasets import load_digits
from sklearn.decomposition import LatentDirichletAllocation

from clary.workloads.formats import csv_rows, recordio_protobuf


def corpus(documents: int = 400, words: int = 20, seed: int = 0) -> tuple:
    """Documents of four topics, each with a fourth of the words: (counts, mixtures, topics)."""
    random = numpy.random.default_rng(seed)
    topics = numpy.full((4, words), 0.01)
    for at in range(4):
        topics[at, at * words // 4 : (at + 1) * words // 4] = 1.0
    topics /= topics.sum(axis=1, keepdims=True)
    mixtures = random.dirichlet(numpy.full(4, 0.25), size=documents)
    counts = numpy.stack([random.multinomial(60, one @ topics) for one in mixtures])
    return counts.astype(float), mixtures, topics


class TestLda(FirstPartyContract):
    name = "lda"
    image = image("lda")
    hyperparameters = {"num_topics": "4", "feature_dim": "20", "mini_batch_size": "400"}
    wrong_hyperparameter = ("alpha0", "0", "'0' is not valid under any of the given schemas")
    takes_labels = False

    @staticmethod
    def table() -> numpy.ndarray:
        return corpus()[0]

    def right(self, predictions: list[dict], table: numpy.ndarray) -> float:
        """How close the mixtures are to the true ones, topics in their best order."""
        found = numpy.array([one["topic_mixture"] for one in predictions])
        true = corpus()[1]
        order = numpy.argmax(numpy.corrcoef(found.T, true.T)[:4, 4:], axis=1)
        assert sorted(order) == [0, 1, 2, 3]
        return 1 - float(numpy.abs(found - true[:, order]).mean())

    def test_the_topics_of_a_made_corpus_are_found(self, trained):
        beta = numpy.load(trained.model / "model_algo-1")["beta"]
        true = corpus()[2]
        distances = numpy.abs(beta[:, None] - true[None]).sum(axis=2) / 2
        assert sorted(distances.argmin(axis=1)) == [0, 1, 2, 3]
        assert distances.min(axis=1).max() < 0.1
        assert numpy.load(trained.model / "model_algo-1")["alpha"].sum() == pytest.approx(1.0)

    def test_digits_are_explained_nearly_as_well_as_by_the_library(self, workshop):
        rows = load_digits().data
        one, other = csr_matrix(rows[::2]), csr_matrix(rows[1::2])
        hyperparameters = {"num_topics": "8", "feature_dim": "64", "mini_batch_size": "900"}
        trained = train(
            workshop,
            hyperparameters,
            "application/x-recordio-protobuf",
            train=recordio_protobuf.write_records(one.astype(numpy.float32)),
            test=recordio_protobuf.write_records(other.astype(numpy.float32)),
        )
        found = metric(trained.log, "lda", "test:pwll")
        direct = LatentDirichletAllocation(8, max_iter=5, random_state=0).fit(one)
        topics = direct.components_ / direct.components_.sum(axis=1, keepdims=True)
        likely = direct.transform(other) @ topics
        counts = other.toarray()
        pwll = (counts * numpy.log(likely)).sum() / counts.sum()
        plain = counts.sum(axis=0) / counts.sum()
        unmixed = (counts * numpy.log(numpy.maximum(plain, 1e-10))).sum() / counts.sum()
        assert len(found) == 1
        # Most of what the library's topics gain over a single one.
        assert found[0] > unmixed + 0.75 * (pwll - unmixed)

    def test_a_csv_answer_is_the_mixture(self, endpoint):
        body = csv_rows.write(self.table()[:2])
        lines = endpoint.ask(body, "text/csv", "text/csv").body.decode().splitlines()
        whole = endpoint.ask(body, "text/csv").json()["predictions"]
        assert lines == [",".join(map(str, one["topic_mixture"])) for one in whole]
        assert all(sum(one["topic_mixture"]) == pytest.approx(1.0) for one in whole)

    def test_negative_counts_are_the_users_error(self, workshop):
        data = csv_rows.write(self.table() - 1)
        trained = workshop.train(workshop.opt_ml(self.hyperparameters, {"train": {"a": data}}))
        assert "The word counts of channel 'train' must not be negative" in trained.failure

    def test_documents_of_one_word_are_the_users_error(self, workshop):
        data = csv_rows.write(numpy.eye(20))
        trained = workshop.train(workshop.opt_ml(self.hyperparameters, {"train": {"a": data}}))
        assert "No document of the channel 'train' has three words" in trained.failure
