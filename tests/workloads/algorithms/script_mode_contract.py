"""The contract of all algorithms, as JumpStart's script-mode ones keep it: CSV in, JSON out."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import ClassVar

import numpy
import pytest
from algorithm_contract import AlgorithmContract, Trained, Workshop

from clary.workloads.algorithms import catalogue
from clary.workloads.formats import csv_rows

LIGHTGBM_SCRIPT = (
    "s3://jumpstart-cache-prod-us-east-1/source-directory-tarballs/lightgbm/transfer_learning"
)


def train(
    workshop: Workshop,
    hyperparameters: dict[str, str],
    channels: dict[str, dict[str, bytes]],
    content_type: str = "text/csv",
) -> Trained:
    """The training must succeed."""
    trained = workshop.train(workshop.opt_ml(hyperparameters, channels, content_type))
    assert trained.code == 0, trained.log + trained.failure
    return trained


def metric(log: str, name: str, metric_name: str) -> list[float]:
    """The values that the declared regular expression of a metric finds in a log."""
    declared = {one.name: one for one in catalogue.find(name).metrics}
    return [float(value) for value in re.findall(declared[metric_name].regex, log)]


def csv(table: numpy.ndarray) -> dict[str, bytes]:
    return {"data.csv": csv_rows.write(table)}


SPILLED = """
import sys
from clary.workloads.algorithms import catalogue, tables, training
tables.SPILLED_BYTES_MIN = 0
sys.exit(training.run(catalogue.find(sys.argv[1])))
"""


def train_spilled(workshop: Workshop, base: Path) -> str:
    """Train as if the data were too large to be in memory twice; the log."""
    path = base / "spilled.py"
    path.write_text(SPILLED)
    program = workshop.parent.run(
        [str(path), workshop.name], base, is_module=False, SAGEMAKER_BASE_DIR=str(base)
    )
    try:
        log = program.stdout.read()
        assert program.wait() == 0, log
    finally:
        program.close()
    return log


class ScriptModeContract(AlgorithmContract):
    """The toy set is a binary classification, its labels 0 and 1."""

    image: ClassVar[str]

    @pytest.fixture(scope="class")
    @classmethod
    def trained(cls, workshop: Workshop) -> Trained:
        data = {"data.csv": csv_rows.write(cls.table())}
        return workshop.train(workshop.opt_ml(cls.hyperparameters, {"training": data}))

    def right(self, predictions: list[list[float]], table: numpy.ndarray) -> float:
        return float((numpy.argmax(predictions, axis=1) == table[:, 0]).mean())

    def test_training_takes_recordio_protobuf(self, workshop):
        """It does not, and says so, as its scripts read CSV only."""
        base = workshop.opt_ml(
            self.hyperparameters, {"training": {"a": b"x"}}, "application/x-recordio-protobuf"
        )
        trained = workshop.train(base)
        assert trained.code == 1 and "Supported content types: text/csv" in trained.failure

    def test_csv_in_gives_json_out(self, endpoint):
        table = self.table()
        answer = endpoint.ask(csv_rows.write(self.features()), "text/csv", "application/json")
        assert (answer.status, answer.content_type) == (200, "application/json")
        assert list(answer.json()) == ["probabilities"]
        found = answer.json()["probabilities"]
        assert len(found) == len(table) and self.right(found, table) > 0.9
        assert numpy.allclose(numpy.sum(found, axis=1), 1)

    def test_verbose_json_has_the_labels_and_the_predicted_one(self, endpoint):
        body = csv_rows.write(self.features()[:4])
        found = endpoint.ask(body, "text/csv", "application/json;verbose").json()
        assert list(found) == ["probabilities", "labels", "predicted_label"]
        assert found["labels"] == [0, 1]
        assert found["predicted_label"] == [int(one[1] > one[0]) for one in found["probabilities"]]

    def test_json_lines_hold_one_prediction_a_line(self, endpoint):
        """There are none: JumpStart's scripts answer in JSON only."""
        body = csv_rows.write(self.features()[:1])
        assert endpoint.ask(body, "text/csv", "application/jsonlines").status == 406

    def test_recordio_in_gives_the_same_as_csv(self, endpoint):
        assert endpoint.ask(b"x", "application/x-recordio-protobuf").status == 415

    def test_recordio_out_has_one_record_a_row(self, endpoint):
        body = csv_rows.write(self.features()[:1])
        assert endpoint.ask(body, "text/csv", "application/x-recordio-protobuf").status == 406

    def test_a_request_of_another_width_is_told(self, endpoint):
        width = self.features().shape[1]
        answer = endpoint.ask(b"1,2\n", "text/csv")
        text = f"the rows have 2 features, the model was trained with {width}"
        assert answer.status == 400 and text in answer.body.decode()

    def test_a_missing_channel_fails(self, workshop):
        trained = workshop.train(workshop.opt_ml(self.hyperparameters, {}))
        assert trained.code == 1 and "Missing required channel: training" in trained.failure

    def test_an_empty_channel_fails(self, workshop):
        base = workshop.opt_ml(self.hyperparameters, {"training": {"a.csv": b""}})
        assert "No training data found in channel 'training'" in workshop.train(base).failure

    def test_a_categorical_column_beyond_the_data_fails(self, workshop):
        files = {**csv(self.table()), "categorical_index.json": b'{"cat_index_list": [999]}'}
        trained = workshop.train(workshop.opt_ml(self.hyperparameters, {"training": files}))
        assert trained.code == 1 and "names column 999" in trained.failure

    def test_a_categorical_index_that_names_the_label_fails(self, workshop):
        files = {**csv(self.table()), "categorical_index.json": b'{"cat_index_list": [0]}'}
        trained = workshop.train(workshop.opt_ml(self.hyperparameters, {"training": files}))
        assert trained.code == 1 and "column 0 is the label" in trained.failure

    def test_the_defaults_are_the_documented_ones(self):
        declared = catalogue.find(self.name).hyperparameters
        names = {one.name for one in declared.declared}
        assert names == set(declared.validate({}))


def document(path: Path) -> dict:
    return json.loads((path / "model_info.json").read_text())
