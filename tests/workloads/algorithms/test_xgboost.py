"""XGBoost: the contract of all algorithms, and what is its own."""

from __future__ import annotations

import gzip
import json
import os
import re
import signal
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path

import numpy
import pytest
from algorithm_contract import SECONDS_MAX, AlgorithmContract, Trained, WarmParent, Workshop
from pyarrow import parquet
from pyarrow import table as arrow_table
from script_mode_contract import train_spilled
from sklearn.datasets import load_breast_cancer, load_iris

from clary.workloads.algorithms.xgboost import ALGORITHM
from clary.workloads.formats import csv_rows

REPOSITORY = "246618743249.dkr.ecr.us-west-2.amazonaws.com/sagemaker-xgboost"
BINARY = {"objective": "binary:logistic", "num_round": "10", "max_depth": "4"}

# The library called directly, with the same parameters, on the same files.
DIRECT = """
import json, sys
import numpy, xgboost
from sklearn.metrics import roc_auc_score
train, test = (numpy.loadtxt(name, delimiter=",", dtype=numpy.float32) for name in sys.argv[1:3])
parameters = {"objective": "binary:logistic", "max_depth": 4, "nthread": 2}
matrix = xgboost.DMatrix(train[:, 1:], label=train[:, 0])
booster = xgboost.train(parameters, matrix, 10)
scores = booster.predict(xgboost.DMatrix(test[:, 1:]))
print(json.dumps([float(roc_auc_score(test[:, 0], scores)), scores.tolist()]))
"""


# A pickle as releases before 1.3 wrote it: the old binary model in the state of a Booster.
OLD_PICKLE = """
import pickle, sys
import xgboost
booster = xgboost.Booster(model_file=sys.argv[1])
raw = booster.save_raw("deprecated")
xgboost.Booster.__getstate__ = lambda self: {"handle": raw, "feature_names": None}
pickle.dump(booster, open(sys.argv[2], "wb"))
"""


def cancer() -> numpy.ndarray:
    features, labels = load_breast_cancer(return_X_y=True)
    return numpy.column_stack([labels, features])


def iris() -> numpy.ndarray:
    features, labels = load_iris(return_X_y=True)
    return numpy.column_stack([labels, features])


def metrics(log: str, name: str) -> list[float]:
    return [float(value) for value in re.findall(rf"\t{name}:(\S+)", log)]


class XGBoostContract(AlgorithmContract):
    name = "xgboost"
    hyperparameters = BINARY
    wrong_hyperparameter = ("eta", "2", "Hyperparameter eta: value 2 not in range [0, 1]")

    @staticmethod
    def table() -> numpy.ndarray:
        return cancer()

    def right(self, predictions: list[dict], table: numpy.ndarray) -> float:
        scores = numpy.array([one["score"] for one in predictions])
        return float(((scores > 0.5) == table[:, 0]).mean())


class TestXGBoost3(XGBoostContract):
    image = f"{REPOSITORY}:3.0-5"


class TestXGBoost1(XGBoostContract):
    image = f"{REPOSITORY}:1.7-1"

    def test_a_pickle_of_an_old_release_is_served(self, workshop, trained, endpoint, tmp_path):
        python = str(workshop.prefix / "bin" / "python")
        source = str(trained.model / "xgboost-model")
        target = str(tmp_path / "xgboost-model")
        subprocess.run(
            [python, "-W", "ignore", "-c", OLD_PICKLE, source, target],
            check=True,
            timeout=SECONDS_MAX,
        )
        body = csv_rows.write(self.features()[:5])
        old = workshop.serve(tmp_path)
        try:
            assert old.ask(body, "text/csv").body == endpoint.ask(body, "text/csv").body
        finally:
            old.close()


@pytest.fixture(scope="module")
def workshop(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Workshop]:
    parent = WarmParent(f"{REPOSITORY}:3.0-5")
    yield Workshop("xgboost", parent, tmp_path_factory.mktemp("xgboost"))
    parent.close()


def train(workshop: Workshop, hyperparameters: dict[str, str], **channels: bytes) -> Trained:
    files = {name: {"data.csv": content} for name, content in channels.items()}
    return workshop.train(workshop.opt_ml(hyperparameters, files))


def ask(workshop: Workshop, trained: Trained, body: bytes, kind: str, accept: str, **env: str):
    endpoint = workshop.serve(trained.model, **env)
    try:
        return endpoint.ask(body, kind, accept)
    finally:
        endpoint.close()


@pytest.fixture(scope="module")
def binary(workshop: Workshop) -> Trained:
    return train(workshop, BINARY, train=csv_rows.write(cancer()[:400]))


def test_the_model_equals_that_of_the_library_called_directly(workshop, binary, tmp_path):
    table = cancer()
    paths = [tmp_path / "train.csv", tmp_path / "test.csv"]
    for path, rows in zip(paths, (table[:400], table[400:]), strict=True):
        path.write_bytes(csv_rows.write(rows))
    python = str(workshop.prefix / "bin" / "python")
    direct = subprocess.run(
        [python, "-c", DIRECT, *map(str, paths)],
        capture_output=True,
        check=True,
        timeout=SECONDS_MAX,
    )
    auc, scores = json.loads(direct.stdout)
    body = csv_rows.write(table[400:, 1:])
    answer = ask(workshop, binary, body, "text/csv", "application/json")
    ours = [one["score"] for one in answer.json()["predictions"]]
    assert auc > 0.98
    assert ours == pytest.approx(scores, abs=1e-6)


def test_each_round_prints_one_line_that_the_metric_definitions_match(workshop):
    rows = csv_rows.write(cancer())
    hyperparameters = {**BINARY, "num_round": "3", "eval_metric": "auc,logloss"}
    trained = train(workshop, hyperparameters, train=rows, validation=rows)
    lines = [line for line in trained.log.splitlines() if line.startswith("[0]")]
    assert re.fullmatch(
        r"\[0\]\ttrain-auc:0\.\d{5}\ttrain-logloss:0\.\d{5}"
        r"\tvalidation-auc:0\.\d{5}\tvalidation-logloss:0\.\d{5}",
        lines[0],
    )
    regex = {one["Name"]: one["Regex"] for one in ALGORITHM.metric_definitions()}
    match = re.search(regex["validation:auc"], lines[0].replace("\t", "#011"))
    assert match and match[1] == re.search(r"validation-auc:(\S+)", lines[0])[1]


def test_computed_metrics_are_reported_beside_the_librarys_own(workshop):
    rows = csv_rows.write(cancer())
    names = "accuracy,balanced_accuracy,f1,f1_macro,precision,recall,r2,mse,error"
    trained = train(workshop, {**BINARY, "eval_metric": names}, train=rows)
    assert trained.code == 0, trained.log
    accuracy, error = metrics(trained.log, "train-accuracy"), metrics(trained.log, "train-error")
    assert len(accuracy) == 10
    assert accuracy == pytest.approx([1 - one for one in error], abs=2e-5)
    assert metrics(trained.log, "train-f1")[-1] > 0.95


def test_early_stopping_keeps_the_best_round(workshop):
    table = numpy.random.default_rng(1).normal(size=(200, 5))
    table[:, 0] = table[:, 0] > 0  # labels that nothing can predict
    rows = csv_rows.write(table[:100])
    hyperparameters = {**BINARY, "num_round": "200", "early_stopping_rounds": "3"}
    hyperparameters["eval_metric"] = "logloss"
    trained = train(workshop, hyperparameters, train=rows, validation=csv_rows.write(table[100:]))
    scores = metrics(trained.log, "validation-logloss")
    assert trained.code == 0 and len(scores) < 50
    assert len(scores) == scores.index(min(scores)) + 4


def test_a_tuning_jobs_metric_is_reported(workshop):
    rows = csv_rows.write(cancer())
    hyperparameters = {**BINARY, "_tuning_objective_metric": "validation:auc"}
    trained = train(workshop, hyperparameters, train=rows, validation=rows)
    assert len(metrics(trained.log, "validation-auc")) == 10


def test_cross_validation_leaves_one_model_for_each_fold(workshop):
    hyperparameters = {**BINARY, "num_round": "3", "_kfold": "3", "eval_metric": "auc"}
    trained = train(workshop, hyperparameters, train=csv_rows.write(cancer()))
    assert trained.code == 0, trained.log
    assert sorted(path.name for path in trained.model.iterdir()) == [
        "xgboost-model-0",
        "xgboost-model-1",
        "xgboost-model-2",
    ]
    values = metrics(trained.log, "validation-auc")
    assert len(values) == 3 * 3 + 1
    assert values[-1] == pytest.approx(numpy.mean(values[2:9:3]), abs=2e-5)
    held_out = numpy.loadtxt(trained.base / "output" / "data" / "predictions.csv", delimiter=",")
    assert held_out.shape == (569, 3) and (held_out[:, 0] == held_out[:, 2]).mean() > 0.9
    body = csv_rows.write(cancer()[:2, 1:])
    answer = ask(workshop, trained, body, "text/csv", "application/json")
    assert [one["score"] < 0.5 for one in answer.json()["predictions"]] == [True, True]


def test_five_checkpoints_are_kept_and_training_goes_on_from_the_last(workshop):
    rows = {"data.csv": csv_rows.write(cancer())}
    configured = {"checkpointconfig": {"LocalPath": "/opt/ml/checkpoints"}}
    base = workshop.opt_ml({**BINARY, "num_round": "7"}, {"train": rows}, **configured)
    first = workshop.train(base)
    names = sorted(path.name for path in (base / "checkpoints").iterdir())
    assert names == [f"xgboost-checkpoint.{number}" for number in range(2, 7)]
    (base / "input" / "config" / "hyperparameters.json").write_text(json.dumps(BINARY))
    second = workshop.train(base)
    assert "Resuming from iteration 7" in second.log
    assert re.findall(r"^\[(\d+)\]\t", second.log, re.M) == ["7", "8", "9"]
    whole = train(workshop, BINARY, train=rows["data.csv"])
    lines = [line for line in whole.log.splitlines() if line.startswith("[")]
    assert next(line for line in first.log.splitlines() if line.startswith("[6]")) in lines
    assert next(line for line in second.log.splitlines() if line.startswith("[9]")) in lines


def test_a_checkpoint_that_was_cut_short_is_passed_over(workshop):
    rows = {"data.csv": csv_rows.write(cancer())}
    configured = {"checkpointconfig": {"LocalPath": "/opt/ml/checkpoints"}}
    base = workshop.opt_ml({**BINARY, "num_round": "3"}, {"train": rows}, **configured)
    workshop.train(base)
    (base / "checkpoints" / "xgboost-checkpoint.2").write_bytes(b"{")
    assert "Resuming from iteration 2" in workshop.train(base).log


@pytest.mark.parametrize("saves", ["true", "false"])
def test_the_model_is_saved_on_termination_only_if_asked(workshop, saves):
    hyperparameters = {**BINARY, "num_round": "100000", "save_model_on_termination": saves}
    base = workshop.opt_ml(hyperparameters, {"train": {"a.csv": csv_rows.write(cancer())}})
    process = workshop.start(base)
    try:
        for line in process.stdout:
            if line.startswith("[20]"):
                break
        os.kill(process.pid, signal.SIGTERM)
        process.stdout.read()
        assert process.wait() == 0
    finally:
        process.close()
    assert (base / "model" / "xgboost-model").exists() == (saves == "true")


def test_several_files_in_folders_are_one_channel_without_the_hidden_ones(workshop):
    table = cancer()
    files = {
        "a.csv": csv_rows.write(table[:200]),
        "one/two/b.csv": csv_rows.write(table[200:]),
        "_SUCCESS": b"",
        ".hidden": b"not,a,number",
        "one/_temporary/x.csv": b"not,a,number",
    }
    trained = workshop.train(workshop.opt_ml(BINARY, {"train": files}))
    assert "Train matrix has 569 rows and 30 columns" in trained.log


def test_folders_that_are_too_deep_are_refused(workshop):
    files = {"1/2/3/4.csv": csv_rows.write(cancer())}
    trained = workshop.train(workshop.opt_ml(BINARY, {"train": files}))
    assert trained.code == 1 and "Folder depth exceed the limit" in trained.failure


def test_weights_in_the_second_column_change_the_model(workshop):
    table = cancer()
    weighted = numpy.column_stack([table[:, :1], table[:, :1] * 100 + 0.001, table[:, 1:]])
    hyperparameters = {**BINARY, "csv_weights": "1", "num_round": "1", "eval_metric": "error"}
    trained = train(workshop, hyperparameters, train=csv_rows.write(weighted))
    assert "569 rows and 30 columns" in trained.log
    assert metrics(trained.log, "train-error")[0] < 1e-3  # only the weighted class counts


def test_libsvm_and_parquet_train_the_same_model_as_csv(workshop, tmp_path):
    table = cancer()
    lines = [
        f"{row[0]:g} " + " ".join(f"{at}:{value!r}" for at, value in enumerate(row[1:].tolist()))
        for row in table
    ]
    path = tmp_path / "a.parquet"
    parquet.write_table(arrow_table({str(at): table[:, at] for at in range(31)}), path)
    hyperparameters = {**BINARY, "eval_metric": "logloss"}
    logs = [
        workshop.train(
            workshop.opt_ml(hyperparameters, {"train": {"a": data}}, content_type=content_type)
        ).log
        for content_type, data in (
            ("text/csv", csv_rows.write(table)),
            ("text/libsvm", "\n".join(lines).encode()),
            ("application/x-parquet", path.read_bytes()),
        )
    ]
    scores = [metrics(log, "train-logloss") for log in logs]
    assert scores[0] and scores[0] == scores[1] == scores[2]


def test_data_on_disk_train_the_same_model(workshop):
    hyperparameters = {**BINARY, "eval_metric": "logloss"}
    channels = {"train": {"a.csv": csv_rows.write(cancer())}}
    plain = workshop.train(workshop.opt_ml(hyperparameters, channels))
    log = train_spilled(workshop, workshop.opt_ml(hyperparameters, channels))
    found = metrics(log, "train-logloss")
    assert found == pytest.approx(metrics(plain.log, "train-logloss"), rel=0.02)


def test_pipe_mode_reads_the_first_epoch(workshop):
    base = workshop.opt_ml(BINARY, {"train": {}})
    config = base / "input" / "config" / "inputdataconfig.json"
    described = json.loads(config.read_text())
    described["train"]["TrainingInputMode"] = "Pipe"
    config.write_text(json.dumps(described))
    pipe = base / "input" / "data" / "train_0"
    os.mkfifo(pipe)
    writer = threading.Thread(target=pipe.write_bytes, args=(csv_rows.write(cancer()),))
    writer.start()
    trained = workshop.train(base)
    writer.join(timeout=SECONDS_MAX)
    assert "Train matrix has 569 rows" in trained.log and trained.code == 0


def test_two_hosts_train_one_model_and_only_the_first_keeps_it(workshop):
    table = cancer()
    hosts = ["127.0.0.1", "127.0.0.2"]
    bases = [
        workshop.opt_ml(
            {**BINARY, "nthread": "1", "eval_metric": "auc", "num_round": "3"},
            {"train": {"a.csv": csv_rows.write(table[at::2])}},
            resourceconfig={"current_host": host, "hosts": hosts},
        )
        for at, host in enumerate(hosts)
    ]
    name = f"two-hosts-{Path(bases[0]).parent.name}-{id(bases)}"
    processes = [workshop.start(base, TRAINING_JOB_NAME=name) for base in bases]
    try:
        logs = [process.stdout.read() for process in processes]
        codes = [process.wait() for process in processes]
    finally:
        for process in processes:
            process.close()
    assert codes == [0, 0], logs
    assert (bases[0] / "model" / "xgboost-model").exists()
    assert not (bases[1] / "model" / "xgboost-model").exists()
    assert len(metrics(logs[0], "train-auc")) == 3 and not metrics(logs[1], "train-auc")


@pytest.mark.parametrize(
    ("content_type", "text"),
    [
        (
            "text/csv; label_size=2",
            "ClientError: text/csv; label_size=2 is not an accepted csv ContentType. "
            "Optional parameter label_size must be equal to 1",
        ),
        (
            "text/html",
            "ClientError: text/html is not an accepted ContentType: csv, libsvm, parquet, "
            "recordio-protobuf, text/csv, text/libsvm, text/x-libsvm, application/x-parquet, "
            "application/x-recordio-protobuf.",
        ),
    ],
)
def test_a_wrong_content_type_fails_with_sagemakers_words(workshop, content_type, text):
    base = workshop.opt_ml(BINARY, {"train": {"a": b"1,2"}}, content_type=content_type)
    assert workshop.train(base).failure == text


def test_a_header_in_a_csv_file_is_told_with_its_beginning(workshop):
    trained = train(workshop, BINARY, train=b"label,first,second\n1,2,3\n")
    assert trained.failure == (
        "ClientError: First line 'label,first,second...' of file 'data.csv' is not 'CSV' format. "
        "Please ensure the file is in 'CSV' format."
    )


def test_labels_outside_the_objectives_range_are_the_users_error(workshop):
    trained = train(workshop, BINARY, train=b"7,1,2\n0,3,4\n")
    assert trained.failure.startswith("ClientError: ")
    assert "label must be in [0,1] for logistic regression" in trained.failure


@pytest.mark.parametrize(
    ("hyperparameters", "rows", "text"),
    [
        (BINARY, b"nan,1,2\n0,3,4\n", "Label contains NaN"),
        ({**BINARY, "csv_weights": "1"}, b"1,-2,1,2\n0,1,3,4\n", "Weights must be positive"),
    ],
)
def test_what_the_library_refuses_is_told_without_its_own_code(
    workshop, hyperparameters, rows, text
):
    base = workshop.opt_ml(hyperparameters, {"train": {"a.csv": rows}}, "text/csv")
    trained = workshop.train(base)
    assert trained.failure.startswith("ClientError: ") and text in trained.failure
    assert "Stack trace" not in trained.failure and "/" not in trained.failure
    assert "Stack trace" in trained.log


def test_compressed_csv_is_refused_with_what_to_do(workshop):
    packed = gzip.compress(b"1,2,3\n0,3,4\n")
    trained = workshop.train(workshop.opt_ml(BINARY, {"train": {"a.csv.gz": packed}}, "text/csv"))
    assert trained.failure.startswith("ClientError: 'a.csv.gz' is compressed with gzip")
    assert "text/csv" in trained.failure and "CompressionType=Gzip" in trained.failure


def test_no_data_in_the_channel_is_the_users_error(workshop):
    trained = workshop.train(workshop.opt_ml(BINARY, {"train": {}}))
    assert "ClientError: No data in training channel path" in trained.failure


def test_a_script_takes_the_place_of_the_algorithm(workshop):
    base = workshop.opt_ml({**BINARY, "sagemaker_program": '"none.py"'}, {"train": {"a": b"1,2"}})
    log = workshop.train(base).log
    assert "Single node training" not in log and "none.py" in log


# -- serving --------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def three_classes(workshop: Workshop) -> Trained:
    hyperparameters = {"objective": "multi:softprob", "num_class": "3", "num_round": "5"}
    return train(workshop, hyperparameters, train=csv_rows.write(iris()))


def test_csv_is_the_default_answer_with_one_value_a_line(workshop, binary):
    body = csv_rows.write(cancer()[:3, 1:])
    plain = ask(workshop, binary, body, "text/csv", "*/*")
    batch = ask(workshop, binary, body, "text/csv", "", SAGEMAKER_BATCH="true")
    assert plain.content_type == "text/csv"
    assert plain.body.count(b"\n") == 2 and all(map(float, plain.body.split()))
    assert batch.body == plain.body + b"\n"


def test_class_probabilities_are_lists(workshop, three_classes):
    body = csv_rows.write(iris()[:1, 1:])
    csv = ask(workshop, three_classes, body, "text/csv", "text/csv")
    assert len(json.loads(csv.body)) == 3
    answer = ask(workshop, three_classes, body, "text/csv", "application/json").json()
    assert sum(answer["predictions"][0]["score"]) == pytest.approx(1, abs=1e-5)


def test_selected_outputs_come_in_the_order_asked_for(workshop, three_classes):
    body = csv_rows.write(iris()[:1, 1:])
    wanted = {"SAGEMAKER_INFERENCE_OUTPUT": "predicted_label, labels,probability,probabilities"}
    answer = ask(workshop, three_classes, body, "text/csv", "application/json", **wanted).json()
    found = answer["predictions"][0]
    assert list(found) == ["predicted_label", "labels", "probability", "probabilities"]
    assert found["predicted_label"] == 0 and found["labels"] == [0, 1, 2]
    assert found["probability"] == max(found["probabilities"])
    csv = ask(workshop, three_classes, body, "text/csv", "text/csv", **wanted).body.decode()
    assert csv.startswith('0,"[0, 1, 2]",0.') and csv.endswith(']"')


def test_an_output_that_the_objective_lacks_is_nan(workshop, binary):
    body = csv_rows.write(cancer()[:1, 1:])
    wanted = {"SAGEMAKER_INFERENCE_OUTPUT": "predicted_score,predicted_label,raw_scores"}
    answer = ask(workshop, binary, body, "text/csv", "application/json", **wanted)
    found = answer.json()["predictions"][0]
    assert b'"predicted_score": NaN' in answer.body and found["predicted_label"] == 0
    assert sum(found["raw_scores"]) == pytest.approx(1)


def test_a_wrong_number_of_features_is_told(workshop, binary):
    answer = ask(workshop, binary, b"1,2,3", "text/csv", "")
    assert answer.status == 400
    assert answer.body.decode() == (
        "Unable to evaluate payload provided: Feature size of csv inference data 3 is not "
        "consistent with feature size of trained model 30."
    )


def test_one_missing_feature_at_the_end_counts_as_missing(workshop, binary):
    row = cancer()[:1, 1:]
    shorter = ask(workshop, binary, csv_rows.write(row[:, :29]), "text/csv", "")
    empty = ask(workshop, binary, csv_rows.write(row[:, :29]).strip() + b",", "text/csv", "")
    assert shorter.status == 200 and shorter.body == empty.body


def test_libsvm_rows_with_and_without_label_give_the_same(workshop, binary):
    row = cancer()[0, 1:].tolist()
    pairs = " ".join(f"{at}:{value!r}" for at, value in enumerate(row)).encode()
    csv = ask(workshop, binary, csv_rows.write(cancer()[:1, 1:]), "text/csv", "")
    for body in (pairs, b"1 " + pairs):
        assert ask(workshop, binary, body, "text/libsvm", "").body == csv.body
    wide = ask(workshop, binary, pairs + b" 99:1", "text/libsvm", "")
    assert "is larger than feature size of trained model 30." in wide.body.decode()


def test_an_empty_body_is_answered_with_no_content(workshop, binary):
    assert ask(workshop, binary, b"", "text/csv", "").status == 204


def test_an_unsupported_accept_names_the_supported_ones(workshop, binary):
    answer = ask(workshop, binary, csv_rows.write(cancer()[:1, 1:]), "text/csv", "image/png")
    assert answer.body.decode() == (
        "Accept type image/png is not supported. Please use supported accept types: "
        "['application/json', 'application/jsonlines', 'application/x-recordio-protobuf', "
        "'text/csv']."
    )


def test_a_pickled_model_is_served(workshop, binary, tmp_path):
    code = (
        "import pickle, sys, xgboost\n"
        "booster = xgboost.Booster(model_file=sys.argv[1])\n"
        "pickle.dump(booster, open(sys.argv[2], 'wb'))\n"
    )
    python = str(workshop.prefix / "bin" / "python")
    source = str(binary.model / "xgboost-model")
    target = str(tmp_path / "xgboost-model")
    subprocess.run([python, "-c", code, source, target], check=True, timeout=SECONDS_MAX)
    body = csv_rows.write(cancer()[:5, 1:])
    endpoint = workshop.serve(tmp_path)
    try:
        answer = endpoint.ask(body, "text/csv", "")
    finally:
        endpoint.close()
    assert answer.body == ask(workshop, binary, body, "text/csv", "").body
