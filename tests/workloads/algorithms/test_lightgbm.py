"""LightGBM: the contract of all algorithms, and what is its own."""

from __future__ import annotations

import numpy
import pytest
from first_party_contract import image
from script_mode_contract import (
    LIGHTGBM_SCRIPT,
    ScriptModeContract,
    csv,
    document,
    metric,
    train,
    train_spilled,
)
from sklearn.datasets import load_breast_cancer, load_diabetes, load_wine
from sklearn.metrics import log_loss, root_mean_squared_error

from clary.workloads.formats import csv_rows

DIRECT = """
import sys, lightgbm, numpy
data = numpy.load(sys.argv[1])
parameters = dict(objective=sys.argv[3], metric=sys.argv[4], learning_rate=0.1, num_leaves=64,
    feature_fraction=0.9, bagging_fraction=0.9, bagging_freq=1, max_depth=6, min_data_in_leaf=3,
    verbosity=-1, seed=200, num_threads=1)
train = lightgbm.Dataset(data["x"], data["y"])
valid = lightgbm.Dataset(data["vx"], data["vy"], reference=train)
booster = lightgbm.train(parameters, train, 100, [valid],
    callbacks=[lightgbm.early_stopping(10, verbose=False)])
numpy.save(sys.argv[2], booster.predict(data["vx"]))
"""


def halves(data) -> tuple[numpy.ndarray, numpy.ndarray]:
    table = numpy.column_stack([data.target, data.data])
    table = table[numpy.random.default_rng(0).permutation(len(table))]
    return table[::2], table[1::2]


class TestLightGbm(ScriptModeContract):
    name = "lightgbm"
    image = image("lightgbm")
    hyperparameters = {"num_boost_round": "30"}
    wrong_hyperparameter = ("learning_rate", "2", "value 2 not in range (0, 1)")

    @staticmethod
    def table() -> numpy.ndarray:
        data = load_breast_cancer()
        return numpy.column_stack([data.target, data.data])

    def direct(self, workshop, tmp_path, one, other, objective: str, name: str) -> numpy.ndarray:
        """The predictions of the library called by itself, in the same environment."""
        arrays = {"x": one[:, 1:], "y": one[:, 0], "vx": other[:, 1:], "vy": other[:, 0]}
        numpy.savez(tmp_path / "data.npz", **arrays)
        (tmp_path / "direct.py").write_text(DIRECT)
        argv = [str(tmp_path / name) for name in ("direct.py", "data.npz", "found.npy")]
        program = workshop.parent.run([*argv, objective, name], tmp_path, is_module=False)
        try:
            log = program.stdout.read()
            assert program.wait() == 0, log
        finally:
            program.close()
        return numpy.load(tmp_path / "found.npy")

    def test_breast_cancer_is_told_apart_as_well_as_by_the_library(self, workshop, tmp_path):
        one, other = halves(load_breast_cancer())
        trained = train(workshop, {}, {"train": csv(one), "validation": csv(other)})
        found = min(metric(trained.log, "lightgbm", "binary_logloss"))
        direct = self.direct(workshop, tmp_path, one, other, "binary", "binary_logloss")
        assert found == pytest.approx(log_loss(other[:, 0], direct), rel=0.05)

    def test_diabetes_is_a_regression_and_as_good_as_by_the_library(self, workshop, tmp_path):
        one, other = halves(load_diabetes())
        trained = train(workshop, {}, {"training": csv(one), "validation": csv(other)})
        found = min(metric(trained.log, "lightgbm", "rmse"))
        direct = self.direct(workshop, tmp_path, one, other, "regression", "rmse")
        assert found == pytest.approx(root_mean_squared_error(other[:, 0], direct), rel=0.03)
        endpoint = workshop.serve(trained.model)
        try:
            answer = endpoint.ask(csv_rows.write(other[:, 1:]), "text/csv").json()
        finally:
            endpoint.close()
        assert list(answer) == ["prediction"]
        error = root_mean_squared_error(other[:, 0], answer["prediction"])
        assert error == pytest.approx(found, abs=1e-4)  # of the best round, not the last

    def test_several_classes_keep_their_own_labels(self, workshop):
        data = load_wine()
        table = numpy.column_stack([data.target * 10 + 5, data.data])
        trained = train(workshop, {"num_boost_round": "10"}, {"training": csv(table)})
        assert document(trained.model)["classes"] == [5, 15, 25]
        assert metric(trained.log, "lightgbm", "multi_logloss")[-1] < 0.5
        endpoint = workshop.serve(trained.model)
        try:
            body = csv_rows.write(data.data)
            answer = endpoint.ask(body, "text/csv", "application/json;verbose").json()
        finally:
            endpoint.close()
        assert numpy.mean(numpy.array(answer["predicted_label"]) == table[:, 0]) > 0.95

    def test_one_channel_may_hold_a_folder_for_each(self, workshop):
        one, other = halves(load_breast_cancer())
        files = {
            "train/a.csv": csv_rows.write(one[:100]),
            "train/b.csv": csv_rows.write(one[100:]),
            "train/categorical_index.json": b'{"cat_index_list": []}',
            "validation/data.csv": csv_rows.write(other),
        }
        trained = train(workshop, self.hyperparameters, {"train": files})
        assert f"on {len(one)} rows and 30 features, validate on {len(other)} rows" in trained.log

    def test_a_fifth_validates_where_there_is_no_validation_data(self, trained):
        assert "on 455 rows and 30 features, validate on 114 rows" in trained.log

    def test_a_categorical_column_is_split_by_its_values(self, workshop):
        random = numpy.random.default_rng(0)
        values = random.integers(40, size=2000)
        marked = random.permutation(40)[:20]
        table = numpy.column_stack([numpy.isin(values, marked), values]).astype(float)
        hyperparameters = {"num_boost_round": "3", "metric": "auc"}
        files = {**csv(table), "categorical_index.json": b'{"cat_index_list": [1]}'}
        log = train(workshop, hyperparameters, {"training": files}).log
        assert metric(log, "lightgbm", "auc")[0] == 1.0
        plain = train(workshop, hyperparameters, {"training": csv(table)}).log
        assert metric(plain, "lightgbm", "auc")[0] < 1.0

    def test_missing_values_are_taken(self, workshop):
        rows = csv_rows.write(self.table()).replace(b",17.99,", b",,", 1)
        trained = train(workshop, self.hyperparameters, {"training": {"a.csv": rows}})
        endpoint = workshop.serve(trained.model)
        try:
            body = b",".join([b"", *[b"1.5"] * 29])
            assert endpoint.ask(body, "text/csv").status == 200
        finally:
            endpoint.close()

    def test_jumpstarts_script_says_what_the_labels_are(self, workshop):
        hyperparameters = {
            **self.hyperparameters,
            "sagemaker_program": "transfer_learning.py",
            "sagemaker_submit_directory": f"{LIGHTGBM_SCRIPT}/regression/v1/sourcedir.tar.gz",
        }
        trained = train(workshop, hyperparameters, {"training": csv(self.table())})
        assert document(trained.model)["problem"] == "regression"

    @pytest.mark.parametrize(
        ("hyperparameters", "text"),
        [
            ({"metric": "rmsle"}, "metric: rmsle is not in ['auto', 'rmse'"),
            ({"metric": "multi_error"}, "does not fit a binary problem"),
            ({"num_leaves": "1"}, "num_leaves: value 1 not in range (1, 131072]"),
            ({"is_unbalance": "True", "scale_pos_weight": "2"}, "not both"),
        ],
    )
    def test_what_cannot_be_is_the_users_error(self, workshop, hyperparameters, text):
        base = workshop.opt_ml(hyperparameters, {"training": csv(self.table())})
        trained = workshop.train(base)
        assert trained.code == 1 and text in trained.failure

    @pytest.mark.parametrize("boosting", ["rf", "dart", "goss"])
    def test_all_ways_of_boosting_train(self, workshop, boosting):
        hyperparameters = {"num_boost_round": "5", "boosting": boosting, "is_unbalance": "True"}
        trained = train(workshop, hyperparameters, {"training": csv(self.table())})
        assert metric(trained.log, "lightgbm", "binary_logloss")

    def test_a_text_where_a_number_belongs_is_told_with_its_line(self, workshop):
        lines = csv_rows.write(self.table()).splitlines()
        lines[7] = b"abc" + lines[7][lines[7].index(b",") :]
        base = workshop.opt_ml({}, {"training": {"bad.csv": b"\n".join(lines)}})
        failure = workshop.train(base).failure
        assert "Failed to load csv data with exception" in failure and "bad.csv" in failure

    def test_data_on_disk_train_the_same_model(self, workshop):
        files = {"training": csv(self.table())}
        hyperparameters = {"num_boost_round": "5", "metric": "auc"}
        plain = train(workshop, hyperparameters, files)
        log = train_spilled(workshop, workshop.opt_ml(hyperparameters, files))
        found = metric(log, "lightgbm", "auc")
        assert found == pytest.approx(metric(plain.log, "lightgbm", "auc"), abs=0.01)
        assert len(found) == len(metric(plain.log, "lightgbm", "auc"))

    def test_two_hosts_train_one_model_of_the_rows_of_both(self, workshop):
        one, other = halves(load_breast_cancer())
        hosts = ["127.0.0.1", "127.0.0.2"]
        bases = []
        for at, host in enumerate(hosts):
            base = workshop.opt_ml(
                {"num_boost_round": "20"},
                {"train": csv(one[at::2]), "validation": csv(other)},
                resourceconfig={"current_host": host, "hosts": hosts},
            )
            config = base / "input" / "config" / "inputdataconfig.json"
            sharded = config.read_text().replace("FullyReplicated", "ShardedByS3Key")
            config.write_text(sharded)
            bases.append(base)
        name = str(bases[0])
        programs = [workshop.start(base, TRAINING_JOB_NAME=name) for base in bases]
        try:
            logs = [program.stdout.read() for program in programs]
            codes = [program.wait() for program in programs]
        finally:
            for program in programs:
                program.close()
        failures = [(base / "output" / "failure") for base in bases]
        told = [path.read_text() if path.exists() else "" for path in failures]
        assert codes == [0, 0], told
        assert metric(logs[0], "lightgbm", "binary_logloss")[-1] < 0.3
        assert (bases[0] / "model" / "model.pkl").exists()
        assert not (bases[1] / "model" / "model.pkl").exists()
