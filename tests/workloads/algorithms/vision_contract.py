"""The contract of all algorithms, for those that take images in place of tables."""

from __future__ import annotations

import json
import struct
import subprocess
import zlib
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import ClassVar

import numpy
import pytest
from algorithm_contract import AlgorithmContract, Trained, Workshop

REGISTRY = "811284229777.dkr.ecr.us-east-1.amazonaws.com"
MAGIC = 0xCED7230A


def image(name: str) -> str:
    return f"{REGISTRY}/{name}:1"


def encoded(pixels: numpy.ndarray) -> bytes:
    """A PNG file of an array of bytes: grey if it has two dimensions, else red, green, blue."""
    height, width = pixels.shape[:2]
    rows = pixels.astype(numpy.uint8).reshape(height, -1)
    lines = numpy.column_stack([numpy.zeros(height, numpy.uint8), rows]).tobytes()
    head = struct.pack(">IIBBBBB", width, height, 8, 0 if pixels.ndim == 2 else 2, 0, 0, 0)
    parts = [(b"IHDR", head), (b"IDAT", zlib.compress(lines, 1)), (b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        for kind, data in parts
    )


def as_jpeg(workshop: Workshop, content: bytes, mode: str = "RGB") -> bytes:
    """The image as a JPEG file, made in the environment of the algorithm, which has a library."""
    code = (
        "import sys; from PIL import Image; "
        "image = Image.open(sys.stdin.buffer).convert(sys.argv[1]); "
        "image.save(sys.stdout.buffer, 'JPEG')"
    )
    argv = [str(workshop.prefix / "bin" / "python"), "-c", code, mode]
    return subprocess.run(argv, input=content, capture_output=True, check=True).stdout


def frame(payload: bytes) -> bytes:
    return struct.pack("<II", MAGIC, len(payload)) + payload + bytes(-len(payload) % 4)


def records(images: Iterable[tuple[Sequence[float], bytes]]) -> bytes:
    """A file as MXNet's im2rec writes it."""
    found = []
    for at, (labels, content) in enumerate(images):
        if len(labels) == 1:
            head = struct.pack("<IfQQ", 0, labels[0], at, 0)
        else:
            head = struct.pack("<IfQQ", len(labels), 0, at, 0)
            head += numpy.array(labels, dtype="<f4").tobytes()
        found.append(frame(head + content))
    return b"".join(found)


def fit(
    workshop: Workshop,
    hyperparameters: dict[str, str],
    channels: dict[str, dict[str, bytes]],
    content_type: str,
    **configuration: object,
) -> Trained:
    """Train; it must succeed."""
    trained = workshop.train(
        workshop.opt_ml(hyperparameters, channels, content_type, **configuration)
    )
    assert trained.code == 0, trained.log + trained.failure
    return trained


def edit_channel(base: Path, name: str, **members: str) -> None:
    """Change what inputdataconfig.json says of one channel."""
    path = base / "input" / "config" / "inputdataconfig.json"
    document = json.loads(path.read_text())
    document[name].update(members)
    path.write_text(json.dumps(document))


class VisionContract(AlgorithmContract):
    """Subclasses say `channels()`, `content_type` and what an answer must be like."""

    content_type: ClassVar[str]

    @classmethod
    def channels(cls) -> dict[str, dict[str, bytes]]:
        """The files of the channels of the toy set."""
        raise NotImplementedError

    @classmethod
    def picture(cls) -> bytes:
        """An image to ask about."""
        raise NotImplementedError

    @pytest.fixture(scope="class")
    @classmethod
    def trained(cls, workshop):
        return fit(workshop, cls.hyperparameters, cls.channels(), cls.content_type)

    def test_training_takes_recordio_protobuf(self, workshop):
        """It takes images alone, and says so."""
        base = workshop.opt_ml(self.hyperparameters, self.channels(), "text/csv")
        trained = workshop.train(base)
        assert trained.code == 1 and "takes application/x-" in trained.failure

    def test_a_body_that_is_no_csv_is_refused(self, endpoint):
        """Here: a body that is no image."""
        answer = endpoint.ask(self.picture()[:60], "image/png", "")
        assert answer.status in (400, 415) and answer.body
        assert endpoint.ask(b"", "image/jpeg").status == 400
        assert endpoint.ask(b"abc", "image/jpeg").status == 400

    def test_an_unknown_content_type_is_refused(self, endpoint):
        assert endpoint.ask(b"1,2", "text/csv").status == 415

    def test_an_unknown_accept_is_refused(self, endpoint):
        assert endpoint.ask(self.picture(), "image/jpeg", "text/html").status == 406

    def test_recordio_in_gives_the_same_as_csv(self, endpoint):
        """Here: the name of the content type does not change the answer."""
        picture = self.picture()
        accept = "application/json" if self.answers_json else "image/png"
        plain = endpoint.ask(picture, "image/jpeg", accept)
        assert endpoint.ask(picture, "application/x-image", accept).body == plain.body

    answers_json: ClassVar[bool] = True

    def test_a_wrong_hyperparameter_fails_with_its_name(self, workshop):
        name, value, text = self.wrong_hyperparameter
        base = workshop.opt_ml({**self.hyperparameters, name: value}, {"train": {"a": b"1"}})
        trained = workshop.train(base)
        assert trained.code == 1 and text in trained.failure

    def test_a_file_that_is_no_image_is_named(self, workshop):
        channels = {name: dict(files) for name, files in self.channels().items()}
        name = self.broken(channels)
        trained = workshop.train(workshop.opt_ml(self.hyperparameters, channels, self.content_type))
        assert trained.code == 1
        assert f"The image '{name}' cannot be decoded" in trained.failure

    def broken(self, channels: dict[str, dict[str, bytes]]) -> str:
        """Damage an image of the training channel; its name."""
        name = min(channels["train"])
        channels["train"][name] = channels["train"][name][:40]
        return name
