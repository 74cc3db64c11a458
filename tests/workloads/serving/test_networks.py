"""The PyTorch and Hugging Face defaults, in the Hugging Face image's own environment."""

from __future__ import annotations

import io
import json
import os
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy
import pytest

from clary.images import build, catalogue, hugging_face
from clary.images.environment import Environment
from clary.images.uv import EnvironmentFailed
from clary.settings import Settings

from .conftest import Server
from .test_multi_model import call, load

IMAGE = "huggingface-pytorch-inference:2.1.0-transformers4.37.0-cpu-py310-ubuntu22.04"
BUILD_SECONDS = 280
SERVER_ENVIRONMENT = {
    "OMP_NUM_THREADS": "1",
    "OPENBLAS_NUM_THREADS": "1",
    "MKL_NUM_THREADS": "1",
    "JE_ARROW_MALLOC_CONF": "background_thread:false",
}

MAKE = """
import importlib, json, os, sys
folder = sys.argv[1]
threads = {}
for name in sys.argv[2:]:
    importlib.import_module(name)
    threads[name] = len(os.listdir("/proc/self/task"))
with open(os.path.join(folder, "threads.json"), "w") as file:
    json.dump(threads, file)

import torch
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import BertConfig, BertForSequenceClassification, PreTrainedTokenizerFast

total = torch.jit.trace(lambda x: x.sum(dim=1) * 2, torch.ones(2, 2))
for name in ("torch", "text", "script/code", "nothing", "two"):
    os.makedirs(os.path.join(folder, name))
total.save(os.path.join(folder, "torch", "model.pth"))
total.save(os.path.join(folder, "two", "a.pt"))
torch.save({"weight": torch.ones(2)}, os.path.join(folder, "two", "b.pt"))
torch.save({"weight": torch.full((2,), 3.0)}, os.path.join(folder, "script", "model.pth"))
torch.manual_seed(1)
words = {word: at for at, word in enumerate("[PAD] [UNK] [CLS] [SEP] good bad film".split())}
tokenizer = Tokenizer(models.WordLevel(words, unk_token="[UNK]"))
tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
fast = PreTrainedTokenizerFast(tokenizer_object=tokenizer, pad_token="[PAD]", unk_token="[UNK]")
fast.save_pretrained(os.path.join(folder, "text"))
config = BertConfig(vocab_size=len(words), hidden_size=8, num_hidden_layers=1,
                    num_attention_heads=2, intermediate_size=8, id2label={0: "no", 1: "yes"},
                    label2id={"no": 0, "yes": 1})
BertForSequenceClassification(config).save_pretrained(os.path.join(folder, "text"))
"""

SCRIPT = """
import os, torch

def model_fn(model_dir):
    weights = torch.load(os.path.join(model_dir, "model.pth"))
    layer = torch.nn.Linear(2, 1, bias=False)
    layer.weight.data = weights["weight"].reshape(1, 2)
    return layer

def output_fn(prediction, accept):
    for value in prediction.flatten().tolist():
        yield "%g " % value
"""


def environment() -> Environment:
    """The one environment that all tests here share."""
    return catalogue.resolve(IMAGE, Settings.load()).environment


@pytest.fixture(scope="module")
def python() -> str:
    """The Python of the image's environment, which is built first if it is not there."""
    try:
        place = build.build(environment(), Settings.load(), timeout_seconds=BUILD_SECONDS)
    except EnvironmentFailed as problem:
        pytest.skip(f"The image's environment cannot be built here: {problem}")
    return str(place / "bin" / "python")


@pytest.fixture(scope="module")
def models(python: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with small models that the environment itself has saved."""
    folder = tmp_path_factory.mktemp("networks")
    made = subprocess.run(
        [python, "-W", "ignore", "-c", MAKE, str(folder), *hugging_face.PRELOAD],
        # As the fork server preloads.
        env={**os.environ, **SERVER_ENVIRONMENT},
        capture_output=True,
        text=True,
        check=False,
    )
    assert not made.returncode, made.stderr
    (folder / "script" / "code" / "inference.py").write_text(SCRIPT)
    return folder


def test_importing_what_is_preloaded_starts_no_thread(models: Path) -> None:
    # A thread would not live on in the forks of the process that has preloaded.
    threads = json.loads((models / "threads.json").read_text())
    assert set(threads) == set(hugging_face.PRELOAD)
    assert [name for name, count in threads.items() if count > 1] == []


def test_torchscript_is_served_without_a_script_and_beside_others(
    start: Callable[..., Server], python: str, models: Path
) -> None:
    server = start(
        None,
        python=python,
        SAGEMAKER_MULTI_MODEL="true",
        CLARY_SERVING_FRAMEWORK="pytorch",
        PYTHONWARNINGS="",
    )
    assert load(server, "sum", models / "torch")[0] == 200
    asked = server_ask(server, "sum")
    assert asked(b"[[1, 2], [3, 4]]", "application/json") == (200, [6.0, 14.0])
    assert asked(b"1,2\n3,4", "text/csv") == (200, [6.0, 14.0])
    out = io.BytesIO()
    numpy.save(out, numpy.array([[1, 2]], dtype="i8"))
    assert asked(out.getvalue(), "application/x-npy") == (200, [6])
    assert asked(b"x", "image/png")[0] == 415
    assert asked(b'[["a"]]', "application/json")[0] == 400
    # A script of the model's own stands beside the defaults, and may stream.
    assert load(server, "script", models / "script")[0] == 200
    assert server_ask(server, "script", plain=True)(b"[[1, 2], [3, 4]]", "application/json") == (
        200,
        b"2\r\n9 \r\n3\r\n21 \r\n0\r\n\r\n",
    )
    for name, words in (("nothing", b"Exactly one"), ("two", b"Exactly one")):
        status, body = load(server, name, models / name)
        assert status == 500 and words in body
    assert call(server, "GET", "/models/two")[0] == 404


def test_a_text_classifier_is_served_without_a_script(
    start: Callable[..., Server], python: str, models: Path, tmp_path: Path
) -> None:
    (tmp_path / "model").rmdir()
    (tmp_path / "model").symlink_to(models / "text")
    server = start(None, python=python, CLARY_SERVING_FRAMEWORK="huggingface", PYTHONWARNINGS="")
    status, kind, body = server.ask(b'{"inputs": ["good film", "bad film"]}', "application/json")
    assert (status, kind) == (200, "application/json")
    found = json.loads(body)
    assert len(found) == 2 and {row["label"] for row in found} <= {"yes", "no"}
    body = b'{"inputs": "good film", "parameters": {"top_k": 2}}'
    both = json.loads(server.ask(body, "application/json")[2])
    assert sum(row["score"] for row in both) == pytest.approx(1.0, abs=1e-5)
    lines = server.ask(b"inputs\ngood film\nbad film\n", "text/csv", "text/csv")[2].decode()
    assert lines.splitlines()[0] == "label,score" and len(lines.splitlines()) == 3
    assert server.ask(b"{", "application/json")[0] == 400
    assert server.ask(b"x", "application/pdf")[0] == 415


def server_ask(
    server: Server, name: str, *, plain: bool = False
) -> Callable[[bytes, str], tuple[int, Any]]:
    def asked(body: bytes, kind: str) -> tuple[int, Any]:
        head = (
            f"POST /models/{name}/invoke HTTP/1.1\r\nHost: x\r\nConnection: close\r\n"
            f"Content-Type: {kind}\r\nContent-Length: {len(body)}\r\n\r\n"
        )
        answer = server.send(head.encode() + body)
        status = int(answer.split()[1])
        content = answer.partition(b"\r\n\r\n")[2]
        return status, content if plain or status != 200 else json.loads(content)

    return asked
