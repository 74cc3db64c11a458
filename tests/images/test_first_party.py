"""The first-party tabular images: what their URIs mean."""

from __future__ import annotations

import pytest

from clary.images import catalogue
from clary.images.first_party import REPOSITORIES
from clary.images.image import UnknownImage
from clary.settings import Settings

REGISTRY = "174872318107.dkr.ecr.us-west-2.amazonaws.com"


@pytest.mark.parametrize("repository", REPOSITORIES)
@pytest.mark.parametrize("tag", ["1", "latest"])
def test_each_repository_trains_and_serves_its_algorithm(repository, tag):
    image = catalogue.resolve(f"{REGISTRY}/{repository}:{tag}", Settings.load())
    assert (image.family, image.algorithm, image.version) == ("first-party", repository, "1")
    assert image.commands["train"].argv[-2:] == (repository, "train")
    module = f"clary.workloads.algorithms.{repository.replace('-', '_')}:handler"
    assert image.commands["serve"].argv[-1] == module


def test_all_repositories_share_one_environment():
    settings = Settings.load()
    keys = {
        catalogue.resolve(f"{REGISTRY}/{name}:1", settings).environment.key for name in REPOSITORIES
    }
    assert len(keys) == 1


@pytest.mark.parametrize("repository", REPOSITORIES)
def test_the_metric_definitions_are_no_more_than_a_job_may_have(repository):
    image = catalogue.resolve(f"{REGISTRY}/{repository}:1", Settings.load())
    names = [one["Name"] for one in image.metric_definitions]
    assert len(names) == len(set(names)) <= 40
    assert {"train:progress", "train:throughput"} <= set(names)
    assert all(len(one["Regex"]) <= 500 for one in image.metric_definitions)


def test_required_hyperparameters_are_marked():
    image = catalogue.resolve(f"{REGISTRY}/kmeans:1", Settings.load())
    required = {one["Name"] for one in image.hyperparameters if one["IsRequired"]}
    assert required == {"feature_dim", "k"}


def test_an_unknown_tag_is_refused():
    with pytest.raises(UnknownImage, match="has the tag '2'"):
        catalogue.resolve(f"{REGISTRY}/pca:2", Settings.load())
