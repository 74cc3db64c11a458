"""DeepAR: seasonal series are forecast better than by their last season, and bad ones are named."""

from __future__ import annotations

import gzip
import json
import re
import subprocess

import numpy
import pytest
from algorithm_contract import WarmParent, Workshop
from first_party_contract import image, metric, on_two_hosts

from clary.workloads.algorithms import catalogue
from clary.workloads.algorithms.forecasting_deepar.frequency import Frequency

NAME = "forecasting-deepar"
DAY = 24
SMALL = {
    "context_length": "24", "prediction_length": "24", "time_freq": "H", "epochs": "10",
    "num_cells": "30", "num_layers": "1", "mini_batch_size": "32", "learning_rate": "0.01",
}  # fmt: skip
QUICK = {
    **SMALL, "epochs": "1", "context_length": "4", "prediction_length": "2", "num_cells": "5",
    "embedding_dimension": "2", "mini_batch_size": "8",
}  # fmt: skip


def seasonal(seed: int, count: int = 10, days: int = 28) -> list[dict]:
    """Hourly series of very different sizes, with days of two shapes, weekends and noise."""
    random = numpy.random.default_rng(seed)
    hours, found = numpy.arange(DAY * days), []
    for at in range(count):
        daily = numpy.sin(2 * numpy.pi * hours / DAY + at % 2 * numpy.pi)
        shape = 1.5 + daily + 0.5 * numpy.cos(4 * numpy.pi * hours / DAY)
        shape[(hours // DAY) % 7 >= 5] *= 0.6
        noise = 1 + 0.15 * random.standard_normal(len(hours))
        target = 10 ** random.uniform(0, 2) * shape * noise
        found.append({"start": "2024-01-01 00:00:00", "target": target.tolist(), "cat": [at % 2]})
    return found


def plain(count: int = 320, **more: object) -> list[dict]:
    target = [5.0 + at % 7 for at in range(count)]
    return [{"start": "2024-01-01", "target": target, **more}]


def lines(series: list[dict]) -> bytes:
    return "\n".join(json.dumps(one) for one in series).encode()


def without_end(series: list[dict], count: int = DAY) -> list[dict]:
    return [{**one, "target": one["target"][:-count]} for one in series]


def naive_loss(series: list[dict], season: int) -> float:
    """The weighted quantile loss of the last season as the forecast, the same at all quantiles."""
    target = numpy.array([one["target"] for one in series])
    gaps = target[:, -DAY:] - target[:, -DAY - season :][:, :DAY]
    return float(numpy.abs(gaps).sum() / numpy.abs(target[:, -DAY:]).sum())


@pytest.fixture(scope="module")
def workshop(tmp_path_factory):
    parent = WarmParent(image(NAME))
    yield Workshop(NAME, parent, tmp_path_factory.mktemp("deepar"))
    parent.close()


def train(workshop, hyperparameters, *, file="data.json", content_type="", **channels):
    files = {name: {file: content} for name, content in channels.items()}
    return workshop.train(workshop.opt_ml(hyperparameters, files, content_type))


@pytest.fixture(scope="module")
def trained(workshop):
    series = seasonal(0)
    found = train(workshop, SMALL, train=lines(without_end(series)), test=lines(series))
    assert found.code == 0, found.log + found.failure
    return found


@pytest.fixture(scope="module")
def endpoint(workshop, trained):
    endpoint = workshop.serve(trained.model)
    yield endpoint
    endpoint.close()


def test_forecasts_are_better_than_the_last_season(trained):
    (loss,) = metric(trained.log, NAME, "test:mean_wQuantileLoss")
    assert loss < 0.8 * min(naive_loss(seasonal(0), season) for season in (DAY, 7 * DAY))
    (rmse,) = metric(trained.log, NAME, "test:RMSE")
    assert f"#test_score (algo-1, RMSE): {rmse!r}" in trained.log
    assert f"#test_score (algo-1, mean_wQuantileLoss): {loss!r}" in trained.log
    named = re.findall(r"#test_score \(algo-1, wQuantileLoss\[(\S+)\]\): (\S+)", trained.log)
    assert [name for name, _ in named] == [f"0.{tenth}" for tenth in range(1, 10)]
    assert numpy.mean([float(value) for _, value in named]) == pytest.approx(loss)


def test_the_loss_of_every_epoch_is_logged_and_the_best_is_final(trained):
    losses = metric(trained.log, NAME, "train:loss")
    assert len(losses) == 10 and losses[-1] < losses[0]
    assert metric(trained.log, NAME, "train:final_loss") == [min(losses)]
    assert "#progress_metric: host=algo-1, completed 100 % of epochs" in trained.log


def test_an_answer_holds_what_its_configuration_asks_for(endpoint):
    series = seasonal(0)[:2]
    request = {
        "instances": without_end(series),
        "configuration": {
            "num_samples": 60, "output_types": ["mean", "quantiles", "samples"],
            "quantiles": ["0.5", "0.9"],
        },
    }  # fmt: skip
    answer = endpoint.ask(json.dumps(request).encode(), "application/json")
    predictions = answer.json()["predictions"]
    assert answer.content_type == "application/json" and len(predictions) == 2
    for one, truth in zip(predictions, series, strict=True):
        assert set(one) == {"quantiles", "samples", "mean"}
        samples = numpy.array(one["samples"])
        assert samples.shape == (60, DAY)
        assert one["mean"] == pytest.approx(samples.mean(axis=0))
        assert set(one["quantiles"]) == {"0.5", "0.9"}
        assert one["quantiles"]["0.9"] == pytest.approx(numpy.quantile(samples, 0.9, axis=0))
        gap = numpy.abs(numpy.array(one["quantiles"]["0.5"]) - truth["target"][-DAY:])
        assert gap.sum() < 0.25 * numpy.sum(truth["target"][-DAY:])
    request["configuration"] = {"output_types": ["quantiles"], "quantiles": [0.25]}
    (first, _) = endpoint.ask(json.dumps(request).encode(), "application/json").json()[
        "predictions"
    ]
    assert list(first) == ["quantiles"] and len(first["quantiles"]["0.25"]) == DAY


def test_json_lines_are_answered_with_the_configuration_of_the_environment(
    workshop, trained, endpoint
):
    body = lines([{**one, "target": one["target"][:100]} for one in seasonal(0)[:2]])
    answers = endpoint.ask(body, "application/jsonlines").body.splitlines()
    assert len(answers) == 2
    assert set(json.loads(answers[0])) == {"mean", "quantiles"}
    assert list(json.loads(answers[1])["quantiles"]) == [f"0.{tenth}" for tenth in range(1, 10)]
    assert endpoint.ready["parameters"]["BatchStrategy"] == "SINGLE_RECORD"
    config = '{"num_samples": 5, "output_types": ["samples"]}'
    other = workshop.serve(trained.model, DEEPAR_INFERENCE_CONFIG=config)
    first = json.loads(other.ask(body, "application/jsonlines").body.splitlines()[0])
    other.close()
    assert list(first) == ["samples"] and numpy.shape(first["samples"]) == (5, DAY)
    wrong = workshop.serve(trained.model, DEEPAR_INFERENCE_CONFIG='{"num_samples": 0}')
    wrong.close()
    assert wrong.ready["status"] == 500 and "num_samples must be" in wrong.ready["body"]


def test_missing_values_and_series_without_a_past_are_forecast(endpoint):
    gaps = seasonal(0)[0]
    gaps["target"] = gaps["target"][: 14 * DAY]
    gaps["target"][5:9], gaps["target"][-3:] = [None] * 4, ["NaN"] * 3
    new = {"start": "2024-02-05 00:00:00", "target": [], "cat": [1]}
    body = json.dumps({"instances": [gaps, new]}).encode()
    answer = endpoint.ask(body, "application/json")
    assert answer.status == 200, answer.body
    means = numpy.array([one["mean"] for one in answer.json()["predictions"]])
    assert means.shape == (2, DAY) and numpy.isfinite(means).all()


@pytest.mark.parametrize(
    ("instance", "words"),
    [
        ({"target": [1]}, "instance 0: 'start' is missing"),
        ({"start": "2024-01-01T00:00:00Z", "target": [1]}, "without a time zone"),
        ({"start": "2024-01-01", "target": [1]}, "cat has 0 categories, where there must be 1"),
        ({"start": "2024-01-01", "target": [1], "cat": [2]}, "which is not below its cardinality"),
        ({"start": "2024-01-01", "target": ["a"], "cat": [0]}, "target holds 'a'"),
    ],
)
def test_an_instance_that_cannot_be_forecast_is_refused(endpoint, instance, words):
    answer = endpoint.ask(json.dumps({"instances": [instance]}).encode(), "application/json")
    assert answer.status == 400 and words in answer.body.decode()


def test_a_wrong_configuration_or_content_type_is_refused(endpoint):
    body = {"instances": [], "configuration": {"output_types": ["median"]}}
    answer = endpoint.ask(json.dumps(body).encode(), "application/json")
    assert answer.status == 400 and "output_types must be" in answer.body.decode()
    assert endpoint.ask(b"1", "text/csv").status == 415
    assert endpoint.ask(b"{}", "application/json", "text/csv").status == 406


@pytest.mark.parametrize(
    "likelihood", ["gaussian", "negative-binomial", "beta", "deterministic-L1"]
)
def test_every_likelihood_learns_and_keeps_to_its_values(workshop, likelihood):
    scale = 0.05 if likelihood == "beta" else 1.0
    rounded = 0 if likelihood == "negative-binomial" else 6
    series = seasonal(1, 4, 21)
    for one in series:
        values = numpy.abs(one["target"]) / numpy.mean(one["target"]) * 5 * scale
        one["target"] = numpy.clip(values, 0, 1 if likelihood == "beta" else None)
        one["target"] = one["target"].round(rounded).tolist()
    hyperparameters = {**SMALL, "likelihood": likelihood, "epochs": "5", "num_eval_samples": "50"}
    found = train(workshop, hyperparameters, train=lines(without_end(series)), test=lines(series))
    assert found.code == 0, found.log + found.failure
    assert metric(found.log, NAME, "test:mean_wQuantileLoss")[0] < 0.45
    endpoint = workshop.serve(found.model)
    request = {"instances": series[:1], "configuration": {"output_types": ["samples"]}}
    answer = endpoint.ask(json.dumps(request).encode(), "application/json").json()
    endpoint.close()
    samples = numpy.array(answer["predictions"][0]["samples"])
    if likelihood == "beta":
        assert samples.min() >= 0 and samples.max() <= 1
    if likelihood == "negative-binomial":
        assert (samples == samples.round()).all() and samples.min() >= 0
    if likelihood == "deterministic-L1":
        assert (samples == samples[0]).all()


def test_dynamic_features_tell_what_the_past_does_not(workshop):
    random = numpy.random.default_rng(0)
    event = (random.random((8, 202)) < 0.3).astype(float)
    target = 10 + 20 * event + random.standard_normal(event.shape)
    series = [
        {"start": "2024-01-01", "target": values.tolist(), "dynamic_feat": [events.tolist()]}
        for values, events in zip(target, event, strict=True)
    ]
    learned = [
        {**one, "target": one["target"][:-2], "dynamic_feat": [one["dynamic_feat"][0][:-2]]}
        for one in series
    ]
    hyperparameters = {**SMALL, "time_freq": "D", "context_length": "8", "prediction_length": "2"}
    found = train(workshop, hyperparameters, train=lines(learned), test=lines(series))
    assert found.code == 0, found.failure
    assert metric(found.log, NAME, "test:RMSE")[0] < 4  # 9 without the feature
    endpoint = workshop.serve(found.model)
    ahead = {**learned[0], "dynamic_feat": [[*learned[0]["dynamic_feat"][0], 1, 0]]}
    body = json.dumps({"instances": [ahead]}).encode()
    with_event, without = endpoint.ask(body, "application/json").json()["predictions"][0]["mean"]
    refused = endpoint.ask(json.dumps({"instances": learned[:1]}).encode(), "application/json")
    endpoint.close()
    assert with_event > without + 10
    assert "dynamic_feat has 200 values, where there must be 202" in refused.body.decode()


def test_training_ends_where_the_loss_falls_no_more(workshop):
    more = {"epochs": "100", "early_stopping_patience": "1", "learning_rate": "0.3"}
    found = train(workshop, {**QUICK, **more}, train=lines(plain()))
    assert "Early stopping condition met" in found.log
    losses = metric(found.log, NAME, "train:loss")
    assert len(losses) < 100 and metric(found.log, NAME, "train:final_loss") == [min(losses)]


@pytest.mark.parametrize("frequency", ["15min", "2D", "W", "M"])
def test_every_frequency_is_learned(workshop, frequency):
    found = train(workshop, {**QUICK, "time_freq": frequency}, train=lines(plain()))
    assert found.code == 0, found.failure


def test_gzip_and_parquet_are_read_as_json_lines_are(workshop, tmp_path):
    losses = []
    path = tmp_path / "a.parquet"
    records = plain(cat=[0]) + plain(cat=[1])
    # The start of a series may be a timestamp of parquet's own.
    program = (
        "import datetime, json, polars, sys; rows = json.loads(sys.argv[2])\n"
        "for row in rows: row['start'] = datetime.datetime.fromisoformat(row['start'])\n"
        "polars.DataFrame(rows).write_parquet(sys.argv[1])"
    )
    python = str(workshop.prefix / "bin" / "python")
    subprocess.run([python, "-c", program, str(path), json.dumps(records)], check=True)
    for file, content_type, content in (
        ("a.json", "", lines(records)),
        ("a.jsonl", "application/jsonlines", lines(records)),
        ("a.json.gz", "", gzip.compress(lines(records))),
        ("a.parquet", "", path.read_bytes()),
        ("part-0", "parquet", path.read_bytes()),
    ):
        found = train(workshop, QUICK, file=file, content_type=content_type, train=content)
        assert found.code == 0, found.failure
        losses += metric(found.log, NAME, "train:final_loss")
    assert len(losses) == 5 and len(set(losses)) == 1


def test_two_hosts_learn_one_model(workshop):
    halves = [lines(seasonal(seed, 2, 14)) for seed in (0, 1)]
    bases, logs = on_two_hosts(workshop, {**SMALL, "epochs": "2"}, halves, "json")
    losses = [re.findall(r"epoch=\d+, train loss <loss>=(\S+)", log) for log in logs]
    assert len(losses[0]) == 2 and losses[0] == losses[1]
    assert (bases[0] / "model" / "model_algo-1").exists()
    assert not (bases[1] / "model" / "model_algo-1").exists()


@pytest.mark.parametrize(
    ("hyperparameters", "series", "words"),
    [
        ({"time_freq": "1Q"}, plain(), "'1Q' does not match"),
        ({"likelihood": "poisson"}, plain(), "'poisson' is not one of ['gaussian', 'beta'"),
        ({"dropout_rate": "1"}, plain(), "'1' is not valid under any of the given schemas"),
        ({"test_quantiles": "[0.5, 2]"}, plain(), "array' of numbers between 0 and 1"),
        ({"no_such": "1"}, plain(), "Additional properties are not allowed ('no_such' was"),
        ({}, plain(200), "200 observations in all its time series together; at least 300"),
        ({}, [*plain(), {"target": [1]}], "'data.json', line 2: 'start' is missing"),
        ({}, plain(start="yesterday"), "'data.json', line 1: start must be a timestamp"),
        ({}, plain(target=[True]), "target holds something that is no number"),
        ({}, plain() + plain(cat=[1]), "line 2: cat has 1 categories, the first series 0"),
        ({"cardinality": "[2]"}, plain(cat=[2]), "which is not below its cardinality 2"),
        ({}, plain(dynamic_feat=[[1, 2]]), "has 2 values, where there must be 320"),
        ({"num_dynamic_feat": "1"}, plain(), "has 0 features, where there must be 1"),
        ({"likelihood": "beta"}, plain(), "target holds a number above 1"),
    ],
)
def test_what_cannot_be_learned_from_is_told(workshop, hyperparameters, series, words):
    found = train(workshop, {**QUICK, **hyperparameters}, train=lines(series))
    assert found.code == 1 and words in found.failure


def test_a_content_type_of_tables_is_refused(workshop):
    found = train(workshop, QUICK, file="a.csv", content_type="text/csv", train=b"1,2")
    assert "Content type text/csv of channel 'train' is not supported" in found.failure
    found = train(workshop, QUICK, file="a.txt", train=lines(plain()))
    assert "set the ContentType of the channel to json or parquet" in found.failure


def test_series_without_values_are_learned_from_as_far_as_they_go(workshop):
    series = [
        *plain(),
        {"start": "2024-01-01", "target": []},
        *plain(3, start="2023-05-01 07:00:00"),
    ]
    series[0]["target"][10:300] = [None] * 290
    found = train(workshop, QUICK, train=lines(series), test=lines(series))
    assert found.code == 0, found.log + found.failure
    assert "Read 3 time series with 323 observations, 290 of them missing" in found.log
    assert numpy.isfinite(metric(found.log, NAME, "test:RMSE")).all()
    found = train(workshop, QUICK, train=lines(plain(target=[None] * 320)))
    assert found.code == 1 and "All values of the training data are missing" in found.failure


def test_a_frequency_knows_its_seasons_and_the_calendar():
    quarters = Frequency.parse("15min")
    assert {1, 2, 4, 96, 672} <= set(quarters.lags()) and quarters.lags()[-1] == 673
    assert {7, 364} <= set(Frequency.parse("D").lags()) and 12 in Frequency.parse("M").lags()
    start = quarters.point("2024-02-29 23:47:10")
    minute, hour, weekday, day, _ = quarters.features(numpy.array([start]))[0] + 0.5
    assert [minute * 59, hour * 23, weekday * 6, day * 30] == pytest.approx([47, 23, 3, 28], 1e-5)
    months = Frequency.parse("M")
    assert months.point("2024-03-31") - months.point("2023-12-01 00:00:00") == 3
    assert months.features(numpy.array([months.point("2024-12-05")]))[0] == pytest.approx([0.5])


def test_required_hyperparameters_and_tunable_ranges_are_declared():
    algorithm = catalogue.find(NAME)
    assert algorithm is not None
    declared = {one["Name"]: one for one in algorithm.hyperparameter_specifications()}
    assert {name for name, one in declared.items() if one["IsRequired"]} == {
        "context_length", "epochs", "prediction_length", "time_freq",
    }  # fmt: skip
    assert declared["num_cells"]["IsTunable"] and not declared["likelihood"]["IsTunable"]
