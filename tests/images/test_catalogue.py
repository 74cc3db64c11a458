"""The catalogue: which environment stands for which image."""

from __future__ import annotations

from pathlib import Path

import pytest

from clary.images import catalogue, scikit_learn, xgboost
from clary.images.image import UnknownImage
from clary.images.interpreters import Interpreters
from clary.images.reference import parse
from clary.settings import Settings

HOSTS = (
    "246618743249.dkr.ecr.us-west-2.amazonaws.com",
    "683313688378.dkr.ecr.us-east-1.amazonaws.com",
)


def interpreters(*versions: str) -> Interpreters:
    return Interpreters(versions[0], {version: Path(f"/python{version}") for version in versions})


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings(home=tmp_path / "home", cache=tmp_path / "cache")


def test_account_and_region_do_not_matter(settings):
    images = [catalogue.resolve(f"{host}/sagemaker-xgboost:1.7-1", settings) for host in HOSTS]
    assert images[0].environment == images[1].environment
    assert images[0].uri != images[1].uri


def test_an_image_without_tag_is_the_newest(settings):
    image = catalogue.resolve(f"{HOSTS[0]}/sagemaker-xgboost", settings)
    assert image.version == "3.0.5"


def test_a_digest_is_left_aside(settings):
    uri = f"{HOSTS[0]}/sagemaker-xgboost:1.7-1"
    with_digest = catalogue.resolve(f"{uri}@sha256:{'0' * 64}", settings)
    assert with_digest.environment == catalogue.resolve(uri, settings).environment


@pytest.mark.parametrize("tag", ["", ":1", ":latest"])
def test_the_legacy_image_is_the_algorithm_on_the_nearest_release(settings, tag):
    image = catalogue.resolve(
        f"433757028032.dkr.ecr.us-west-2.amazonaws.com/xgboost{tag}", settings
    )
    assert (image.algorithm, image.version) == ("xgboost", "1.7.6")
    assert "0.72" in image.notes[0]


def test_an_unknown_tag_names_the_known_ones(settings):
    with pytest.raises(UnknownImage, match=r"'9\.9-9'.*Known are: 3\.0-5, 1\.7-1"):
        catalogue.resolve(f"{HOSTS[0]}/sagemaker-xgboost:9.9-9", settings)


def test_an_unknown_repository_names_the_remedies(settings):
    with pytest.raises(UnknownImage) as caught:
        catalogue.resolve("my-company/model:1", settings)
    text = str(caught.value)
    assert "clary images add my-company/model:1" in text and "sagemaker-scikit-learn" in text


def test_a_text_that_is_no_uri_is_an_unknown_image(settings):
    with pytest.raises(UnknownImage):
        catalogue.resolve("not an image", settings)


def test_the_xgboost_image_publishes_metrics_and_hyperparameters(settings):
    image = catalogue.resolve(f"{HOSTS[0]}/sagemaker-xgboost:3.0-5", settings)
    names = {one["Name"] for one in image.metric_definitions}
    assert {"train:auc", "validation:auc", "validation:rmse"} <= names
    specification = {one["Name"]: one for one in image.hyperparameters}
    assert specification["eta"]["Range"] == {
        "ContinuousParameterRangeSpecification": {"MinValue": "0", "MaxValue": "1"}
    }
    assert specification["num_round"]["IsRequired"] and specification["eta"]["IsTunable"]


def test_both_families_have_commands_for_training_and_serving(settings):
    for uri in ("sagemaker-xgboost:3.0-5", "sagemaker-scikit-learn:1.2-1-cpu-py3"):
        image = catalogue.resolve(f"{HOSTS[0]}/{uri}", settings)
        for name in ("train", "serve"):
            assert image.commands[name].argv[:2] == ("python", "-m")
        assert image.commands["process"] is None


@pytest.mark.parametrize(
    ("tag", "versions", "python", "version"),
    [
        ("1.2-1-cpu-py3", ("3.11", "3.9"), "3.11", "1.2.1"),  # the running one, if it can
        ("1.0-1-cpu-py3", ("3.11", "3.9"), "3.9", "1.0.2"),  # another one for the exact release
        ("1.0-1-cpu-py3", ("3.11",), "3.11", "1.1.3"),  # else the nearest release
        ("1.2-1-cpu-py3", ("3.13", "3.12"), "3.12", "1.3.2"),
        ("0.23-1-cpu-py3", ("3.11", "3.8"), "3.8", "0.23.2"),
        ("0.20.0-cpu-py3", ("3.11", "3.8"), "3.8", "0.22.2.post1"),
        ("", ("3.12",), "3.12", "1.4.2"),
    ],
)
def test_the_nearest_scikit_learn_is_chosen(tag, versions, python, version):
    uri = "sagemaker-scikit-learn" + (f":{tag}" if tag else "")
    image = scikit_learn.resolve(parse(uri), interpreters(*versions))
    assert (image.environment.python, image.version) == (python, version)
    assert f"scikit-learn=={version}" in image.environment.packages
    exact = version == (scikit_learn.RELEASES.get(tag.removesuffix("-cpu-py3")) or "1.4.2")
    assert bool(image.notes) != exact


def test_a_host_without_a_fitting_python_is_told(settings):
    with pytest.raises(UnknownImage, match=r"runs on Python 3\.13"):
        xgboost.resolve(parse("sagemaker-xgboost:3.0-5"), interpreters("3.8"))


def test_every_known_tag_resolves():
    for family in catalogue.families():
        for tag in family.tags:
            reference = parse(f"{family.repositories[0]}:{tag}")
            assert family.resolve(reference, interpreters("3.11", "3.8")).family == family.name
