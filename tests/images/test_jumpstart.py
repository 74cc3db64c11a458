"""JumpStart jobs: which algorithm stands for a script, and what stays as the job says."""

from __future__ import annotations

import pytest

from clary.images import catalogue, jumpstart
from clary.images.image import Image
from clary.settings import Settings
from clary.workloads.algorithms.jumpstart import algorithm_of

IMAGE = "763104351884.dkr.ecr.us-east-1.amazonaws.com/pytorch-training:1.9.0-cpu-py38"
BUCKET = "s3://jumpstart-cache-prod-us-east-1"
SCRIPTS = f"{BUCKET}/source-directory-tarballs"


def argv(image: Image, name: str) -> tuple[str, ...]:
    command = image.commands[name]
    assert command is not None
    return command.argv


def given(source: str) -> dict[str, str]:
    return {
        "sagemaker_program": "transfer_learning.py",
        "sagemaker_submit_directory": source,
    }


@pytest.mark.parametrize(
    ("script", "algorithm"),
    [
        ("lightgbm/transfer_learning/classification/v2.1.3", "lightgbm"),
        ("catboost/transfer_learning/regression/v1.2.1", "catboost"),
        ("pytorch/transfer_learning/tabtransformerclassification/v1.0.1", "tabtransformer"),
        ("autogluon/transfer_learning/classification/v1.0.1", "autogluon-tabular"),
        ("tensorflow/transfer_learning/tc/prepack/v1.0.0", "text-classification"),
    ],
)
def test_a_script_of_jumpstarts_runs_in_the_image_of_its_algorithm(script, algorithm):
    hyperparameters = given(f"{SCRIPTS}/{script}/sourcedir.tar.gz")
    uri = jumpstart.image_uri(IMAGE, hyperparameters)
    assert uri == f"763104351884.dkr.ecr.us-east-1.amazonaws.com/{algorithm}:1"
    image = catalogue.resolve(uri, Settings.load())
    assert image.algorithm == algorithm
    assert argv(image, "train")[-2:] == (algorithm, "train")


@pytest.mark.parametrize(
    "source",
    [
        "s3://my-bucket/source-directory-tarballs/lightgbm/sourcedir.tar.gz",
        f"{SCRIPTS}/huggingface/transfer_learning/ner/sourcedir.tar.gz",
        f"{BUCKET}/lightgbm/sourcedir.tar.gz",
        "",
    ],
)
def test_any_other_script_keeps_its_image(source):
    assert jumpstart.image_uri(IMAGE, given(source)) == IMAGE
    assert algorithm_of(given(source)) is None


def test_only_the_model_beside_such_a_script_is_left_out():
    hyperparameters = given(f"{SCRIPTS}/lightgbm/transfer_learning/classification/v1/s.tar.gz")
    model = f"{BUCKET}/lightgbm-training/train-lightgbm-classification-model.tar.gz"
    assert jumpstart.is_replaced_model("model", model, hyperparameters)
    assert not jumpstart.is_replaced_model("training", model, hyperparameters)
    assert not jumpstart.is_replaced_model("model", "s3://own/model.tar.gz", hyperparameters)
    assert not jumpstart.is_replaced_model("model", model, {})


@pytest.mark.parametrize("name", ["lightgbm", "catboost", "tabtransformer", "lda"])
def test_the_algorithms_have_images_of_their_own_names(name):
    image = catalogue.resolve(f"{name}:1", Settings.load())
    assert image.algorithm == name
    assert argv(image, "serve")[-1] == f"clary.workloads.algorithms.{name}:handler"
