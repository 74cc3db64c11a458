"""Which deaths of serving processes end the service, and which only cost the request that caused them."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[3]
# Each process writes a line and dies; the ninth asks the supervisor to end.
PROGRAM = """
import os, signal, sys
from clary.workloads.serving import processes

processes.PAUSE_SECONDS = 0.001
lines, how = sys.argv[1:]

def serve(fork):
    with open(lines, "a") as file:
        file.write("x\\n")
    with open(lines) as file:
        number = len(file.readlines())
    if how == "cannot":
        return processes.CANNOT_SERVE
    if how == "served" or (how == "served once" and number == 1):
        fork.begin()
    assert fork.replaces == (number > 1)
    if number < 9:
        os.kill(os.getpid(), signal.SIGKILL)
    os.kill(os.getppid(), signal.SIGTERM)
    return 0

processes.leave(processes.supervise(serve, 1, 5.0))
"""


@pytest.mark.parametrize(
    ("how", "code", "made"),
    [
        ("served", 0, 9),  # requests killed them
        ("served once", -9, 4),  # the next ones cannot even load the model
        ("loading", -9, 1),  # nor will another, as far as this server can tell
        ("cannot", 1, 1),
    ],
)
def test_only_processes_that_come_to_serve_are_replaced_for_ever(tmp_path, how, code, made):
    lines = tmp_path / "lines"
    ended = subprocess.run(
        [sys.executable, "-c", PROGRAM, str(lines), how],
        env={"PYTHONPATH": str(ROOT), "PATH": os.environ["PATH"]},
        timeout=60,
        check=False,
        capture_output=True,
    )
    assert ended.returncode == code, ended.stderr
    assert len(lines.read_text().splitlines()) == made


TENSORFLOW = """
import os

class errors:
    class OpError(Exception):
        pass

class Tensor:
    def numpy(self):
        return self
    def tolist(self):
        return [MADE]

class Spec:
    dtype = "float"
    class shape:
        @staticmethod
        def is_compatible_with(other):
            return True

class Constant:
    shape = ()

class Signature:
    structured_input_signature = ((), {"x": Spec})
    def __call__(self, x):
        assert os.getpid() == MADE, "the model is of another process"
        return {"y": Tensor()}

class saved_model:
    @staticmethod
    def load(path):
        global MADE
        MADE = os.getpid()
        if os.path.exists(os.path.join(path, "broken")):
            raise RuntimeError("no such graph")
        class Loaded:
            signatures = {"serving_default": Signature()}
        return Loaded

def constant(value, dtype):
    return Constant
"""


@pytest.fixture
def start_tensorflow(start, tmp_path: Path):
    """A server of TensorFlow's image with two processes, and a stand-in for TensorFlow."""
    (tmp_path / "tensorflow.py").write_text(TENSORFLOW)
    (tmp_path / "model" / "1").mkdir(parents=True)
    (tmp_path / "model" / "1" / "saved_model.pb").touch()

    def begin(**options):
        return start(
            None,
            CLARY_SERVING_FRAMEWORK="tensorflow",
            SAGEMAKER_MODEL_SERVER_WORKERS="2",
            **options,
        )

    return begin


def test_each_process_of_a_tensorflow_server_has_a_model_of_its_own(start_tensorflow):
    server = start_tensorflow()
    answers = {server.ask(b'{"instances": [1]}', "application/json") for _ in range(6)}
    assert {status for status, _, _ in answers} == {200}, server.log.read_text()
    assert str(server.process.pid).encode() not in b"".join(body for *_, body in answers)
    server.process.send_signal(signal.SIGTERM)
    assert server.process.wait(60) == 0


def test_a_model_that_no_process_can_load_ends_the_server(start_tensorflow, tmp_path: Path):
    (tmp_path / "model" / "1" / "broken").touch()
    server = start_tensorflow(ready=False)
    assert server.process.wait(60) == 1
    assert "no such graph" in server.log.read_text()
