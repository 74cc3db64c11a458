"""User images: an environment of one's own under one's own URI."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from clary.images import build, catalogue, user_images
from clary.images.environment import Environment
from clary.images.image import UnknownImage
from clary.settings import Settings

PYTHON = f"{sys.version_info.major}.{sys.version_info.minor}"
URI = "111122223333.dkr.ecr.us-east-1.amazonaws.com/team/model:v1"


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings(home=tmp_path / "home", cache=tmp_path / "cache")


def test_a_registered_uri_resolves_to_its_packages_and_commands(settings, tmp_path):
    file = tmp_path / "requirements.txt"
    file.write_text("# mine\nscikit-learn==1.4.2  # pinned\n\nnumpy<2\n")
    user_images.add(
        URI,
        settings,
        requirements_file=file,
        train=["python", "/opt/program/train"],
        serve=["serve"],
    )
    image = catalogue.resolve(URI, settings)
    assert (image.family, image.uri) == ("user", URI)
    assert image.environment.packages[:2] == ("scikit-learn==1.4.2", "numpy<2")
    assert image.environment.python == PYTHON
    assert image.commands["train"].argv == ("python", "/opt/program/train")
    assert image.commands["serve"].argv == ("serve",) and image.commands["process"] is None


def test_the_same_repository_and_tag_of_another_account_is_the_same_image(settings):
    user_images.add(URI, settings, packages=["six"])
    other = URI.replace("111122223333", "999999999999").replace("us-east-1", "eu-west-1")
    assert catalogue.resolve(other, settings).uri == other
    with pytest.raises(UnknownImage):
        catalogue.resolve(URI.replace(":v1", ":v2"), settings)


def test_a_registration_comes_before_a_known_family(settings):
    uri = "246618743249.dkr.ecr.us-west-2.amazonaws.com/sagemaker-xgboost:1.7-1"
    user_images.add(uri, settings, packages=["six"])
    assert catalogue.resolve(uri, settings).family == "user"
    assert user_images.remove(uri, settings)
    assert catalogue.resolve(uri, settings).family == "xgboost"


def test_images_are_listed_by_uri_and_forgotten(settings):
    for uri in ("b:1", "a:1"):
        user_images.add(uri, settings, packages=["six"])
    assert [image.uri for image in user_images.list_images(settings)] == ["a:1", "b:1"]
    assert user_images.remove("a:1", settings) and not user_images.remove("a:1", settings)
    assert [image.uri for image in user_images.list_images(settings)] == ["b:1"]


def test_registering_again_takes_the_place_of_the_first(settings):
    user_images.add("a:1", settings, packages=["six"])
    user_images.add("a:1", settings, packages=["idna"])
    (image,) = user_images.list_images(settings)
    assert image.environment.packages[0] == "idna"


def test_an_existing_virtual_environment_is_taken_by_its_path(settings):
    place = build.build(Environment(python=PYTHON), settings)
    user_images.add("a:1", settings, existing=place)
    image = catalogue.resolve("a:1", settings)
    assert image.environment == Environment(python=PYTHON, existing=place)
    assert build.build(image.environment, settings) == place


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        ({"existing": Path("/nowhere")}, "no bin/python"),
        ({"python": "2.7"}, "Python 2.7 is not on this machine"),
        ({"packages": ["--index-url=http://x"]}, "not an option"),
    ],
)
def test_what_cannot_be_built_is_refused_at_once(settings, arguments, text):
    with pytest.raises(ValueError, match=text):
        user_images.add("a:1", settings, **arguments)


@pytest.mark.parametrize("line", ["-r other.txt", "-e .", "./local", "/abs/path"])
def test_a_requirements_file_with_options_is_refused(settings, tmp_path, line):
    file = tmp_path / "requirements.txt"
    file.write_text(f"six\n{line}\n")
    with pytest.raises(ValueError, match="not a package"):
        user_images.add("a:1", settings, requirements_file=file)
