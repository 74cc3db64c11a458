"""TensorFlow Serving's methods and its REST door, with a stand-in for the models themselves."""

from __future__ import annotations

import json
import sys
import types
import urllib.request
from pathlib import Path
from typing import Any
from urllib.error import HTTPError

import pytest

from clary.workloads.serving.handlers import Rejected
from clary.workloads.serving.tensorflow_defaults import ATTRIBUTES, TensorFlowServing
from clary.workloads.serving.tensorflow_examples import Unfit, classified, examples_of, regressed
from clary.workloads.serving.tensorflow_models import SavedModels
from clary.workloads.serving.tensorflow_rest import RestDoor


class Models(SavedModels):
    """Answers with what it was asked."""

    def __init__(self) -> None:
        self.default = "model"

    def answer(self, method: str, name: str, version: str | None, request: Any) -> tuple[int, Any]:
        if name == "none":
            return 404, {"error": "Servable not found for request: Latest(none)"}
        return 200, {"asked": [method, name, version, request]}

    def status(self, name: str, version: str | None) -> tuple[int, Any]:
        return 200, {"model_version_status": [{"version": "1", "state": "AVAILABLE"}]}

    def metadata(self, name: str, version: str | None) -> tuple[int, Any]:
        return 200, {"model_spec": {"name": name}}


@pytest.fixture
def door():
    door = RestDoor(Models())
    yield door
    door.close()


def ask(uri: str, body: bytes | None = None) -> tuple[int, Any]:
    try:
        with urllib.request.urlopen(uri, body, timeout=20) as answer:
            return answer.status, json.loads(answer.read())
    except HTTPError as problem:
        with problem:
            return problem.code, json.loads(problem.read())


def test_the_door_passes_a_request_to_the_method_that_its_path_names(door):
    request = {"instances": [1]}
    body = json.dumps(request).encode()
    asked = ask(door.uri("half", None, "predict"), body)
    assert asked == (200, {"asked": ["predict", "half", None, request]})
    asked = ask(door.uri("half", "3", "regress"), body)
    assert asked == (200, {"asked": ["regress", "half", "3", request]})
    place = f"http://localhost:{door.port}/v1/models/half"
    assert ask(place)[1]["model_version_status"][0]["state"] == "AVAILABLE"
    assert ask(f"{place}/metadata") == (200, {"model_spec": {"name": "half"}})


def test_the_door_says_what_it_cannot_do(door):
    assert ask(door.uri("none", None, "predict"), b"{}") == (
        404,
        {"error": "Servable not found for request: Latest(none)"},
    )
    status, told = ask(door.uri("half", None, "predict"), b"{")
    assert status == 400 and told["error"].startswith("JSON Parse error")
    assert ask(f"http://localhost:{door.port}/v2/models/half", b"{}")[0] == 404
    assert ask(f"http://localhost:{door.port}/v1/models/half:predict")[0] == 404


HANDLER = """
import urllib.request

def handler(data, context):
    assert context.method == "classify", context
    with urllib.request.urlopen(context.rest_uri, data.read(), timeout=20) as answer:
        return answer.read(), context.accept_header
"""


def test_a_handler_of_its_own_asks_the_models_at_the_rest_uri():
    module = types.ModuleType("inference")
    exec(HANDLER, module.__dict__)
    serving = TensorFlowServing(Models(), module)
    headers = {ATTRIBUTES: "tfs-method=classify,tfs-model-name=half,tfs-model-version=2"}
    status, kind, content = serving.invoke(b'{"examples": []}', "application/json", "*/*", headers)
    assert (status, kind) == (200, "application/json")
    assert json.loads(content) == {"asked": ["classify", "half", "2", {"examples": []}]}
    assert serving._rest is not None
    serving._rest[1].close()


def test_the_method_of_the_custom_attributes_is_asked_and_others_are_refused():
    serving = TensorFlowServing(Models(), None)
    headers = {ATTRIBUTES: "tfs-method=regress"}
    _, _, content = serving.invoke(b'{"examples": [1]}', "application/json", "", headers)
    assert json.loads(content)["asked"] == ["regress", "model", None, {"examples": [1]}]
    assert serving._rest is None  # only scripts need it
    with pytest.raises(Rejected, match="use one of classify, predict, regress"):
        serving.invoke(b"{}", "application/json", "", {ATTRIBUTES: "tfs-method=guess"})


def _made(kind: str) -> Any:
    return lambda **given: (kind, given["value"])


class Example:
    """Stands for tf.train.Example."""

    def __init__(self, features: Any) -> None:
        self.features = features

    def SerializeToString(self) -> Any:
        return self.features


TENSORFLOW = types.SimpleNamespace(
    train=types.SimpleNamespace(
        Example=Example,
        Features=lambda feature: feature,
        Feature=lambda **one: next(iter(one.values())),
        BytesList=_made("bytes"),
        Int64List=_made("int64"),
        FloatList=_made("float"),
    )
)


def test_features_have_the_type_of_their_json():
    request = {
        "context": {"shop": "a", "x": 9},
        "examples": [{"x": 1}, {"x": [1, 2.5], "picture": {"b64": "aGk="}, "empty": []}],
    }
    made: Any = examples_of(TENSORFLOW, request)
    assert made[0] == {"shop": ("bytes", [b"a"]), "x": ("int64", [1])}
    assert made[1] == {
        "shop": ("bytes", [b"a"]),
        "x": ("float", [1, 2.5]),
        "picture": ("bytes", [b"hi"]),
        "empty": ("int64", []),
    }


@pytest.mark.parametrize(
    "request_",
    [[], {}, {"examples": []}, {"examples": [1]}, {"examples": [{}], "context": 1},
     {"examples": [{"x": ["a", 1]}]}, {"examples": [{"x": {"b64": "?"}}]},
     {"examples": [{"x": None}]}],
)  # fmt: skip
def test_examples_of_another_form_are_refused(request_):
    with pytest.raises(Unfit):
        examples_of(TENSORFLOW, request_)


def test_labels_come_with_their_scores_and_a_regression_is_one_value_a_row():
    both = {"classes": [["a", "b"], ["a", "b"]], "scores": [[0.9, 0.1], [0.2, 0.8]]}
    assert classified(both) == [[["a", 0.9], ["b", 0.1]], [["a", 0.2], ["b", 0.8]]]
    assert classified({"scores": [0.5]}) == [[["", 0.5]]]
    assert classified({"classes": [["a"]]}) == [[["a", 0.0]]]
    assert regressed({"outputs": [[1.5], [2.5]]}) == regressed({"outputs": [1.5, 2.5]})
    for outputs, answer in (({}, classified), ({}, regressed), ({"outputs": [[1, 2]]}, regressed)):
        with pytest.raises(Unfit):
            answer(outputs)


def test_a_folder_without_a_model_names_what_is_missing(tmp_path: Path, monkeypatch):
    monkeypatch.setitem(sys.modules, "tensorflow", TENSORFLOW)
    with pytest.raises(ValueError, match=r"must have a folder such as model/1"):
        SavedModels(tmp_path, {})
