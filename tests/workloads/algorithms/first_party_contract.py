"""The contract of all algorithms, as the first-party ones keep it: their lists have other names."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from pathlib import Path
from typing import ClassVar

import numpy
from algorithm_contract import AlgorithmContract, Trained, Workshop

from clary.workloads.algorithms import catalogue
from clary.workloads.formats import csv_rows

REGISTRY = "382416733822.dkr.ecr.us-east-1.amazonaws.com"


def image(name: str) -> str:
    return f"{REGISTRY}/{name}:1"


def metric(log: str, name: str, metric_name: str) -> list[float]:
    """The values that the declared regular expression of a metric finds in a log."""
    declared = {one.name: one for one in catalogue.find(name).metrics}
    return [float(value) for value in re.findall(declared[metric_name].regex, log)]


def as_json(rows: Iterable[Iterable[float]]) -> bytes:
    return json.dumps({"instances": [{"features": list(row)} for row in rows]}).encode()


def train(
    workshop: Workshop,
    hyperparameters: dict[str, str],
    content_type: str = "text/csv",
    **channels: bytes,
) -> Trained:
    """Train on one file in each channel; the training must succeed."""
    files = {name: {"data": content} for name, content in channels.items()}
    trained = workshop.train(workshop.opt_ml(hyperparameters, files, content_type))
    assert trained.code == 0, trained.log + trained.failure
    return trained


def on_two_hosts(
    workshop: Workshop,
    hyperparameters: dict[str, str],
    halves: list[bytes],
    content_type: str = "text/csv",
) -> tuple[list[Path], list[str]]:
    """Train on two hosts, each with its half; the folders and the logs of both."""
    hosts = ["127.0.0.1", "127.0.0.2"]
    bases = []
    for at, host in enumerate(hosts):
        base = workshop.opt_ml(
            hyperparameters,
            {"train": {"data": halves[at]}},
            content_type,
            resourceconfig={"current_host": host, "hosts": hosts},
        )
        config = base / "input" / "config" / "inputdataconfig.json"
        sharded = config.read_text().replace("FullyReplicated", "ShardedByS3Key")
        config.write_text(sharded)
        bases.append(base)
    programs = [workshop.start(base, TRAINING_JOB_NAME=str(bases[0])) for base in bases]
    try:
        logs = [program.stdout.read() for program in programs]
        codes = [program.wait() for program in programs]
    finally:
        for program in programs:
            program.close()
    assert codes == [0, 0], logs
    return bases, logs


class FirstPartyContract(AlgorithmContract):
    """`list_name` is the key of the answers."""

    list_name: ClassVar[str] = "predictions"

    def test_csv_in_gives_json_out(self, endpoint):
        table = self.table()
        answer = endpoint.ask(csv_rows.write(self.features()), "text/csv", "application/json")
        assert (answer.status, answer.content_type) == (200, "application/json")
        predictions = answer.json()[self.list_name]
        assert len(predictions) == len(table) and self.right(predictions, table) > 0.9

    def test_json_lines_hold_one_prediction_a_line(self, endpoint):
        body = csv_rows.write(self.features()[:3])
        lines = endpoint.ask(body, "text/csv", "application/jsonlines").body.splitlines()
        whole = endpoint.ask(body, "text/csv", "application/json").json()[self.list_name]
        assert [json.loads(line) for line in lines] == whole

    def test_json_instances_give_the_same_as_csv(self, endpoint):
        rows = self.features()[:3].astype(numpy.float32).astype(float)
        plain = endpoint.ask(as_json(rows), "application/json").json()
        instances = [
            {"data": {"features": {"values": list(row)}}, "configuration": {}} for row in rows
        ]
        nested = endpoint.ask(json.dumps({"instances": instances}).encode(), "application/json")
        lines = "\n".join(json.dumps(one) for one in instances).encode()
        assert nested.json() == plain
        assert endpoint.ask(lines, "application/jsonlines").json() == plain
        assert endpoint.ask(csv_rows.write(rows), "text/csv").json() == plain

    def test_sparse_instances_give_the_same_as_dense(self, endpoint):
        row = self.features()[0].astype(numpy.float32).astype(float)
        row[1::2] = 0.0
        keys = numpy.flatnonzero(row)
        features = {
            "keys": keys.tolist(),
            "shape": [len(row)],
            "values": row[keys].tolist(),
        }
        body = json.dumps({"instances": [{"data": {"features": features}}]}).encode()
        sparse = endpoint.ask(body, "application/json")
        assert sparse.json() == endpoint.ask(as_json([row]), "application/json").json()

    def test_a_request_with_too_few_features_is_told(self, endpoint):
        answer = endpoint.ask(as_json([[1.0]]), "application/json")
        assert answer.status == 400
        width = self.features().shape[1]
        assert f"the rows have 1 features, the model was trained with feature_dim {width}" in (
            answer.body.decode()
        )

    def test_data_of_another_width_than_feature_dim_is_told(self, workshop):
        width = self.features().shape[1]
        hyperparameters = {**self.hyperparameters, "feature_dim": str(width + 7)}
        data = csv_rows.write(self.table())
        trained = workshop.train(workshop.opt_ml(hyperparameters, {"train": {"a.csv": data}}))
        assert trained.code == 1
        assert f"does not match the hyperparameter feature_dim ({width + 7})" in trained.failure

    def test_a_wrong_field_is_named_by_file_line_and_column(self, workshop):
        table = self.table()
        lines = csv_rows.write(table).splitlines()
        lines[2] = b"abc" + lines[2][lines[2].index(b",") :]
        base = workshop.opt_ml(self.hyperparameters, {"train": {"bad.csv": b"\n".join(lines)}})
        trained = workshop.train(base)
        assert trained.code == 1
        assert "'bad.csv', line 3, column 1: 'abc' is not a number" in trained.failure

    def test_a_short_row_is_named_by_file_and_line(self, workshop):
        lines = csv_rows.write(self.table()).splitlines()
        lines[1] = lines[1].rsplit(b",", 1)[0]
        base = workshop.opt_ml(self.hyperparameters, {"train": {"bad.csv": b"\n".join(lines)}})
        trained = workshop.train(base)
        width = self.table().shape[1]
        assert f"'bad.csv', line 2: {width - 1} columns, where the first line has {width}" in (
            trained.failure
        )

    def test_a_missing_value_is_named_by_file_line_and_column(self, workshop):
        table = self.table().astype(object)
        table[4, 1] = "nan"
        data = "\n".join(",".join(map(str, row)) for row in table).encode()
        trained = workshop.train(workshop.opt_ml(self.hyperparameters, {"train": {"b": data}}))
        assert "'b', line 5, column 2: 'nan' is not a finite number" in trained.failure

    def test_an_unknown_hyperparameter_has_sagemakers_words(self, workshop):
        base = workshop.opt_ml({**self.hyperparameters, "no_such": "1"}, {"train": {"a": b"1,2"}})
        text = "Additional properties are not allowed ('no_such' was unexpected)"
        assert text in workshop.train(base).failure
