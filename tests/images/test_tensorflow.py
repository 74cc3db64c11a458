"""The TensorFlow images: which release and Python stand for a tag."""

from __future__ import annotations

from pathlib import Path

import pytest

from clary.images import tensorflow
from clary.images.image import UnknownImage
from clary.images.interpreters import Interpreters
from clary.images.reference import parse

HOST = "763104351884.dkr.ecr.us-east-1.amazonaws.com"


def resolved(tag: str, *pythons: str):
    at_hand = Interpreters(pythons[0], {one: Path(f"/python{one}") for one in pythons})
    return tensorflow.resolve(parse(f"{HOST}/tensorflow-inference:{tag}"), at_hand)


@pytest.mark.parametrize(
    ("tag", "pythons", "python", "release"),
    [
        ("2.16.1-cpu", ("3.11",), "3.11", "2.16"),
        ("2.19-cpu-py312", ("3.11", "3.12"), "3.11", "2.19"),
        ("2.11.1-cpu-py39", ("3.11", "3.9"), "3.9", "2.11"),
        ("2.3.1-cpu-py37", ("3.11",), "3.11", "2.12"),
    ],
)
def test_the_nearest_release_that_runs_here_is_taken(tag, pythons, python, release):
    image = resolved(tag, *pythons)
    assert (image.environment.python, image.version) == (python, release)
    assert any(f"=={release}.*" in one for one in image.environment.packages)
    assert bool(image.notes) == (not tag.startswith(release))


@pytest.mark.parametrize(("tag", "python"), [("latest", "3.11"), ("2.16-cpu", "3.14")])
def test_what_cannot_run_is_told(tag, python):
    with pytest.raises(UnknownImage, match=r"does not begin with a release|needs one of Python"):
        resolved(tag, python)
