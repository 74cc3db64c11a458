"""Text classification: what it does like all algorithms, and what is its own."""

from __future__ import annotations

import csv
import io
import json
import re

import numpy
import pytest
from algorithm_contract import WarmParent, Workshop
from first_party_contract import image
from script_mode_contract import metric, train
from sklearn.datasets import load_breast_cancer, load_diabetes, load_digits
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression

from clary.workloads.algorithms import catalogue

NAME = "text-classification"
QUICK = {"epochs": "12", "batch_size": "16", "learning_rate": "0.002", "dropout_rate": "0.1"}
MAKE_MODEL = """
import sys
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import DistilBertConfig, DistilBertForSequenceClassification
from transformers import PreTrainedTokenizerFast
words = {word: at for at, word in enumerate(["[PAD]", "[UNK]", "good", "bad", "film", "the"])}
tokenizer = Tokenizer(models.WordLevel(words, unk_token="[UNK]"))
tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
PreTrainedTokenizerFast(tokenizer_object=tokenizer, pad_token="[PAD]", unk_token="[UNK]",
    model_max_length=32).save_pretrained(sys.argv[1])
config = DistilBertConfig(vocab_size=6, dim=16, n_heads=2, n_layers=1, hidden_dim=32,
    max_position_embeddings=32, num_labels=2)
DistilBertForSequenceClassification(config).save_pretrained(sys.argv[1])
"""


def sentences() -> tuple[list[int], list[str]]:
    """The sentences that describe three of scikit-learn's data sets, and of which they are."""
    labels, texts = [], []
    for label, load in enumerate((load_breast_cancer, load_diabetes, load_digits)):
        plain = re.sub(r"[^A-Za-z.]+", " ", load().DESCR)
        found = [one.strip() for one in plain.split(".") if len(one.split()) > 4]
        labels += [label * 2] * len(found)
        texts += found
    return labels, texts


def data(labels: list[int], texts: list[str]) -> dict[str, bytes]:
    out = io.StringIO()
    csv.writer(out).writerows(zip(labels, texts, strict=True))
    return {"data.csv": out.getvalue().encode()}


@pytest.fixture(scope="module")
def workshop(tmp_path_factory):
    parent = WarmParent(image(NAME))
    yield Workshop(NAME, parent, tmp_path_factory.mktemp("text"))
    parent.close()


@pytest.fixture(scope="module")
def trained(workshop):
    """Validated with what it learns from: there are few sentences, and none is like another."""
    files = data(*sentences())
    return train(workshop, QUICK, {"training": files, "validation": files})


@pytest.fixture(scope="module")
def endpoint(workshop, trained):
    endpoint = workshop.serve(trained.model)
    yield endpoint
    endpoint.close()


def test_it_is_in_the_catalogue_with_the_documented_defaults():
    declared = catalogue.find(NAME)
    assert declared.name == NAME and NAME.replace("-", "_") in catalogue.names()
    names = {one.name for one in declared.hyperparameters.declared}
    assert names == set(declared.hyperparameters.validate({}))


def test_sentences_are_told_apart_as_well_as_by_a_linear_model(trained):
    labels, texts = sentences()
    rows = TfidfVectorizer().fit_transform(texts)
    direct = LogisticRegression().fit(rows, labels).score(rows, labels)
    found = metric(trained.log, NAME, "validation:accuracy")
    assert len(found) == 12 and max(found) > direct - 0.05


def test_an_answer_has_the_probabilities_of_all_classes(endpoint, trained):
    labels, texts = sentences()
    answers = [
        endpoint.ask(text.encode(), "application/x-text", "application/json;verbose")
        for text in texts[::5]
    ]
    found = [one.json() for one in answers]
    assert list(found[0]) == ["probabilities", "labels", "predicted_label"]
    assert found[0]["labels"] == [0, 2, 4] and len(found[0]["probabilities"]) == 3
    right = numpy.mean([one["predicted_label"] for one in found] == numpy.array(labels[::5]))
    assert right > 0.8
    plain = endpoint.ask(b"a text", "application/x-text", "application/json").json()
    assert list(plain) == ["probabilities"] and sum(plain["probabilities"]) == pytest.approx(1)


def test_what_is_no_text_is_refused(endpoint):
    assert endpoint.ask(b"1,2", "text/csv").status == 415
    assert endpoint.ask(b"\xff\xfe", "application/x-text").status == 400
    assert endpoint.ask(b" ", "application/x-text").status == 400
    assert endpoint.ask(b"a", "application/x-text", "text/csv").status == 406


def test_a_model_of_the_users_is_trained_further(workshop, tmp_path):
    (tmp_path / "make.py").write_text(MAKE_MODEL)
    program = workshop.parent.run(
        [str(tmp_path / "make.py"), str(tmp_path / "m")], tmp_path, is_module=False
    )
    try:
        log = program.stdout.read()
        assert program.wait() == 0, log
    finally:
        program.close()
    model = {path.name: path.read_bytes() for path in (tmp_path / "m").iterdir()}
    examples = data([1, 0] * 40, ["good film", "bad film"] * 40)
    hyperparameters = {"epochs": "6", "learning_rate": "0.01", "early_stopping": "True"}
    trained = train(workshop, hyperparameters, {"training": examples, "model": model})
    assert "Training DistilBertForSequenceClassification of channel 'model' further" in trained.log
    assert max(metric(trained.log, NAME, "validation:accuracy")) == 1.0
    saved = json.loads((trained.model / "transformers" / "config.json").read_text())
    assert saved["model_type"] == "distilbert"


@pytest.mark.parametrize("optimizer", ["nesterov", "rmsprop", "adagrad"])
def test_all_optimisers_train(workshop, optimizer):
    examples = data([1, 0] * 8, ["good", "bad"] * 8)
    hyperparameters = {
        "epochs": "1",
        "optimizer": optimizer,
        "train_only_on_top_layer": "True",
    }
    trained = train(workshop, hyperparameters, {"training": examples})
    assert len(metric(trained.log, NAME, "validation:accuracy")) == 1


@pytest.mark.parametrize(
    ("hyperparameters", "content", "text"),
    [
        ({"epochs": "0"}, b"0,a\n1,b\n", "epochs: value 0 not in range [1, +inf)"),
        ({"no_such": "0"}, b"0,a\n1,b\n", "Extraneous hyperparameter found: no_such"),
        ({}, b"0,a\nx,b\n", "'data.csv', line 2: the label 'x' is not an integer"),
        ({}, b"0,a\n1\n", "'data.csv', line 2: there is no text after the label"),
        ({}, b"0,a\n0,b\n", "has only one label"),
        ({}, b"", "has no examples"),
    ],
)
def test_what_cannot_be_is_the_users_error(workshop, hyperparameters, content, text):
    base = workshop.opt_ml(hyperparameters, {"training": {"data.csv": content}})
    trained = workshop.train(base)
    assert trained.code == 1 and text in trained.failure


def test_an_empty_model_folder_cannot_be_served(workshop, tmp_path):
    endpoint = workshop.serve(tmp_path)
    endpoint.close()
    assert endpoint.ready["status"] == 500
