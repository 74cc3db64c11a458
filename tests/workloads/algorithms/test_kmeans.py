"""K-means: the contract of all algorithms, and what is its own."""

from __future__ import annotations

import os
import threading

import numpy
import pytest
from algorithm_contract import SECONDS_MAX
from first_party_contract import FirstPartyContract, image, metric, on_two_hosts, train
from scipy.sparse import csr_matrix
from sklearn.cluster import KMeans
from sklearn.datasets import load_digits, load_iris

from clary.workloads.formats import csv_rows, recordio_protobuf


def mean_squared_distance(rows: numpy.ndarray, centers: numpy.ndarray) -> float:
    gaps = rows[:, None, :] - centers[None]
    return float((gaps**2).sum(axis=2).min(axis=1).mean())


class TestKMeans(FirstPartyContract):
    name = "kmeans"
    image = image("kmeans")
    hyperparameters = {"feature_dim": "4", "k": "3"}
    wrong_hyperparameter = ("k", "0", "'0' is not valid under any of the given schemas")
    takes_labels = False

    @staticmethod
    def table() -> numpy.ndarray:
        return load_iris().data

    def right(self, predictions: list[dict], table: numpy.ndarray) -> float:
        distances = numpy.array([one["distance_to_cluster"] for one in predictions])
        best = KMeans(3, n_init=10, random_state=0).fit(table).inertia_
        return float(best / (distances**2).sum())

    def test_digits_are_grouped_as_well_as_by_the_library(self, workshop):
        rows = load_digits().data
        hyperparameters = {"feature_dim": "64", "k": "10", "eval_metrics": '["msd", "ssd"]'}
        data = csv_rows.write(rows)
        trained = train(workshop, hyperparameters, "text/csv;label_size=0", train=data, test=data)
        direct = KMeans(10, n_init=10, random_state=0).fit(rows).inertia_ / len(rows)
        found = metric(trained.log, "kmeans", "test:msd")
        assert len(found) == 1 and found[0] < 1.02 * direct
        assert metric(trained.log, "kmeans", "test:ssd")[0] == pytest.approx(found[0] * len(rows))
        archive = numpy.load(trained.model / "model_algo-1")
        assert archive["centroids"].shape == (10, 64)
        assert mean_squared_distance(rows, archive["centroids"]) == pytest.approx(found[0])

    def test_a_label_column_is_left_out_if_the_content_type_says_so(self, workshop):
        rows = load_iris()
        table = numpy.column_stack([rows.target * 1000, rows.data])
        found = [
            train(workshop, self.hyperparameters, kind, train=csv_rows.write(data))
            for kind, data in (
                ("text/csv", table),
                ("text/csv;label_size=1", table),
                ("text/csv;label_size=0", rows.data),
            )
        ]
        losses = [metric(one.log, "kmeans", "train:msd") for one in found]
        assert losses[0] == losses[1] == losses[2]

    def test_sparse_records_give_the_same_centres_as_dense(self, workshop):
        rows = load_digits().data[:400].astype(numpy.float32)
        hyperparameters = {"feature_dim": "64", "k": "5"}
        losses = [
            metric(
                train(
                    workshop,
                    hyperparameters,
                    "application/x-recordio-protobuf",
                    train=recordio_protobuf.write_records(data),
                ).log,
                "kmeans",
                "train:msd",
            )
            for data in (rows, csr_matrix(rows))
        ]
        assert losses[0] == losses[1]

    def test_a_csv_answer_has_the_cluster_and_the_distance(self, endpoint):
        body = csv_rows.write(self.table()[:2])
        lines = endpoint.ask(body, "text/csv", "text/csv").body.decode().splitlines()
        whole = endpoint.ask(body, "text/csv").json()["predictions"]
        assert lines == [f"{one['closest_cluster']},{one['distance_to_cluster']}" for one in whole]

    def test_fewer_examples_than_centres_are_the_users_error(self, workshop):
        base = workshop.opt_ml({**self.hyperparameters, "k": "9"}, {"train": {"a": b"1,2,3,4\n"}})
        assert "k is 9, but there are only 1 training examples." in workshop.train(base).failure

    def test_two_hosts_find_the_centres_of_the_data_of_both(self, workshop):
        rows = load_digits().data
        halves = [csv_rows.write(rows[at::2]) for at in range(2)]
        bases, logs = on_two_hosts(workshop, {"feature_dim": "64", "k": "10"}, halves)
        direct = KMeans(10, n_init=10, random_state=0).fit(rows).inertia_ / len(rows)
        assert metric(logs[0], "kmeans", "train:msd")[0] < 1.02 * direct
        assert metric(logs[0], "kmeans", "train:msd") == metric(logs[1], "kmeans", "train:msd")
        assert (bases[0] / "model" / "model_algo-1").exists()
        assert not (bases[1] / "model" / "model_algo-1").exists()

    def test_line_ends_and_blank_lines_do_not_matter(self, workshop):
        plain = csv_rows.write(self.table())
        windows = plain.replace(b"\n", b"\r\n").strip()
        spaced = b"\n\n" + plain.replace(b"\n", b"\n\n", 5)
        losses = [
            metric(train(workshop, self.hyperparameters, train=data).log, "kmeans", "train:msd")
            for data in (plain, windows, spaced)
        ]
        assert losses[0] == losses[1] == losses[2]

    def test_several_files_and_folders_are_one_channel(self, workshop):
        rows = self.table()
        files = {"a.csv": csv_rows.write(rows[:70]), "b/c.csv": csv_rows.write(rows[70:])}
        trained = workshop.train(workshop.opt_ml(self.hyperparameters, {"train": files}))
        assert trained.code == 0 and "Read 150 examples of channel 'train'" in trained.log
        files["b/c.csv"] = b"1,2,3\n"
        failed = workshop.train(workshop.opt_ml(self.hyperparameters, {"train": files}))
        assert "does not match the hyperparameter feature_dim (4)" in failed.failure

    def test_pipe_mode_reads_the_first_epoch(self, workshop):
        base = workshop.opt_ml(self.hyperparameters, {"train": {}})
        config = base / "input" / "config" / "inputdataconfig.json"
        config.write_text(config.read_text().replace('"File"', '"Pipe"'))
        pipe = base / "input" / "data" / "train_0"
        os.mkfifo(pipe)
        data = csv_rows.write(self.table())
        writer = threading.Thread(target=pipe.write_bytes, args=(data,))
        writer.start()
        trained = workshop.train(base)
        writer.join(timeout=SECONDS_MAX)
        assert trained.code == 0 and "Read 150 examples of channel 'train'" in trained.log

    def test_half_life_is_told_to_have_no_effect(self, workshop):
        hyperparameters = {**self.hyperparameters, "half_life_time_size": "100"}
        trained = train(workshop, hyperparameters, train=csv_rows.write(self.table()))
        assert "half_life_time_size=100 has no effect here" in trained.log
