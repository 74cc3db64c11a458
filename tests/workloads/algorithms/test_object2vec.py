"""Object2Vec: pairs that belong together are told from pairs that do not."""

from __future__ import annotations

import json

import numpy
import pytest
from algorithm_contract import WarmParent, Workshop
from first_party_contract import image, metric

VOCABULARY, GROUP = 20, 5
SMALL = {
    "enc0_max_seq_len": "6", "enc0_vocab_size": str(VOCABULARY), "enc0_token_embedding_dim": "8",
    "enc0_network": "pooled_embedding", "enc_dim": "8", "mlp_dim": "16", "mlp_layers": "1",
    "mlp_activation": "relu", "learning_rate": "0.01", "epochs": "12", "mini_batch_size": "64",
    "early_stopping_patience": "5",
}  # fmt: skip


def pairs(seed: int, count: int = 800) -> list[dict]:
    """Sequences from groups of tokens; a pair belongs together if both are from one group."""
    random = numpy.random.default_rng(seed)
    found = []
    for at in range(count):
        one = int(random.integers(4))
        other = one if at % 2 else int((one + random.integers(1, 4)) % 4)
        sides = [random.integers(group * GROUP, (group + 1) * GROUP, 4) for group in (one, other)]
        found.append({"label": at % 2, "in0": sides[0].tolist(), "in1": sides[1].tolist()})
    return found


def lines(found: list[dict]) -> bytes:
    return "\n".join(json.dumps(one) for one in found).encode()


@pytest.fixture(scope="module")
def workshop(tmp_path_factory):
    parent = WarmParent(image("object2vec"))
    yield Workshop("object2vec", parent, tmp_path_factory.mktemp("object2vec"))
    parent.close()


def train(workshop, hyperparameters, **channels):
    files = {name: {"data.jsonl": content} for name, content in channels.items()}
    return workshop.train(workshop.opt_ml(hyperparameters, files, "application/jsonlines"))


@pytest.fixture(scope="module")
def trained(workshop):
    found = train(workshop, SMALL, train=lines(pairs(0)), test=lines(pairs(1, 200)))
    assert found.code == 0, found.log + found.failure
    return found


@pytest.fixture(scope="module")
def endpoint(workshop, trained):
    endpoint = workshop.serve(trained.model)
    yield endpoint
    endpoint.close()


def test_the_last_epochs_training_pairs_are_told_without_a_validation_channel(trained):
    (accuracy,) = metric(trained.log, "object2vec", "train:accuracy")
    assert accuracy > 0.9
    (loss,) = metric(trained.log, "object2vec", "train:cross_entropy")
    assert 0 < loss < 0.5


def test_held_out_pairs_are_judged_right(trained):
    (accuracy,) = metric(trained.log, "object2vec", "test:accuracy")
    assert accuracy > 0.95
    (loss,) = metric(trained.log, "object2vec", "test:cross_entropy")
    assert 0 < loss < 0.3


@pytest.mark.parametrize("network", ["hcnn", "bilstm"])
def test_every_kind_of_encoder_learns(workshop, network):
    own = {"enc1_network": "pooled_embedding", "enc1_vocab_size": "20", "enc1_max_seq_len": "6"}
    hyperparameters = {
        **SMALL, **own, "enc0_network": network, "enc1_token_embedding_dim": "8",
        "tied_token_embedding_weight": "true", "epochs": "8",
    }  # fmt: skip
    found = train(workshop, hyperparameters, train=lines(pairs(0)), test=lines(pairs(1, 200)))
    assert found.code == 0, found.failure
    assert metric(found.log, "object2vec", "test:accuracy")[0] > 0.85


def test_numbers_are_learned_with_the_squared_error(workshop):
    hyperparameters = {**SMALL, "output_layer": "mean_squared_error", "epochs": "8"}
    found = train(workshop, hyperparameters, train=lines(pairs(0)), test=lines(pairs(1, 200)))
    assert metric(found.log, "object2vec", "test:mean_squared_error")[0] < 0.15
    assert metric(found.log, "object2vec", "test:accuracy") == []


def test_pairs_are_scored_and_single_inputs_embedded(endpoint):
    good, bad = ({"in0": [0, 1, 2], "in1": [group, group + 1]} for group in (3, 12))
    body = json.dumps({"instances": [good, bad]}).encode()
    scores = [one["scores"] for one in endpoint.ask(body, "application/json").json()["predictions"]]
    assert scores[0][1] > 0.5 > scores[1][1]
    assert [sum(one) for one in scores] == pytest.approx([1, 1])
    answer = endpoint.ask(lines([good, bad]), "application/jsonlines")
    assert [json.loads(line)["scores"] for line in answer.body.splitlines()] == scores

    body = json.dumps({"instances": [{"in0": [0, 1]}, {"in0": [2, 3]}, {"in0": [15, 16]}]}).encode()
    kind = "application/json; infer_max_seqlens=2,2"
    answer = endpoint.ask(body, kind).json()["predictions"]
    vectors = numpy.array([one["embeddings"] for one in answer])
    assert vectors.shape == (3, 8)
    near, far = (numpy.linalg.norm(vectors[0] - vectors[at]) for at in (1, 2))
    assert near < far


def test_what_cannot_be_scored_is_refused(endpoint):
    for instance, words in (
        ({"in0": [99]}, "in0 holds the token id 99, which is not between 0 and 19"),
        ({"in0": ["a"]}, "in0 holds something that is no whole number"),
        ({}, "all instances must have in0, or in1, or both"),
    ):
        answer = endpoint.ask(json.dumps({"instances": [instance]}).encode(), "application/json")
        assert answer.status == 400 and words in answer.body.decode()
    assert endpoint.ask(b"1", "text/csv").status == 415


def test_known_embeddings_are_taken_and_kept(workshop):
    words = {f"w{at}": at for at in range(VOCABULARY)}
    text = "\n".join(f"{word} " + " ".join(["0.5"] * 8) for word in list(words)[:10])
    hyperparameters = {
        **SMALL, "epochs": "1", "enc0_vocab_file": "vocab.json",
        "enc0_pretrained_embedding_file": "vectors.txt",
    }  # fmt: skip
    base = workshop.opt_ml(
        hyperparameters,
        {
            "train": {"a": lines(pairs(0, 64))},
            "auxiliary": {"vectors.txt": text.encode(), "vocab.json": json.dumps(words).encode()},
        },
        "application/jsonlines",
    )
    found = workshop.train(base)
    assert found.code == 0, found.failure
    assert "10 of 20 words of enc0 have pretrained embeddings" in found.log
    weights = numpy.load(found.model / "model_algo-1")["encoders.0.tokens.weight"]
    assert (weights[:10] == 0.5).all() and not (weights[10:] == 0.5).any()


@pytest.mark.parametrize(
    ("hyperparameters", "pair", "words"),
    [
        ({"enc0_vocab_size": "1"}, {}, "'1' is not valid under any of the given schemas"),
        ({"comparator_list": "cosine"}, {}, "is not one of ['hadamard', 'concat', 'abs_diff']"),
        ({"enc1_network": "hcnn"}, {}, "'enc1_vocab_size' is a required property"),
        ({}, {"in0": [50]}, "'data.jsonl', line 1: in0 holds the token id 50"),
        ({}, {"label": 2}, "the label 2 is not between 0 and num_classes - 1 (1)"),
        ({"enc0_pretrained_embedding_file": "x"}, {}, "needs enc0_vocab_file as well"),
    ],
)
def test_what_cannot_be_learned_from_is_told(workshop, hyperparameters, pair, words):
    data = lines([{"label": 1, "in0": [1], "in1": [2], **pair}])
    found = train(workshop, {**SMALL, **hyperparameters}, train=data)
    assert found.code == 1 and words in found.failure
