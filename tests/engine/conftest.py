"""Kinds with their odd features, over a store of their own."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from clary.engine.call import Call
from clary.engine.resource import Resource
from clary.model.errors import ResourceNotFound, ValidationException
from clary.reconcile.decisions import Wait
from clary.reconcile.lifecycles import JOB
from tests.engine.small_parts import SmallParts, small_parts


def name_is_polite(call: Call) -> None:
    if "damn" in call.input["ModelName"]:
        raise ValidationException("Names are polite.")


KINDS = (
    Resource("Model", defaults={"EnableNetworkIsolation": False}, admits=(name_is_polite,)),
    Resource("Experiment", arn_name=str.lower, missing=ResourceNotFound("No {name} at {arn}.")),
    Resource("Context", computed={"Description": lambda row: f"{row.name}!"}),
    Resource("Pipeline", secret=("PipelineDefinition",), sorts=("name", False)),
    Resource("Domain", identifier=lambda call: f"d-{call.input['DomainName']}"),
    Resource("UserProfile"),
    Resource("Workforce", wrapped="Workforce"),
    Resource("TransformJob", lifecycle=JOB, plan=lambda row, seen: [Wait(1.0)]),
    Resource("CodeRepository", taken=ValidationException("There is {name} at {arn} already.")),
    Resource("MonitoringSchedule", renamed={"EndpointName": "Watched"}),
)


@pytest.fixture
def parts(tmp_path: Path) -> Iterator[SmallParts]:
    with small_parts(tmp_path, *KINDS) as made:
        yield made
