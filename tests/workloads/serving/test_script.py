"""Users' inference scripts: signatures, defaults, contents and errors."""

from __future__ import annotations

import io
import json
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy
import pytest

from clary.workloads.serving.batching import Ticket, answer
from clary.workloads.serving.script import RowsHandler, ScriptError, make_handler


class Sum:
    """A model of the user's own class."""

    def predict(self, rows: Any) -> Any:
        return rows.sum(axis=1)


def script(**functions: Any) -> ModuleType:
    module = ModuleType("inference")
    module.__dict__.update(functions)
    return module


def ask(
    handler: Any,
    body: bytes,
    kind: str = "text/csv",
    accept: str = "*/*",
    headers: dict[str, str] | None = None,
) -> tuple[int, str, bytes]:
    ticket = Ticket(body, kind, accept, headers or {}, lambda found: None)
    folding = bool(getattr(handler, "batchable", False))
    return answer(handler, [ticket], batching=folding)[0]


def sklearn(**functions: Any) -> Any:
    return make_handler(script(**{"model_fn": lambda d: Sum(), **functions}), "/m", "sklearn")


def test_the_defaults_of_scikit_learn_read_and_write_every_type() -> None:
    handler = sklearn()
    assert ask(handler, b"1,2\n3,4", accept="text/csv") == (200, "text/csv", b"3.0\n7.0\n")
    assert ask(handler, b"[[1, 2], [3, 4]]", "application/json") == (
        200,
        "application/json",
        b"[3.0, 7.0]",
    )
    assert ask(handler, b"[1, 2]", "application/json")[2] == b"[3.0]"
    npy = io.BytesIO()
    numpy.save(npy, numpy.array([[1.5, 2.5]]))
    found = ask(handler, npy.getvalue(), "application/x-npy", "application/x-npy")
    assert numpy.load(io.BytesIO(found[2])).tolist() == [4.0]
    lines = ask(handler, b"[1,2]\n[3,4]\n", "application/jsonlines", "application/jsonlines")
    assert lines[2] == b"3\n7\n"


def test_text_becomes_float32_as_in_the_public_image() -> None:
    seen: list[Any] = []
    handler = sklearn(predict_fn=lambda data, model: seen.append(data) or data[:, 0])
    ask(handler, b"1,2")
    ask(handler, b"[[1,2]]", "application/json")
    assert [data.dtype for data in seen] == [numpy.float32, numpy.float32]


@pytest.mark.parametrize(
    ("body", "kind", "accept", "status", "words"),
    [
        (b"1,2", "image/png", "*/*", 415, b"Content type image/png is not supported"),
        (b"1,2", "", "*/*", 415, b"Content type (none) is not supported"),
        (b"1,2", "text/csv", "image/png", 406, b"Accept type image/png is not supported"),
        (b"", "text/csv", "*/*", 400, b"The request body is empty"),
        (b"1,2\n3", "text/csv", "*/*", 400, b"line 2 of the CSV has 1 columns"),
        (b"1,cat", "text/csv", "*/*", 400, b"line 1, column 2 of the CSV is not a number: 'cat'"),
        (b"\x89PNG\x00\xff\xfe", "text/csv", "*/*", 400, b"is not UTF-8"),
        (b"{broken", "application/json", "*/*", 400, b"The request body is not application/json"),
        (b'[["a", "b"]]', "application/json", "*/*", 400, b"The request holds text"),
        (b'{"a": 1}', "application/json", "*/*", 400, b"not application/json"),
        (b"\x93NUMPY\x01", "application/x-npy", "*/*", 400, b"not application/x-npy"),
    ],
)
def test_bad_requests_are_told_what_is_wrong(
    body: bytes, kind: str, accept: str, status: int, words: bytes
) -> None:
    found = ask(sklearn(), body, kind, accept)
    assert found[0] == status
    assert words in found[2]


def test_a_pickled_array_is_never_loaded() -> None:
    npy = io.BytesIO()
    numpy.save(npy, numpy.array([{"a": 1}], dtype=object), allow_pickle=True)
    assert ask(sklearn(), npy.getvalue(), "application/x-npy")[0] == 400


@pytest.mark.parametrize(
    ("accept", "kind"),
    [
        ("application/json;q=0.5, text/csv", "text/csv"),
        ("image/png, application/*", "application/json"),
        ("text/*", "text/csv"),
        ("text/csv;q=0, */*;q=0.1", "application/json"),
        ("", "application/json"),
    ],
)
def test_the_accept_header_is_weighed(accept: str, kind: str) -> None:
    assert ask(sklearn(), b"1,2", accept=accept)[:2] == (200, kind)


def test_functions_with_and_without_context_are_called_rightly() -> None:
    calls: list[Any] = []

    def input_fn(body: str, kind: str, context: Any) -> str:
        calls.append((body, kind, context.get_request_header(0, "X-Who")))
        return body

    handler = make_handler(
        script(
            model_fn=lambda model_dir, context: context.system_properties["model_dir"],
            input_fn=input_fn,
            predict_fn=lambda data, model: data + model,
            output_fn=lambda found, accept, *, context=None: (found + accept, "a/b"),
        ),
        "/m",
        "none",
    )
    found = ask(handler, b"hi", "application/json", "x/y", {"x-who": "me"})
    assert found == (200, "a/b", b"hi/mx/y")
    assert calls == [("hi", "application/json", "me")]


def test_transform_fn_does_everything_and_may_set_the_status() -> None:
    def transform_fn(model: Any, body: Any, kind: str, accept: str, context: Any) -> bytes:
        context.set_response_status(code=201)
        context.set_response_content_type(0, "x/z")
        return body + accept.encode()

    handler = make_handler(
        script(model_fn=lambda d: None, transform_fn=transform_fn), "/m", "sklearn"
    )
    assert ask(handler, b"\x00", "application/octet-stream") == (
        201,
        "x/z",
        b"\x00application/json",
    )
    plain = make_handler(
        script(model_fn=lambda d: 5, transform_fn=lambda m, b, c, a: f"{m}{b}{c}{a}"), "/m", "none"
    )
    assert ask(plain, b"1", "text/csv", "q/r")[2] == b"51text/csvq/r"


def test_scripts_that_cannot_serve_say_why() -> None:
    with pytest.raises(ScriptError, match="Cannot use transform_fn implementation"):
        sklearn(transform_fn=print, input_fn=print)
    with pytest.raises(NotImplementedError, match="Please provide a model_fn implementation"):
        make_handler(script(), "/m", "sklearn")
    with pytest.raises(ScriptError, match="must define model_fn"):
        make_handler(script(), "/m", "none")
    with pytest.raises(ScriptError, match="must define predict_fn, output_fn"):
        make_handler(script(model_fn=lambda d: 1, input_fn=print), "/m", "none")


def test_an_output_that_is_neither_text_nor_bytes_is_explained() -> None:
    found = ask(sklearn(output_fn=lambda prediction, accept: prediction), b"1,2")
    assert found[0] == 500
    assert b"output_fn returned ndarray; it must return text or bytes" in found[2]
    assert ask(sklearn(output_fn=lambda prediction, accept: None), b"1,2")[::2] == (200, b"")


def test_an_error_in_the_users_function_is_500_with_its_type() -> None:
    def predict_fn(data: Any, model: Any) -> Any:
        raise KeyError("feature_7")

    assert ask(sklearn(predict_fn=predict_fn), b"1")[::2] == (500, b"KeyError: 'feature_7'")


def test_only_known_libraries_are_folded() -> None:
    from sklearn.linear_model import LinearRegression

    model = LinearRegression().fit(numpy.eye(2), numpy.array([1.0, 2.0]))
    assert isinstance(sklearn(model_fn=lambda d: model), RowsHandler)
    assert not isinstance(sklearn(), RowsHandler)
    own = sklearn(model_fn=lambda d: model, predict_fn=lambda data, model: data)
    assert not isinstance(own, RowsHandler)


def test_the_users_input_and_output_functions_still_fold() -> None:
    from sklearn.linear_model import LinearRegression

    model = LinearRegression().fit(numpy.eye(2), numpy.array([1.0, 2.0]))
    handler = sklearn(
        model_fn=lambda d: model,
        input_fn=lambda body, kind: numpy.array(json.loads(body)["rows"]),
        output_fn=lambda found, accept: json.dumps({"out": [round(v, 6) for v in found.tolist()]}),
    )
    assert handler.inline is False
    tickets = [
        Ticket(b'{"rows": [[%d, 0]]}' % n, "application/json", "*/*", {}, print) for n in (0, 1)
    ]
    found = [json.loads(body) for _, _, body in answer(handler, tickets)]
    alone = [json.loads(answer(handler, [ticket])[0][2]) for ticket in tickets]
    assert found == alone
    assert found[0] != found[1]


def test_a_real_model_is_served_over_a_socket(start, tmp_path: Path) -> None:
    import joblib
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    random = numpy.random.default_rng(0)
    rows = random.normal(size=(200, 5)).astype("f4")
    model = make_pipeline(StandardScaler(), LogisticRegression()).fit(rows, rows[:, 0] > 0)
    code = tmp_path / "model" / "code"
    code.mkdir(parents=True)
    joblib.dump(model, tmp_path / "model" / "model.joblib")
    (code / "inference.py").write_text(
        "import joblib, os\n"
        "def model_fn(model_dir):\n"
        "    return joblib.load(os.path.join(model_dir, 'model.joblib'))\n"
        "def execution_parameters_fn():\n"
        "    return {'MaxConcurrentTransforms': 2}\n"
    )
    server = start(
        None, SAGEMAKER_PROGRAM="inference.py", CLARY_SERVING_FRAMEWORK="sklearn", PYTHONWARNINGS=""
    )
    body = "\n".join(",".join(map(repr, row)) for row in rows.tolist()).encode()
    found = server.ask(body, accept="text/csv")
    assert found[0] == 200
    assert found[2].decode().split() == [str(value) for value in model.predict(rows)]
    for at in range(20):
        line = ",".join(map(repr, rows[at].tolist())).encode()
        assert server.ask(line)[2] == json.dumps(model.predict(rows[at : at + 1]).tolist()).encode()
    assert server.status("/execution-parameters") == 200
    assert server.ask(b"1,2,3")[0] == 500
    assert b"features" in server.ask(b"1,2,3")[2]


def test_xgboost_scripts_get_a_matrix_and_are_folded_alike() -> None:
    xgboost = pytest.importorskip("xgboost")
    random = numpy.random.default_rng(1)
    rows = random.normal(size=(100, 4)).astype("f4")
    booster = xgboost.train(
        {"objective": "binary:logistic"},
        xgboost.DMatrix(rows, label=(rows[:, 0] > 0).astype(int)),
        num_boost_round=5,
    )
    handler = make_handler(script(model_fn=lambda d: booster), "/m", "xgboost")
    bodies = [",".join(map(repr, row)).encode() for row in rows[:8].tolist()]
    tickets = [Ticket(body, "text/csv", "text/csv", {}, print) for body in bodies]
    expected = booster.predict(xgboost.DMatrix(rows[:8])).tolist()
    for found in (answer(handler, tickets), [answer(handler, [t])[0] for t in tickets]):
        assert [float(body) for _, _, body in found] == pytest.approx(expected)
    assert ask(handler, b"0 0:1.5 3:2", "text/libsvm")[0] == 200
    own = make_handler(
        script(model_fn=lambda d: booster, predict_fn=lambda data, model: model.predict(data)),
        "/m",
        "xgboost",
    )
    assert ask(own, bodies[0])[0] == 200
    assert ask(own, b"x", "image/png")[0] == 415


def test_a_script_is_imported_from_its_folder(tmp_path: Path, monkeypatch: Any) -> None:
    from clary.workloads.serving.script import load_script

    monkeypatch.setattr(sys, "path", list(sys.path))
    (tmp_path / "served_here.py").write_text(
        "def model_fn(d):\n    return d\n"
        "def transform_fn(model, body, kind, accept):\n    return 'from ' + model\n"
    )
    environ = {
        "SAGEMAKER_PROGRAM": "served_here.py",
        "SAGEMAKER_SUBMIT_DIRECTORY": f"file://{tmp_path}",
    }
    assert ask(load_script("/m", "none", environ), b"")[2] == b"from /m"
    with pytest.raises(ScriptError, match="does not exist"):
        load_script("/m", "none", {"SAGEMAKER_PROGRAM": "x", "SAGEMAKER_SUBMIT_DIRECTORY": "/no"})
    with pytest.raises(ScriptError, match="SAGEMAKER_PROGRAM must name"):
        load_script("/m", "none", {})
