"""Many models in one process: loading, listing, invoking, and who disturbs whom."""

from __future__ import annotations

import importlib
import json
import pickle
import signal
import subprocess
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from clary.images import build, catalogue
from clary.images.uv import EnvironmentFailed
from clary.settings import Settings

from .conftest import DEADLINE, Server, parse

SCRIPT = """
import os, time
import naming
from package.inner import label

def model_fn(model_dir):
    while os.path.exists(os.path.join(model_dir, "hold")):
        open(os.path.join(model_dir, "holding"), "w").close()
        time.sleep(0.005)
    with open(os.path.join(model_dir, "name")) as file:
        return file.read()

def input_fn(body, content_type):
    return body

def predict_fn(data, model):
    if data == b"memory":
        raise MemoryError("no room for the batch")
    if data == b"hang":
        time.sleep(60)
    if data == b"crash":
        os._exit(9)
    import late
    from package import other
    return "%s %s %s %s %s" % (model, naming.NAME, label(), late.NAME, other.NAME)

def output_fn(prediction, accept):
    return prediction
"""


def make_model(folder: Path, name: str) -> Path:
    """A model whose code has modules of the same names as every other's."""
    code = folder / name / "code"
    (code / "package").mkdir(parents=True)
    (folder / name / "name").write_text(name)
    (code / "inference.py").write_text(SCRIPT)
    (code / "naming.py").write_text(f"NAME = 'naming-{name}'\n")
    (code / "late.py").write_text(f"import naming\nNAME = 'late-' + naming.NAME[7:] or '{name}'\n")
    (code / "package" / "__init__.py").write_text("")
    (code / "package" / "inner.py").write_text(
        "from . import deep\nfrom naming import NAME\ndef label():\n    return deep.LABEL + NAME\n"
    )
    (code / "package" / "deep.py").write_text(f"LABEL = 'deep-{name}-'\n")
    (code / "package" / "other.py").write_text(f"NAME = 'other-{name}'\n")
    return folder / name


def expected(name: str) -> bytes:
    return f"{name} naming-{name} deep-{name}-naming-{name} late-{name} other-{name}".encode()


TRAIN = """
import sys, numpy, xgboost
rows = numpy.random.default_rng(1).normal(size=(50, 3)).astype("f4")
for at, folder in enumerate(sys.argv[1:]):
    label = rows[:, at] * 10
    xgboost.train({"max_depth": 2}, xgboost.DMatrix(rows, label), 3).save_model(folder + "/model.json")
"""


@pytest.fixture
def many(start: Callable[..., Server]) -> Callable[..., Server]:
    """A function that starts a server for many models."""

    def begin(handler: str | None = None, **environ: str) -> Server:
        return start(
            handler,
            SAGEMAKER_MULTI_MODEL="true",
            **{"PYTHONWARNINGS": "", "CLARY_SERVING_FRAMEWORK": "sklearn", **environ},
        )

    return begin


def call(server: Server, method: str, path: str, body: bytes = b"") -> tuple[int, bytes]:
    head = (
        f"{method} {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Type: a/b\r\n"
        f"Content-Length: {len(body)}\r\n\r\n"
    )
    status, _, found = parse(server.send(head.encode() + body))
    return status, found


def load(server: Server, name: str, folder: Path | str) -> tuple[int, bytes]:
    body = json.dumps({"model_name": name, "url": str(folder)}).encode()
    return call(server, "POST", "/models", body)


def invoke(server: Server, name: str, body: bytes = b"x") -> tuple[int, bytes]:
    return call(server, "POST", f"/models/{name}/invoke", body)


def test_models_with_modules_of_the_same_names_answer_with_their_own(many, tmp_path) -> None:
    server = many()
    for name in ("a", "b"):
        assert load(server, name, make_model(tmp_path / "models", name))[0] == 200
    for _ in range(2):
        for name in ("a", "b"):
            assert invoke(server, name) == (200, expected(name))


def test_the_host_loads_lists_describes_and_unloads(many, tmp_path) -> None:
    server = many("Echo")
    assert call(server, "GET", "/models") == (200, b'{"models": []}')
    assert load(server, "m", tmp_path)[0] == 200
    assert load(server, "m", tmp_path)[0] == 409
    assert load(server, "n", tmp_path / "nowhere")[0] == 404
    described = {"modelName": "m", "modelUrl": str(tmp_path)}
    assert json.loads(call(server, "GET", "/models/m")[1]) == described
    assert json.loads(call(server, "GET", "/models")[1]) == {"models": [described]}
    assert invoke(server, "m", b"hello") == (200, b"hello")
    assert call(server, "DELETE", "/models/m")[0] == 200
    for method, path in (("GET", "/models/m"), ("DELETE", "/models/m")):
        assert call(server, method, path)[0] == 404
    assert invoke(server, "m")[0] == 404
    assert call(server, "GET", "/ping") == (200, b"")


def test_requests_that_make_no_sense_are_refused(many, tmp_path) -> None:
    server = many("Echo")
    bodies = (
        b"",
        b"[]",
        b"{}",
        b'{"model_name": 1, "url": "/"}',
        b'{"model_name": "", "url": "/"}',
    )
    for body in bodies:
        assert call(server, "POST", "/models", body)[0] == 400, body
    assert call(server, "PUT", "/models")[0] == 405
    assert call(server, "PUT", "/models/m")[0] == 405
    assert call(server, "POST", "/models/m/other")[0] == 404
    assert call(server, "POST", "/invocations")[0] == 400
    assert call(server, "GET", "/elsewhere")[0] == 404


def test_lists_come_in_pages(many, tmp_path) -> None:
    server = many("Echo")
    names = [f"model {number:03d}" for number in range(250)]
    for name in names:
        assert load(server, name, tmp_path)[0] == 200
    found, token = [], ""
    for size in (100, 100, 50):
        page = json.loads(
            call(server, "GET", f"/models?next_page_token={token.replace(' ', '%20')}")[1]
        )
        assert len(page["models"]) == size
        found += [model["modelName"] for model in page["models"]]
        token = page.get("nextPageToken", "")
    assert not token and found == names
    assert invoke(server, "model%20007", b"seven") == (200, b"seven")


def test_loading_one_model_does_not_hold_up_another(many, tmp_path) -> None:
    server = many()
    load(server, "quick", make_model(tmp_path / "models", "quick"))
    slow = make_model(tmp_path / "models", "slow")
    (slow / "hold").touch()
    statuses: list[int] = []
    loading = threading.Thread(target=lambda: statuses.append(load(server, "slow", slow)[0]))
    loading.start()
    try:
        end = time.monotonic() + DEADLINE
        while not (slow / "holding").exists():
            assert time.monotonic() < end
            time.sleep(0.005)
        assert call(server, "DELETE", "/models/slow")[0] == 409
        assert load(server, "slow", slow)[0] == 409
        assert invoke(server, "slow")[0] == 404
        assert invoke(server, "quick") == (200, expected("quick"))
        assert call(server, "GET", "/ping")[0] == 200
    finally:
        (slow / "hold").unlink()
        loading.join(DEADLINE)
    assert statuses == [200]
    assert invoke(server, "slow") == (200, expected("slow"))


def test_a_model_that_does_not_load_is_500_and_leaves_nothing(many, tmp_path) -> None:
    server = many()
    broken = make_model(tmp_path / "models", "broken")
    (broken / "code" / "naming.py").write_text("raise RuntimeError('broken on purpose')\n")
    status, body = load(server, "broken", broken)
    assert (status, body) == (500, b"RuntimeError: broken on purpose")
    assert call(server, "GET", "/models/broken")[0] == 404
    assert load(server, "whole", make_model(tmp_path / "models", "whole"))[0] == 200
    assert invoke(server, "whole") == (200, expected("whole"))


def test_memory_that_runs_out_is_507(many, tmp_path) -> None:
    server = many(CLARY_MODELS_MEMORY_MB="400")
    big = make_model(tmp_path / "models", "big")
    with (big / "weights").open("wb") as file:
        file.truncate(500 << 20)
    status, body = load(server, "big", big)
    assert status == 507 and b"400 MiB are allowed" in body
    assert load(server, "small", make_model(tmp_path / "models", "small"))[0] == 200
    assert invoke(server, "small", b"memory") == (507, b"MemoryError: no room for the batch")
    hungry = make_model(tmp_path / "models", "hungry")
    (hungry / "code" / "naming.py").write_text("NAME = bytearray(1 << 60)\n")
    assert load(server, "hungry", hungry)[0] == 507
    assert invoke(server, "small") == (200, expected("small"))


def test_a_crash_empties_the_process_and_the_host_loads_again(many, tmp_path) -> None:
    server = many()
    folder = make_model(tmp_path / "models", "m")
    load(server, "m", folder)
    with pytest.raises((ConnectionResetError, IndexError)):
        invoke(server, "m", b"crash")
    server.wait(200)
    assert invoke(server, "m")[0] == 404
    assert load(server, "m", folder)[0] == 200
    assert invoke(server, "m") == (200, expected("m"))


def test_a_model_that_hangs_is_500_and_the_others_answer(many, tmp_path) -> None:
    server = many(SAGEMAKER_MODEL_SERVER_TIMEOUT_SECONDS="1")
    for name in ("a", "b"):
        load(server, name, make_model(tmp_path / "models", name))
    status, body = invoke(server, "a", b"hang")
    assert (status, body) == (500, b"The model did not answer within 1 seconds.")
    assert invoke(server, "b") == (200, expected("b"))
    server.process.send_signal(signal.SIGTERM)
    assert server.process.wait(DEADLINE) == 0


def test_models_of_the_environments_code_share_it_and_pickles_find_their_classes(
    many, tmp_path, monkeypatch
) -> None:
    code = tmp_path / "shared"
    code.mkdir()
    (code / "scaling.py").write_text(
        "class Scaler:\n"
        "    factor = 2\n"
        "    def predict(self, rows):\n"
        "        return (rows * self.factor).sum(axis=1)\n"
    )
    (code / "serve.py").write_text(
        "import os, pickle\n"
        "def model_fn(model_dir):\n"
        "    with open(os.path.join(model_dir, 'model.pkl'), 'rb') as file:\n"
        "        return pickle.load(file)\n"
    )
    monkeypatch.syspath_prepend(str(code))
    scaling = importlib.import_module("scaling")

    server = many(SAGEMAKER_PROGRAM="serve.py", SAGEMAKER_SUBMIT_DIRECTORY=str(code))
    for factor in (3, 5):
        folder = tmp_path / f"m{factor}"
        folder.mkdir()
        scaler = scaling.Scaler()
        scaler.factor = factor
        (folder / "model.pkl").write_bytes(pickle.dumps(scaler))
        assert load(server, f"m{factor}", folder)[0] == 200
    for factor in (3, 5):
        path = f"/models/m{factor}/invoke"
        head = f"POST {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Type: text/csv\r\n"
        answer = parse(server.send(f"{head}Content-Length: 3\r\n\r\n1,2".encode()))
        assert answer == (200, "application/json", json.dumps([3.0 * factor]).encode())


def test_the_built_in_algorithm_serves_many_models(many, tmp_path) -> None:
    environment = catalogue.resolve("sagemaker-xgboost:3.0-5", Settings.load()).environment
    try:
        place = build.build(environment, Settings.load(), timeout_seconds=200)
    except EnvironmentFailed as problem:
        pytest.skip(f"The XGBoost image's environment cannot be built here: {problem}")
    python = str(place / "bin" / "python")
    folders = [tmp_path / name for name in ("first", "second")]
    for folder in folders:
        folder.mkdir()
    subprocess.run([python, "-c", TRAIN, *map(str, folders)], check=True)
    server = many(
        python=python,
        CLARY_SERVING_FRAMEWORK="xgboost",
        CLARY_SERVING_HANDLER="clary.workloads.algorithms.xgboost:handler",
    )
    for folder in folders:
        assert load(server, folder.name, folder) == (
            200,
            f'{{"status": "The model {folder.name} is loaded."}}'.encode(),
        )
    answers = []
    for folder in folders:
        head = f"POST /models/{folder.name}/invoke HTTP/1.1\r\nHost: x\r\nConnection: close\r\n"
        request = f"{head}Content-Type: text/csv\r\nContent-Length: 6\r\n\r\n2,-2,0"
        status, kind, body = parse(server.send(request.encode()))
        assert (status, kind.partition(";")[0]) == (200, "text/csv")
        answers.append(float(body))
    assert answers[0] > 5 > -5 > answers[1]
    (tmp_path / "empty").mkdir()
    status, body = load(server, "empty", tmp_path / "empty")
    assert status == 500 and b"Unable to load model" in body
