"""Seq2Seq: sequences are learned to be said backwards, and answers come as text and as records."""

from __future__ import annotations

import json
import re
import struct

import numpy
import pytest
from algorithm_contract import WarmParent, Workshop
from first_party_contract import image, metric

from clary.workloads.algorithms.seq2seq.bleu import bleu
from clary.workloads.formats import protobuf_wire as wire
from clary.workloads.formats import recordio_protobuf

NAME = "seq2seq"
RECORDIO = "application/x-recordio-protobuf"
WORDS = 8
MARKS = {"<pad>": 0, "<unk>": 1, "<s>": 2, "</s>": 3}
VOCABULARY = {**MARKS, **{f"w{at}": len(MARKS) + at for at in range(WORDS)}}
SMALL = {
    "num_embed_source": "16", "num_embed_target": "16", "rnn_num_hidden": "32",
    "cnn_num_hidden": "32", "batch_size": "32", "max_num_epochs": "5", "learning_rate": "0.01",
    "checkpoint_frequency_num_batches": "80", "max_seq_len_source": "8", "max_seq_len_target": "8",
    "bucket_width": "3", "beam_size": "3", "bleu_sample_size": "-1",
}  # fmt: skip
QUICK = {**SMALL, "max_num_epochs": "1", "bleu_sample_size": "0"}


def record(**features: list[int]) -> bytes:
    """One RecordIO record with int32 tensors, as SageMaker's example writes them."""
    payload = b""
    for name, ids in features.items():
        tensor = wire.chunk(7, wire.chunk(1, b"".join(map(wire.varint, ids))))
        payload += wire.chunk(1, wire.chunk(1, name.encode()) + wire.chunk(2, tensor))
    return struct.pack("<II", 0xCED7230A, len(payload)) + payload + bytes(-len(payload) % 4)


def sentences(seed: int, count: int) -> list[list[int]]:
    random = numpy.random.default_rng(seed)
    lengths = random.integers(2, 6, count)
    return [(len(MARKS) + random.integers(0, WORDS, one)).tolist() for one in lengths]


def backwards(seed: int, count: int) -> bytes:
    return b"".join(record(source=one, target=one[::-1]) for one in sentences(seed, count))


@pytest.fixture(scope="module")
def workshop(tmp_path_factory):
    parent = WarmParent(image(NAME))
    yield Workshop(NAME, parent, tmp_path_factory.mktemp(NAME))
    parent.close()


def train(workshop, hyperparameters, training, validation=None, vocabulary=VOCABULARY):
    words = json.dumps(vocabulary).encode()
    channels = {
        "train": {"train.rec": training},
        "validation": {"val.rec": backwards(1, 100) if validation is None else validation},
        "vocab": {"vocab.src.json": words, "vocab.trg.json": words},
    }
    return workshop.train(workshop.opt_ml(hyperparameters, channels, RECORDIO))


@pytest.fixture(scope="module")
def trained(workshop):
    found = train(workshop, {**SMALL, "max_num_epochs": "8"}, backwards(0, 1000))
    assert found.code == 0, found.log + found.failure
    return found


@pytest.fixture(scope="module")
def endpoint(workshop, trained):
    endpoint = workshop.serve(trained.model)
    yield endpoint
    endpoint.close()


def text(ids: list[int]) -> str:
    return " ".join(f"w{one - len(MARKS)}" for one in ids)


def test_held_out_sequences_are_said_backwards(trained):
    (accuracy,) = metric(trained.log, NAME, "validation:accuracy")
    (perplexity,) = metric(trained.log, NAME, "validation:perplexity")
    (score,) = metric(trained.log, NAME, "validation:bleu")
    assert accuracy > 0.98 and score > 0.95 and 1 <= perplexity < 1.1
    every = r"epoch=\d+, validation perplexity <loss>=(\S+)"
    assert min(map(float, re.findall(every, trained.log))) == perplexity


@pytest.mark.parametrize(
    "network",
    [
        {"encoder_type": "cnn", "decoder_type": "cnn", "num_layers_decoder": "2"},
        {
            "rnn_cell_type": "gru", "rnn_attention_type": "bilinear", "num_layers_encoder": "2",
            "num_layers_decoder": "2", "rnn_residual_connections": "true",
        },
    ],
    ids=["convolutions", "two gated layers"],
)  # fmt: skip
def test_other_networks_learn_it_as_well(workshop, network):
    found = train(workshop, {**QUICK, "max_num_epochs": "3", **network}, backwards(0, 1000))
    assert found.code == 0, found.log + found.failure
    assert metric(found.log, NAME, "validation:accuracy")[0] > 0.9
    assert metric(found.log, NAME, "validation:bleu") == []


@pytest.mark.parametrize(
    "given",
    [
        {"rnn_attention_type": "fixed", "rnn_decoder_state_init": "avg", "weight_decay": "0.001"},
        {"rnn_attention_type": "dot", "rnn_decoder_state_init": "zero", "optimizer_type": "sgd",
         "momentum": "0.9", "lr_scheduler_type": "fixed_rate_inv_t"},
        {"encoder_type": "cnn", "cnn_kernel_width_encoder": "2", "optimizer_type": "rmsprop",
         "cnn_activation_type": "softrelu",
         "lr_scheduler_type": "fixed_rate_inv_sqrt_t", "bucketing_enabled": "false"},
        {"decoder_type": "cnn", "weight_init_type": "uniform", "weight_init_scale": "0.1",
         "training_metric": "accuracy", "optimized_metric": "bleu", "cnn_hidden_dropout": "0.1"},
        {"rnn_attention_in_upper_layers": "false", "num_layers_decoder": "2",
         "xavier_factor_type": "avg", "embed_dropout_source": "0.1",
         "embed_dropout_target": "0.1", "rnn_decoder_hidden_dropout": "0.1"},
    ],
)  # fmt: skip
def test_every_choice_trains_and_serves(workshop, given):
    hyperparameters = {**QUICK, **given}
    found = train(workshop, hyperparameters, backwards(0, 64), backwards(1, 8))
    assert found.code == 0, found.log + found.failure
    assert metric(found.log, NAME, "validation:perplexity")[0] < 100
    bleus = metric(found.log, NAME, "validation:bleu")
    assert len(bleus) == (1 if "optimized_metric" in given else 0)
    assert "train accuracy <score>=" in found.log or "training_metric" not in given
    endpoint = workshop.serve(found.model)
    answer = endpoint.ask(b'{"source": "w1 w2"}', "application/jsonlines")
    endpoint.close()
    assert answer.status == 200 and list(json.loads(answer.body)) == ["target"]


def test_text_is_answered_with_text_and_the_attention(endpoint):
    sources = sentences(7, 6)
    instances = [{"data": text(one)} for one in sources]
    request = {"instances": instances, "configuration": {"attention_matrix": "true"}}
    answer = endpoint.ask(json.dumps(request).encode(), "application/json")
    predictions = answer.json()["predictions"]
    assert [one["target"] for one in predictions] == [text(one[::-1]) for one in sources]
    for one, source in zip(predictions, sources, strict=True):
        matrix = numpy.array(one["matrix"])
        assert matrix.shape == (len(source), len(source))
        assert matrix.sum(axis=1) == pytest.approx(1)
    del request["configuration"]
    plain = endpoint.ask(json.dumps(request).encode(), "application/json")
    assert plain.json() == {"predictions": [{"target": one["target"]} for one in predictions]}


def test_json_lines_and_records_are_answered_in_kind(endpoint):
    sources = sentences(8, 3)
    body = "\n".join(json.dumps({"source": text(one)}) for one in sources).encode()
    lines = endpoint.ask(body, "application/jsonlines")
    assert lines.content_type == "application/jsonlines"
    wanted = [text(one[::-1]) for one in sources]
    assert [json.loads(line) for line in lines.body.splitlines()] == [
        {"target": one} for one in wanted
    ]
    records = endpoint.ask(b"".join(record(source=one, target=[]) for one in sources), RECORDIO)
    found = list(recordio_protobuf.read_records(records.body))
    assert [one.features["target"].values.tolist() for one in found] == [
        one[::-1] for one in sources
    ]


def test_unknown_words_are_translated_as_unknown_ones(endpoint):
    answer = endpoint.ask(b'{"instances": [{"data": "w1 never"}]}', "application/json")
    assert answer.status == 200


@pytest.mark.parametrize(
    ("body", "words"),
    [
        (b'{"instances": [{"data": ""}]}', "a source with at least one word"),
        (b'{"instances": [{"text": "w1"}]}', "'data' is missing"),
        (b'{"instances": [{"data": 1}]}', "a source must be text"),
        (b"[]", 'an object with a list "instances"'),
    ],
)
def test_what_cannot_be_translated_is_refused(endpoint, body, words):
    answer = endpoint.ask(body, "application/json")
    assert answer.status == 400 and words in answer.body.decode()


def test_other_content_types_are_refused(endpoint):
    assert endpoint.ask(b"1", "text/csv").status == 415
    assert endpoint.ask(b"{}", "application/json", "text/csv").status == 406


def test_training_ends_where_nothing_gets_better(workshop):
    hyperparameters = {
        **QUICK, "max_num_epochs": "50", "checkpoint_frequency_num_batches": "1",
        "checkpoint_threshold": "2", "plateau_reduce_lr_threshold": "1", "learning_rate": "0.5",
    }  # fmt: skip
    found = train(workshop, hyperparameters, backwards(0, 64), backwards(1, 8))
    assert "validation perplexity has not improved for 2 checkpoints" in found.log
    assert "learning rate reduced to 0.25" in found.log


def test_max_num_batches_ends_the_training(workshop):
    hyperparameters = {
        **QUICK, "max_num_epochs": "9", "max_num_batches": "3", "batch_size": "4",
        "momentum": "0.9", "cnn_kernel_width_encoder": "2",
    }  # fmt: skip
    found = train(workshop, hyperparameters, backwards(0, 64), backwards(1, 8))
    assert "Checkpoint [1] Updates=3 Epoch=0" in found.log and "Checkpoint [2]" not in found.log
    assert "Hyperparameter momentum=0.9 has no effect here: adam has" in found.log
    assert "Hyperparameter cnn_kernel_width_encoder=2 has no effect here: there is no" in found.log


@pytest.mark.parametrize(
    ("hyperparameters", "training", "vocabulary", "words"),
    [
        ({"rnn_num_hidden": "31"}, b"", VOCABULARY, "rnn_num_hidden must be even"),
        ({"rnn_cell_type": "rnn"}, b"", VOCABULARY, "'rnn' is not one of ['lstm', 'gru']"),
        ({"batch_size": "0"}, b"", VOCABULARY, "'0' is not valid under any of the given schemas"),
        ({"no_such": "1"}, b"", VOCABULARY, "Additional properties are not allowed ('no_such'"),
        ({}, b"", VOCABULARY, "No training data processed"),
        ({}, b"", {"w0": 4}, "'vocab.src.json' of channel 'vocab': the vocabulary has no <pad>"),
        (
            {},
            record(source=[5], target=[6]) + record(source=[99], target=[4]),
            VOCABULARY,
            "'train.rec', record 2: source holds the token id 99, which is not between 0 and 11",
        ),
        ({}, record(source=[5]), VOCABULARY, "record 1: the record has no feature 'target'"),
        ({}, record(source=[5], target=[2, 3]), VOCABULARY, "source or target has no words"),
        ({}, record(source=[5], target=[6])[:-5], VOCABULARY, "after record 0: the record at"),
    ],
)
def test_what_cannot_be_learned_from_is_told(
    workshop, hyperparameters, training, vocabulary, words
):
    found = train(workshop, {**QUICK, **hyperparameters}, training, vocabulary=vocabulary)
    assert found.code == 1 and words in found.failure


def test_a_missing_channel_is_told(workshop):
    found = workshop.train(workshop.opt_ml(QUICK, {"train": {"a": b"1"}}, RECORDIO))
    assert found.code == 1 and "Missing required channel: validation" in found.failure


def test_bleu_is_that_of_a_whole_corpus():
    reference = [1, 2, 3, 4, 5]
    assert bleu([reference], [reference]) == 1
    assert bleu([[9, 9, 9, 9]], [reference]) == 0
    # Five, four, three and two of its sequences are shared with the reference.
    shares = numpy.array([5 / 6, 4 / 5, 3 / 4, 2 / 3])
    assert bleu([[1, 2, 3, 4, 5, 9]], [reference]) == pytest.approx(shares.prod() ** 0.25)
    # A translation that is too short pays for it.
    assert bleu([[1, 2, 3, 4]], [reference]) == pytest.approx(numpy.exp(-0.25))


def test_a_training_that_was_interrupted_ends_as_if_it_had_not_been(workshop):
    words = json.dumps(VOCABULARY).encode()
    channels = {
        "train": {"train.rec": backwards(0, 200)},
        "validation": {"val.rec": backwards(1, 30)},
        "vocab": {"vocab.src.json": words, "vocab.trg.json": words},
    }
    given = {**QUICK, "checkpoint_frequency_num_batches": "3", "rnn_decoder_hidden_dropout": "0.1"}
    configured = {"checkpointconfig": {"LocalPath": "/opt/ml/checkpoints"}}

    def ended(limits: dict[str, str], kept: bytes | None = None):
        base = workshop.opt_ml({**given, **limits}, channels, RECORDIO, **configured)
        if kept is not None:
            (base / "checkpoints").mkdir(parents=True)
            (base / "checkpoints" / "checkpoint.pt").write_bytes(kept)
        return workshop.train(base), base / "checkpoints" / "checkpoint.pt"

    whole, _ = ended({"max_num_epochs": "2"})
    # Five batches of the first epoch; what was kept is from after the third.
    cut, checkpoint = ended({"max_num_epochs": "2", "max_num_batches": "5"})
    assert cut.code == 0, cut.log + cut.failure
    resumed, _ = ended({"max_num_epochs": "2"}, checkpoint.read_bytes())
    assert "Training continues after 3 batches" in resumed.log
    for name in ("validation:perplexity", "validation:accuracy"):
        assert metric(resumed.log, NAME, name) == metric(whole.log, NAME, name) != []
    broken, _ = ended({"max_num_epochs": "2"}, b"no checkpoint")
    assert broken.code == 1 and "cannot be continued" in broken.failure
