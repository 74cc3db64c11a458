"""What is inferred of the API's nouns, and that an upgrade of the model shows as a difference."""

from __future__ import annotations

import pytest
from botocore.model import StructureShape

from clary.model.kinds import infer_kind, plural
from clary.model.service import Services
from tests.model.kinds_snapshot import inferred, recorded

SERVICE = Services().get("sagemaker")
assert SERVICE is not None


def test_what_is_inferred_has_not_changed() -> None:
    """After reading the difference: `python -m tests.model.kinds_snapshot`."""
    now, then = inferred(), recorded()
    changed = {noun for noun in now.keys() | then.keys() if now.get(noun) != then.get(noun)}
    assert {noun: now.get(noun) for noun in changed} == {noun: then.get(noun) for noun in changed}


def test_a_training_job_is_what_its_users_know() -> None:
    kind = infer_kind(SERVICE, "TrainingJob")
    assert kind.identity == ("TrainingJobName",)
    assert (kind.arn_member, kind.arn_segment) == ("TrainingJobArn", "training-job")
    assert (kind.status_member, kind.items_member) == ("TrainingJobStatus", "TrainingJobSummaries")
    assert (kind.created_member, kind.modified_member) == ("CreationTime", "LastModifiedTime")
    assert isinstance(kind.summary_shape, StructureShape)
    assert "TrainingJobStatus" in kind.summary_shape.members
    assert kind.is_named_by_caller


@pytest.mark.parametrize(
    ("noun", "parents", "name"),
    [
        ("UserProfile", ("DomainId",), "UserProfileName"),
        ("HubContent", ("HubName", "HubContentType"), "HubContentName"),
        ("Artifact", (), "ArtifactArn"),
        ("Domain", (), "DomainId"),
    ],
)
def test_parents_come_before_the_name(noun: str, parents: tuple[str, ...], name: str) -> None:
    kind = infer_kind(SERVICE, noun)
    assert (kind.parent_members, kind.name_member) == (parents, name)


def test_the_service_names_what_create_does_not() -> None:
    assert not infer_kind(SERVICE, "Domain").is_named_by_caller
    assert not infer_kind(SERVICE, "Artifact").is_named_by_caller


@pytest.mark.parametrize(
    ("noun", "segment"),
    [
        ("Trial", "experiment-trial"),
        ("TrialComponent", "experiment-trial-component"),
        ("AutoMLJob", "automl-job"),
        ("EdgeDeploymentPlan", "edge-deployment"),
        ("EndpointConfig", "endpoint-config"),
        ("ModelPackageGroup", "model-package-group"),
    ],
)
def test_the_segment_of_an_arn_is_the_models_or_the_noun(noun: str, segment: str) -> None:
    assert infer_kind(SERVICE, noun).arn_segment == segment


def test_plurals_are_the_apis_own() -> None:
    assert [plural(noun) for noun in ("Model", "CodeRepository", "HumanTaskUi")] == [
        "Models",
        "CodeRepositories",
        "HumanTaskUis",
    ]


def test_a_noun_that_the_api_lacks_is_an_error() -> None:
    with pytest.raises(KeyError, match="has no operation about 'Sandwich'"):
        infer_kind(SERVICE, "Sandwich")


def test_words_are_the_noun_as_messages_write_it() -> None:
    assert infer_kind(SERVICE, "EndpointConfig").words == "endpoint config"
