"""What every built-in algorithm must do; subclass AlgorithmContract and say what it trains on.

Training and serving run as a job would run them: in the environment of the image, from the files
of an /opt/ml folder.
"""

from __future__ import annotations

import base64
import contextlib
import json
import os
import shutil
import signal
import socket
import subprocess
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import numpy
import pytest

from clary.images import build, catalogue
from clary.settings import Settings
from clary.workloads.algorithms import catalogue as algorithms
from clary.workloads.formats import csv_rows, recordio_protobuf

ROOT = Path(__file__).parents[3]
PARENT = Path(__file__).with_name("warm_parent.py")
DRIVER = Path(__file__).with_name("endpoint_driver.py")
SECONDS_MAX = 120
# As the fork server sets them; and threads that wait for one another leave the processor to others.
THREADS = {
    "OPENBLAS_NUM_THREADS": "1",
    "OMP_NUM_THREADS": "1",
    "MKL_NUM_THREADS": "1",
    "GOMP_SPINCOUNT": "0",
}


@dataclass(frozen=True)
class Trained:
    """What a training left behind."""

    code: int
    log: str
    base: Path

    @property
    def failure(self) -> str:
        path = self.base / "output" / "failure"
        return path.read_text() if path.exists() else ""

    @property
    def model(self) -> Path:
        return self.base / "model"


@dataclass(frozen=True)
class Answer:
    status: int
    body: bytes
    content_type: str

    def json(self) -> object:
        return json.loads(self.body)


class Program:
    """A program in a fork of the warm parent, with pipes to it."""

    def __init__(self, connection: socket.socket, stdin: int, stdout: int) -> None:
        self.lines = connection.makefile()
        connection.close()
        self.stdin = os.fdopen(stdin, "w")
        self.stdout = os.fdopen(stdout)
        self.pid = int(self.lines.readline())
        self.code: int | None = None

    def wait(self) -> int:
        if self.code is None:
            self.code = int(self.lines.readline())
        return self.code

    def close(self) -> int:
        """End the program if it has not ended, and give back its pipes."""
        self.stdin.close()
        self.stdout.close()
        if self.code is None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.pid, signal.SIGKILL)
            self.wait()
        self.lines.close()
        return self.wait()


class WarmParent:
    """One process of an environment that has its libraries imported already."""

    def __init__(self, image: str) -> None:
        settings = Settings.load()
        found = catalogue.resolve(image, settings)
        self.prefix = build.build(found.environment, settings)
        self.folder = Path(tempfile.mkdtemp(prefix="clary-warm-"))
        self.process = subprocess.Popen(
            [str(self.prefix / "bin" / "python"), str(PARENT), self._path, *found.preload],
            env={**_environment(), **THREADS},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            text=True,
        )
        assert self.process.stdout is not None
        assert self.process.stdout.readline() == "ready\n"

    @property
    def _path(self) -> str:
        return str(self.folder / "socket")

    def run(
        self, argv: list[str], directory: Path, *, is_module: bool, **variables: str
    ) -> Program:
        inner_in, our_in = os.pipe()
        our_out, inner_out = os.pipe()
        request = {
            "argv": argv,
            "is_module": is_module,
            "directory": str(directory),
            "environment": {**_environment(), **variables},
        }
        connection = socket.socket(socket.AF_UNIX)
        connection.settimeout(SECONDS_MAX)
        connection.connect(self._path)
        socket.send_fds(connection, [json.dumps(request).encode()], [inner_in, inner_out])
        os.close(inner_in)
        os.close(inner_out)
        connection.settimeout(None)
        return Program(connection, our_in, our_out)

    def close(self) -> None:
        self.process.terminate()
        self.process.wait(timeout=SECONDS_MAX)
        assert self.process.stdout is not None
        self.process.stdout.close()
        shutil.rmtree(self.folder)


class Endpoint:
    """A handler in a process of its own."""

    def __init__(self, program: Program) -> None:
        self.program = program
        self.ready = self._line()

    def _line(self) -> dict:
        return json.loads(self.program.stdout.readline())

    def ask(self, body: bytes, content_type: str, accept: str = "") -> Answer:
        text = base64.b64encode(body).decode()
        request = {"body": text, "content_type": content_type, "accept": accept}
        self.program.stdin.write(json.dumps(request) + "\n")
        self.program.stdin.flush()
        found = self._line()
        content = found["body"].encode()
        if found["status"] == 200:
            content = base64.b64decode(content)
        return Answer(found["status"], content, found["content_type"])

    def close(self) -> None:
        self.program.close()


class Workshop:
    """Trains and serves one algorithm in the environment of its image."""

    def __init__(self, name: str, parent: WarmParent, folder: Path) -> None:
        self.name, self.parent, self.folder = name, parent, folder
        self.prefix = parent.prefix
        self.count = 0

    def opt_ml(
        self,
        hyperparameters: dict[str, str],
        channels: dict[str, dict[str, bytes]],
        content_type: str = "text/csv",
        **configuration: object,
    ) -> Path:
        """Lay out a folder like /opt/ml; `configuration` is further files by name."""
        self.count += 1
        base = self.folder / f"ml-{self.count}"
        settings = base / "input" / "config"
        for place in (settings, base / "model", base / "output" / "data"):
            place.mkdir(parents=True)
        described = {}
        for channel, files in channels.items():
            (base / "input" / "data" / channel).mkdir(parents=True)
            for name, content in files.items():
                path = base / "input" / "data" / channel / name
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(content)
            described[channel] = {
                "ContentType": content_type,
                "TrainingInputMode": "File",
                "S3DistributionType": "FullyReplicated",
                "RecordWrapperType": "None",
            }
        documents = {
            "hyperparameters": hyperparameters,
            "inputdataconfig": described,
            "resourceconfig": {"current_host": "algo-1", "hosts": ["algo-1"]},
            **configuration,
        }
        for name, document in documents.items():
            (settings / f"{name}.json").write_text(json.dumps(document))
        return base

    def start(self, base: Path, **variables: str) -> Program:
        return self.parent.run(
            ["clary.workloads.algorithms", self.name, "train"],
            base,
            is_module=True,
            SAGEMAKER_BASE_DIR=str(base),
            **variables,
        )

    def train(self, base: Path) -> Trained:
        program = self.start(base)
        try:
            log = program.stdout.read()
            code = program.wait()
        finally:
            program.close()
        return Trained(code, log, base)

    def serve(self, model: Path, **variables: str) -> Endpoint:
        argv = [str(DRIVER), self.name, str(model)]
        return Endpoint(self.parent.run(argv, model, is_module=False, **variables))


def _environment() -> dict[str, str]:
    return {"PATH": os.defpath, "HOME": os.environ.get("HOME", "/"), "PYTHONPATH": str(ROOT)}


class AlgorithmContract:
    """Subclass it as `TestXGBoost` and set the attributes; further tests go beside these."""

    name: ClassVar[str]
    image: ClassVar[str]
    hyperparameters: ClassVar[dict[str, str]]  # the least that trains on the toy set
    wrong_hyperparameter: ClassVar[tuple[str, str, str]]  # name, value, error text
    takes_labels: ClassVar[bool] = True

    @staticmethod
    def table() -> numpy.ndarray:
        """The toy set: one example a row, the label first."""
        raise NotImplementedError

    def right(self, predictions: list[dict], table: numpy.ndarray) -> float:
        """The share of the predictions (JSON objects) that is right."""
        raise NotImplementedError

    @pytest.fixture(scope="class")
    @classmethod
    def workshop(cls, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Workshop]:
        folder = tmp_path_factory.mktemp(cls.name)
        parent = WarmParent(cls.image)
        yield Workshop(cls.name, parent, folder)
        parent.close()

    @pytest.fixture(scope="class")
    @classmethod
    def trained(cls, workshop: Workshop) -> Trained:
        data = csv_rows.write(cls.table())
        return workshop.train(workshop.opt_ml(cls.hyperparameters, {"train": {"a.csv": data}}))

    @pytest.fixture(scope="class")
    @classmethod
    def endpoint(cls, workshop: Workshop, trained: Trained):
        endpoint = workshop.serve(trained.model)
        yield endpoint
        endpoint.close()

    def features(self) -> numpy.ndarray:
        return self.table()[:, 1:] if self.takes_labels else self.table()

    def test_the_declaration_is_in_the_catalogue_under_the_name_of_its_file(self):
        declared = algorithms.find(self.name)
        assert declared is not None and declared.name == self.name
        assert self.name.replace("-", "_") in algorithms.names()

    def test_the_specification_names_every_hyperparameter_once(self):
        names = [one["Name"] for one in algorithms.find(self.name).hyperparameter_specifications()]
        assert len(names) == len(set(names)) and set(self.hyperparameters) <= set(names)

    def test_training_succeeds_and_leaves_a_model(self, trained):
        assert trained.code == 0, trained.log
        assert list(trained.model.iterdir()) and not trained.failure

    def test_training_takes_recordio_protobuf(self, workshop):
        table = self.table()
        labels = table[:, 0] if self.takes_labels else None
        data = recordio_protobuf.write_records(self.features().astype(numpy.float32), labels)
        base = workshop.opt_ml(
            self.hyperparameters,
            {"train": {"a.pbr": data}},
            content_type="application/x-recordio-protobuf",
        )
        assert workshop.train(base).code == 0

    def test_csv_in_gives_json_out(self, endpoint):
        table = self.table()
        answer = endpoint.ask(csv_rows.write(self.features()), "text/csv", "application/json")
        assert (answer.status, answer.content_type) == (200, "application/json")
        predictions = answer.json()["predictions"]
        assert len(predictions) == len(table) and self.right(predictions, table) > 0.9

    def test_json_lines_hold_one_prediction_a_line(self, endpoint):
        body = csv_rows.write(self.features()[:3])
        lines = endpoint.ask(body, "text/csv", "application/jsonlines").body.splitlines()
        whole = endpoint.ask(body, "text/csv", "application/json").json()["predictions"]
        assert [json.loads(line) for line in lines] == whole

    def test_recordio_in_gives_the_same_as_csv(self, endpoint):
        rows = self.features()[:5].astype(numpy.float32)
        recordio = endpoint.ask(
            recordio_protobuf.write_records(rows),
            "application/x-recordio-protobuf",
            "application/json",
        )
        csv = endpoint.ask(csv_rows.write(rows.astype(float)), "text/csv", "application/json")
        assert recordio.json() == csv.json()

    def test_recordio_out_has_one_record_a_row(self, endpoint):
        body = csv_rows.write(self.features()[:4])
        answer = endpoint.ask(body, "text/csv", "application/x-recordio-protobuf")
        assert answer.content_type == "application/x-recordio-protobuf"
        assert len(list(recordio_protobuf.read_records(answer.body))) == 4

    def test_an_unknown_content_type_is_refused(self, endpoint):
        assert endpoint.ask(b"x", "image/png").status == 415

    def test_an_unknown_accept_is_refused(self, endpoint):
        body = csv_rows.write(self.features()[:1])
        assert endpoint.ask(body, "text/csv", "image/png").status == 406

    def test_a_body_that_is_no_csv_is_refused(self, endpoint):
        assert 400 <= endpoint.ask(b"a,b,\xff\n1", "text/csv").status < 500

    def test_a_wrong_hyperparameter_fails_with_its_name(self, workshop):
        name, value, text = self.wrong_hyperparameter
        base = workshop.opt_ml({**self.hyperparameters, name: value}, {"train": {"a.csv": b"1,2"}})
        trained = workshop.train(base)
        assert trained.code == 1 and text in trained.failure

    def test_an_unknown_hyperparameter_fails_with_its_name(self, workshop):
        base = workshop.opt_ml({**self.hyperparameters, "no_such": "1"}, {"train": {"a": b"1,2"}})
        trained = workshop.train(base)
        assert trained.code == 1 and "no_such" in trained.failure

    def test_a_missing_channel_fails(self, workshop):
        trained = workshop.train(workshop.opt_ml(self.hyperparameters, {}))
        assert trained.code == 1 and "Missing required channel: train" in trained.failure

    def test_an_empty_model_folder_cannot_be_served(self, workshop, tmp_path):
        endpoint = workshop.serve(tmp_path)
        endpoint.close()
        assert endpoint.ready["status"] == 500
