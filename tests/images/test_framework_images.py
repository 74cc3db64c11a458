"""The deep-learning images, and those of remote functions and notebooks."""

from __future__ import annotations

import platform
from pathlib import Path

import pytest

from clary.images import catalogue, hugging_face, pytorch, remote_function, sagemaker_distribution
from clary.images.image import UnknownImage
from clary.images.interpreters import Interpreters
from clary.images.reference import parse
from clary.images.torch_wheels import CpuWheel, choose_torch
from clary.settings import Settings

HOST = "763104351884.dkr.ecr.us-west-2.amazonaws.com"


def interpreters(*versions: str) -> Interpreters:
    return Interpreters(versions[0], {version: Path(f"/python{version}") for version in versions})


@pytest.mark.parametrize(
    ("uri", "family"),
    [
        ("pytorch-inference:2.3.0-cpu-py311", "pytorch"),
        ("pytorch-training:2.6.0-cpu-py312-ubuntu22.04-sagemaker", "pytorch"),
        ("sagemaker-pytorch:1.1.0-cpu-py3", "pytorch"),
        ("huggingface-pytorch-inference:2.1.0-transformers4.37.0-cpu-py310", "hugging-face"),
        ("sagemaker-base-python-310:1.0", "remote-function"),
        ("sagemaker-distribution-prod:3.2.0-cpu", "sagemaker-distribution"),
    ],
)
def test_an_image_is_found_by_its_repository(uri, family, tmp_path, monkeypatch):
    at_hand = interpreters("3.11", "3.10", "3.8")
    monkeypatch.setattr("clary.images.interpreters.find", lambda: at_hand)
    settings = Settings(home=tmp_path / "home", cache=tmp_path / "cache")
    assert catalogue.resolve(f"{HOST}/{uri}", settings).family == family


@pytest.mark.parametrize(
    ("tag", "wheels", "version", "python", "requirement"),
    [
        # A wheel at hand is taken even if it is not the image's own release: the nearest one.
        ("2.3.0-cpu-py311", [("2.13.0", "3.11")], "2.13.0", "3.11", "torch==2.13.0+cpu"),
        ("2.3.0-cpu-py311", [("2.13.0", "3.11"), ("2.4.0", "3.11")], "2.4.0", "3.11", None),
        ("2.3.0-cpu-py311", [("2.3.0", "3.10"), ("2.4.0", "3.11")], "2.3.0", "3.10", None),
        # A wheel for a Python that is not here is none.
        ("2.3.0-cpu-py311", [("2.3.0", "3.9")], "2.3.0", "3.11", "torch==2.3.0"),
        # Without wheels it is the release itself, on the Python of the tag if that has it.
        ("2.1.0-cpu-py310", [], "2.1.0", "3.10", "torch==2.1.0"),
        ("2.5-cpu-py311", [], "2.5", "3.11", "torch==2.5.*"),
        ("1.10.0-cpu-py38", [], "1.11.0", "3.10", "torch==1.11.0"),
        ("9.9.9-cpu-py311", [], "2.13.0", "3.11", "torch==2.13.0"),
    ],
)
def test_the_nearest_pytorch_is_chosen(tag, wheels, version, python, requirement):
    reference = parse(f"pytorch-training:{tag}")
    found = choose_torch(
        tag.partition("-")[0],
        reference,
        interpreters("3.11", "3.10"),
        [CpuWheel(*wheel) for wheel in wheels],
    )
    assert (found.version, found.python) == (version, python)
    assert requirement in (None, found.requirement)
    assert bool(found.note) == (version != tag.partition("-")[0])


def test_wheels_are_found_in_the_folders_of_pip(tmp_path, monkeypatch):
    machine = platform.machine()
    for name in (
        f"torch-2.7.1+cpu-cp310-cp310-manylinux_2_28_{machine}.whl",
        f"torch-2.8.0+cpu-cp310-cp310-manylinux_2_28_{machine}.whl",
        f"torch-2.8.0-cp310-cp310-manylinux_2_28_{machine}.whl",  # not a CPU build
        "torch-2.7.0+cpu-cp310-cp310-win_nothing.whl",
        "torchvision-0.22.0+cpu-cp310-cp310-manylinux_2_28_x86_64.whl",
    ):
        (tmp_path / name).touch()
    monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path))
    monkeypatch.setenv("PIP_CONFIG_FILE", "/dev/null")
    image = pytorch.resolve(
        parse("pytorch-inference:2.7.0-gpu-py312"), interpreters("3.12", "3.10")
    )
    assert (image.version, image.environment.python) == ("2.7.1", "3.10")
    assert "torch==2.7.1+cpu" in image.environment.packages
    assert "PyTorch 2.7.0" in image.notes[0] and "CPU" in image.notes[1]


@pytest.mark.parametrize("tag", ["latest", "gpu-2.3"])
def test_a_tag_without_a_release_is_unknown(tag):
    with pytest.raises(UnknownImage, match="does not begin with a release"):
        pytorch.resolve(parse(f"pytorch-training:{tag}"), interpreters("3.11"))


def test_an_old_numpy_goes_with_an_old_pytorch(monkeypatch):
    monkeypatch.setattr("clary.images.torch_wheels.cpu_wheels", lambda: ())
    for tag, numpy in (("2.1.0", "numpy<2"), ("2.4.0", "numpy<2.4")):
        image = pytorch.resolve(parse(f"pytorch-training:{tag}-cpu-py310"), interpreters("3.10"))
        assert numpy in image.environment.packages


@pytest.mark.parametrize(
    ("tag", "wheels", "transformers"),
    [
        ("2.1.0-transformers4.37.0-cpu-py310", (), "4.37.0"),
        ("2.1.0-transformers4.37.0-cpu-py310", (CpuWheel("2.13.0", "3.10"),), "4.57.6"),
        ("2.9.0-transformers5.3.0-cpu-py310", (CpuWheel("2.13.0", "3.10"),), "5.3.0"),
    ],
)
def test_transformers_is_the_images_own_where_its_pytorch_is(
    tag, wheels, transformers, monkeypatch
):
    monkeypatch.setattr("clary.images.torch_wheels.cpu_wheels", lambda: wheels)
    image = hugging_face.resolve(
        parse(f"huggingface-pytorch-inference:{tag}"), interpreters("3.10")
    )
    assert image.version == transformers
    assert f"transformers=={transformers}" in image.environment.packages
    assert any("transformers 4.37.0" in note for note in image.notes) == (transformers == "4.57.6")


def test_a_remote_function_needs_the_python_of_its_client():
    image = remote_function.resolve(
        parse("sagemaker-base-python-38:1.0"), interpreters("3.11", "3.8")
    )
    assert image.environment.python == "3.8"
    with pytest.raises(UnknownImage, match=r"Python 3\.10"):
        remote_function.resolve(parse("sagemaker-base-python-310:1.0"), interpreters("3.11"))


def test_the_distribution_takes_its_releases_and_no_others():
    for tag in ("3.2.0-cpu", "3.2-cpu", "2-gpu", "latest-cpu", ""):
        uri = f"sagemaker-distribution-prod:{tag}" if tag else "sagemaker-distribution-prod"
        image = sagemaker_distribution.resolve(parse(uri), interpreters("3.11"))
        assert image.commands["process"] is None and "papermill" in image.environment.packages
    with pytest.raises(UnknownImage, match=r"3\.2\.0-cpu"):
        sagemaker_distribution.resolve(
            parse("sagemaker-distribution-prod:newest"), interpreters("3.11")
        )
