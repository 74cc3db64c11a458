"""Operations beside the verbs of kinds, and what every answered operation must withstand."""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from botocore import xform_name
from botocore.exceptions import ClientError

from clary.engine.registry import discover
from clary.model.service import Services
from clary.server import PACKAGES
from tests.contract.answers import faults_of
from tests.contract.asking import Asker
from tests.contract.inputs import Inputs

ANSWERED = sorted(
    name for service, name in discover(Services(), PACKAGES).answers if service == "sagemaker"
)


@pytest.mark.parametrize("rich", [False, True], ids=["bare", "rich"])
def test_no_input_that_its_shape_allows_is_a_defect(rich: bool, ask: Asker) -> None:
    """Names that are not there, values that make no sense together: refused, never an InternalFailure."""

    def fault(operation: str) -> str:
        members = Inputs(rich=rich, values={}).make(ask.model(operation).input_shape)
        try:
            getattr(ask.sagemaker, xform_name(operation))(**members)
        except ClientError as problem:
            status = problem.response["ResponseMetadata"]["HTTPStatusCode"]
            return "" if status == 400 else f"{operation}: {problem}"
        return ""

    with ThreadPoolExecutor(4) as pool:
        faults = [found for found in pool.map(fault, ANSWERED) if found]
    assert faults == []


def test_associations_join_lineage_entities(ask: Asker) -> None:
    source = ask.ask("CreateArtifact", Source={"SourceUri": "s3://contract/a"}, ArtifactType="Data")
    target = ask.ask(
        "CreateAction",
        ActionName="association-target",
        Source={"SourceUri": "u"},
        ActionType="Train",
    )
    ends = {"SourceArn": source["ArtifactArn"], "DestinationArn": target["ActionArn"]}
    assert ask.ask("AddAssociation", **ends, AssociationType="ContributedTo") == ends
    code, message = ask.refused("AddAssociation", **ends)
    assert code == "ValidationException" and "already exists" in message
    for fitting, other in (
        ({"SourceArn": ends["SourceArn"]}, {"SourceArn": ends["DestinationArn"]}),
        ({"DestinationArn": ends["DestinationArn"]}, {"DestinationArn": ends["SourceArn"]}),
        ({"SourceType": "Data"}, {"SourceType": "Train"}),
        ({"DestinationType": "Train"}, {"DestinationType": "Data"}),
        ({"AssociationType": "ContributedTo"}, {"AssociationType": "Produced"}),
    ):
        assert ends["SourceArn"] in _sources(ask, **fitting)
        assert ends["SourceArn"] not in _sources(ask, **other)
    assert ask.ask("DeleteAssociation", **ends) == ends
    assert _sources(ask, SourceArn=ends["SourceArn"]) == []
    assert ask.refused("DeleteAssociation", **ends)[0] == "ResourceNotFound"


def _sources(ask: Asker, **filters: Any) -> list[str]:
    found = ask.ask("ListAssociations", **filters)["AssociationSummaries"]
    return [one["SourceArn"] for one in found]


def test_associations_are_listed_in_every_order(ask: Asker) -> None:
    arns = [
        ask.ask(
            "CreateContext",
            ContextName=f"ordered-{name}",
            Source={"SourceUri": "u"},
            ContextType=name,
        )["ContextArn"]
        for name in ("c", "a", "b")
    ]
    for source, target in ((0, 1), (1, 2), (2, 0)):
        ask.ask("AddAssociation", SourceArn=arns[source], DestinationArn=arns[target])
    for column in ask.model("ListAssociations").input_shape.members["SortBy"].enum:  # type: ignore[union-attr]
        up = [one for one in _sources(ask, SortBy=column, SortOrder="Ascending") if one in arns]
        down = [one for one in _sources(ask, SortBy=column, SortOrder="Descending") if one in arns]
        assert sorted(up) == sorted(arns) and up == down[::-1], column
    by_name = [
        one for one in _sources(ask, SortBy="SourceArn", SortOrder="Ascending") if one in arns
    ]
    assert by_name == sorted(arns)


def test_a_component_joins_and_leaves_a_trial(ask: Asker) -> None:
    ask.ask("CreateExperiment", ExperimentName="joins")
    trial = ask.ask("CreateTrial", TrialName="joins", ExperimentName="joins")["TrialArn"]
    component = ask.ask("CreateTrialComponent", TrialComponentName="joins")["TrialComponentArn"]
    names = {"TrialName": "joins", "TrialComponentName": "joins"}
    arns = {"TrialComponentArn": component, "TrialArn": trial}
    for _ in range(2):
        assert ask.ask("AssociateTrialComponent", **names) == arns
    code, message = ask.refused("DeleteTrialComponent", TrialComponentName="joins")
    assert code == "ValidationException" and "Disassociate it first" in message
    assert ask.ask("DisassociateTrialComponent", **names) == arns
    assert ask.ask("ListTrialComponents", TrialName="joins")["TrialComponentSummaries"] == []
    missing = ask.refused("AssociateTrialComponent", TrialName="no", TrialComponentName="joins")
    assert missing == ("ResourceNotFound", "Trial 'no' does not exist.")


def test_every_change_of_a_model_card_is_a_version(ask: Asker) -> None:
    content = [json.dumps({"model_overview": {"model_description": word}}) for word in "abc"]
    ask.ask(
        "CreateModelCard", ModelCardName="versions", Content=content[0], ModelCardStatus="Draft"
    )
    for text in content[1:]:
        ask.ask("UpdateModelCard", ModelCardName="versions", Content=text)
    shown = ask.ask("ListModelCardVersions", ModelCardName="versions")
    numbers = [one["ModelCardVersion"] for one in shown["ModelCardVersionSummaryList"]]
    assert numbers == [3, 2, 1]
    first = ask.ask("ListModelCardVersions", ModelCardName="versions", MaxResults=2)
    rest = ask.ask("ListModelCardVersions", ModelCardName="versions", NextToken=first["NextToken"])
    assert [one["ModelCardVersion"] for one in rest["ModelCardVersionSummaryList"]] == [1]
    for number, text in enumerate(content, 1):
        card = ask.ask("DescribeModelCard", ModelCardName="versions", ModelCardVersion=number)
        assert card["Content"] == text and card["ModelCardVersion"] == number
    assert ask.refused("DescribeModelCard", ModelCardName="versions", ModelCardVersion=4)[0] == (
        "ResourceNotFound"
    )


def test_tags_are_merged_and_bounded(ask: Asker) -> None:
    made = ask.ask("CreateExperiment", ExperimentName="tagged", Tags=[{"Key": "a", "Value": "1"}])
    arn = made["ExperimentArn"]
    added = [{"Key": "a", "Value": "2"}, {"Key": "b", "Value": ""}]
    assert ask.ask("AddTags", ResourceArn=arn, Tags=added)["Tags"] == added
    many = [{"Key": f"k{number}", "Value": ""} for number in range(49)]
    assert ask.refused("AddTags", ResourceArn=arn, Tags=many)[0] == "ResourceLimitExceeded"
    reserved = ask.refused("AddTags", ResourceArn=arn, Tags=[{"Key": "aws:x", "Value": "1"}])
    assert reserved[0] == "ValidationException"
    assert ask.ask("ListTags", ResourceArn=arn)["Tags"] == added
    nobody = arn.replace("tagged", "nobody")
    assert ask.refused("ListTags", ResourceArn=nobody)[0] == "ValidationException"


def test_the_answers_of_the_wire_check_themselves() -> None:
    """The judge of answers sees what is wrong with one."""
    services = Services()
    model = services.get("sagemaker")
    assert model is not None
    shape = model.operation_model("DescribeModel").output_shape
    good = {"ModelArn": "arn:aws:sagemaker:us-east-1:123456789012:model/m", "CreationTime": 1.5}
    assert faults_of(shape, {**good, "ModelName": "m"}) == []
    wrong = {**good, "CreationTime": "now", "Containers": None, "Colour": "red"}
    assert len(faults_of(shape, wrong)) == 4
