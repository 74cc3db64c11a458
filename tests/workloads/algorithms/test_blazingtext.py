"""BlazingText: vectors of words, classes of sentences, and what it says of wrong ones."""

from __future__ import annotations

import json
import random
from importlib import resources

import numpy
import pytest
from algorithm_contract import WarmParent, Workshop
from first_party_contract import image, metric
from scipy.stats import spearmanr
from sklearn.feature_extraction.text import CountVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline

from clary.workloads import algorithms as package
from clary.workloads.algorithms import catalogue

GROUPS = (
    ("tiger", "cat", "animal", "jaguar", "fauna", "horse"),
    ("money", "bank", "cash", "currency", "dollar", "market"),
    ("planet", "sun", "moon", "star", "space", "astronomer"),
)
WORDS = {
    "mode": "skipgram",
    "vector_dim": "20",
    "epochs": "10",
    "min_count": "1",
    "sampling_threshold": "1",
}


def corpus() -> bytes:
    chance = random.Random(0)
    lines = (" ".join(chance.choices(GROUPS[at % 3], k=8)) for at in range(1500))
    return "\n".join(lines).encode()


def descriptions() -> tuple[list[str], list[str]]:
    """The sentences of scikit-learn's data-set descriptions, and which of them each is from."""
    texts, labels = [], []
    for name in ("breast_cancer", "california_housing", "kddcup99", "lfw", "rcv1", "wine_data"):
        text = resources.files("sklearn.datasets.descr").joinpath(f"{name}.rst").read_text()
        words = [word for word in text.lower().split() if word.isalpha()]
        for at in range(0, len(words) - 12, 12):
            texts.append(" ".join(words[at : at + 12]))
            labels.append(name)
    return texts, labels


def labelled(texts: list[str], labels: list[str]) -> bytes:
    pairs = zip(labels, texts, strict=True)
    return "\n".join(f"__label__{label} {text}" for label, text in pairs).encode()


@pytest.fixture(scope="module")
def workshop(tmp_path_factory):
    parent = WarmParent(image("blazingtext"))
    yield Workshop("blazingtext", parent, tmp_path_factory.mktemp("blazingtext"))
    parent.close()


@pytest.fixture(scope="module")
def vectors(workshop):
    base = workshop.opt_ml(WORDS, {"train": {"text": corpus()}}, "text/plain")
    trained = workshop.train(base)
    assert trained.code == 0, trained.log + trained.failure
    return trained


@pytest.fixture(scope="module")
def classes(workshop):
    texts, labels = descriptions()
    hyperparameters = {
        "mode": "supervised", "epochs": "40", "learning_rate": "0.5", "min_count": "1",
        "vector_dim": "20", "buckets": "1000", "word_ngrams": "1",
    }  # fmt: skip
    channels = {
        "train": {"text": labelled(texts[::2], labels[::2])},
        "validation": {"text": labelled(texts[1::2], labels[1::2])},
    }
    trained = workshop.train(workshop.opt_ml(hyperparameters, channels, "text/plain"))
    assert trained.code == 0, trained.log + trained.failure
    return trained


@pytest.fixture(scope="module")
def words_endpoint(workshop, vectors):
    endpoint = workshop.serve(vectors.model)
    yield endpoint
    endpoint.close()


@pytest.fixture(scope="module")
def classes_endpoint(workshop, classes):
    endpoint = workshop.serve(classes.model)
    yield endpoint
    endpoint.close()


def test_the_declaration_is_in_the_catalogue():
    declared = catalogue.find("blazingtext")
    assert declared.name == "blazingtext" and package.__name__ in type(declared).__module__


def test_words_of_one_kind_are_near_one_another(words_endpoint):
    words = [word for group in GROUPS for word in group]
    body = json.dumps({"instances": words}).encode()
    answer = words_endpoint.ask(body, "application/json").json()
    assert [one["word"] for one in answer] == words
    found = numpy.array([one["vector"] for one in answer])
    unit = found / numpy.linalg.norm(found, axis=1, keepdims=True)
    nearest = (unit @ unit.T - 2 * numpy.eye(len(words))).argmax(axis=1)
    assert (nearest // 6 == numpy.arange(18) // 6).all()


def test_a_word_that_was_never_seen_has_zeros(words_endpoint):
    lines = words_endpoint.ask(b'{"source": "zebra"}\n', "application/jsonlines").body
    assert json.loads(lines) == {"word": "zebra", "vector": [0.0] * 20}


def test_the_vectors_are_in_the_word2vec_format_and_judged(vectors):
    lines = (vectors.model / "vectors.txt").read_text().splitlines()
    assert lines[0] == f"{len(lines) - 1} 20"
    found = {line.split()[0]: numpy.array(line.split()[1:], float) for line in lines[1:]}
    told = json.loads((vectors.model / "eval.json").read_text())
    report = told["EN-WS-353-ALL.txt"]
    assert report["total_pairs"] == 353 and 300 < report["not_found"] < 353
    assert told["mean_rho"] == report["spearmans_rho"]
    assert metric(vectors.log, "blazingtext", "train:mean_rho") == [round(told["mean_rho"], 4)]
    cosine = found["tiger"] @ found["cat"] > found["tiger"] @ found["bank"]
    assert cosine and -1 <= spearmanr([1, 2, 3], [1, 2, 3]).statistic <= 1


def test_sentences_are_classed_as_well_as_by_a_linear_model(classes):
    texts, labels = descriptions()
    direct = make_pipeline(CountVectorizer(), LogisticRegression(max_iter=1000))
    theirs = direct.fit(texts[::2], labels[::2]).score(texts[1::2], labels[1::2])
    (ours,) = metric(classes.log, "blazingtext", "validation:accuracy")
    assert ours > 0.9 * theirs
    assert f"Number of validation examples: {len(texts[1::2])}" in classes.log


def test_the_likeliest_labels_come_with_their_shares(classes_endpoint):
    texts, labels = descriptions()
    body = {"instances": texts[:1], "configuration": {"k": 2}}
    (one,) = classes_endpoint.ask(json.dumps(body).encode(), "application/json").json()
    assert one["label"][0] == f"__label__{labels[0]}" and len(one["label"]) == 2
    assert 1 >= one["prob"][0] >= one["prob"][1] >= 0


def test_the_answer_has_the_content_type_of_the_request(classes_endpoint):
    lines = b'{"source": "wine"}\n{"source": "houses", "k": 3}\n'
    answer = classes_endpoint.ask(lines, "application/jsonlines")
    assert [len(json.loads(line)["prob"]) for line in answer.body.splitlines()] == [1, 3]
    assert answer.content_type == "application/jsonlines"
    assert classes_endpoint.ask(lines, "application/jsonlines", "application/json").status == 406
    assert classes_endpoint.ask(b"wine", "text/csv").status == 415
    assert classes_endpoint.ask(b'{"instances": [1]}', "application/json").status == 400


def test_an_augmented_manifest_is_read(workshop):
    texts, labels = descriptions()
    pairs = zip(texts, labels, strict=True)
    lines = "\n".join(json.dumps({"source": text, "label": [label]}) for text, label in pairs)
    base = workshop.opt_ml(
        {"mode": "supervised", "epochs": "2", "vector_dim": "4", "buckets": "10"},
        {"train": {"a.manifest": lines.encode()}},
        "application/jsonlines",
    )
    trained = workshop.train(base)
    assert trained.code == 0, trained.failure
    assert f"Number of train examples: {len(texts)}" in trained.log


def test_training_stops_early_when_more_epochs_are_no_better(workshop):
    data = b"__label__a one two\n__label__b three four\n" * 50
    hyperparameters = {
        "mode": "supervised", "epochs": "30", "min_epochs": "5", "patience": "2",
        "learning_rate": "1.0", "early_stopping": "true", "vector_dim": "4", "buckets": "10",
    }  # fmt: skip
    channels = {"train": {"a": data}, "validation": {"a": data}}
    trained = workshop.train(workshop.opt_ml(hyperparameters, channels, "text/plain"))
    assert metric(trained.log, "blazingtext", "validation:accuracy") == [1.0]
    assert trained.log.count("Accuracy on the validation data after") < 15


@pytest.mark.parametrize(
    ("hyperparameters", "data", "words"),
    [
        ({}, b"a b", "'mode' is a required property"),
        ({"mode": "fast"}, b"a b", "'fast' is not one of ['batch_skipgram', 'skipgram', 'cbow'"),
        ({"mode": "supervised"}, b"__label__1 a\nno label\n", "'text', line 2: a sentence of the"),
        ({"mode": "skipgram"}, b"a b c\n", "a smaller min_count keeps them"),
        ({"mode": "skipgram"}, b"\n", "No training data processed"),
    ],
)
def test_what_cannot_be_learned_from_is_told(workshop, hyperparameters, data, words):
    base = workshop.opt_ml(hyperparameters, {"train": {"text": data}}, "text/plain")
    trained = workshop.train(base)
    assert trained.code == 1 and words in trained.failure
