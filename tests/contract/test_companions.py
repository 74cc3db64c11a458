"""The companions answer whatever their shapes allow: in the form of the shape, or with a client's error."""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime
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

OPERATIONS = sorted(
    one for one in discover(Services(), PACKAGES).answers if not one[0].startswith("sagemaker")
)
# Answers that tell more than their shape names, as those of AWS do.
MORE_THAN_MODELLED = {("iam", "GetAccountSummary")}


@pytest.mark.parametrize("service", sorted({service for service, _ in OPERATIONS}))
def test_a_companion_withstands_every_input(service: str, ask: Asker) -> None:
    client = ask.client(service)

    def fault(operation: str, *, rich: bool) -> str:
        model = client.meta.service_model.operation_model(operation)
        members = Inputs(rich=rich, values={}).make(model.input_shape)
        try:
            answer = getattr(client, xform_name(operation))(**members)
        except ClientError as problem:
            status = problem.response["ResponseMetadata"]["HTTPStatusCode"]
            code = problem.response["Error"]["Code"]
            told = f"{operation}({members}): {problem}"
            return "" if 400 <= status < 500 and code != "NotImplementedException" else told
        answer.pop("ResponseMetadata")
        checked = model.output_shape and (service, operation) not in MORE_THAN_MODELLED
        faults = faults_of(model.output_shape, _plain(answer)) if checked else []
        return f"{operation}: {faults}" if faults else ""

    names = [name for one, name in OPERATIONS if one == service]
    with ThreadPoolExecutor(4) as pool:
        faults = [*pool.map(lambda name: fault(name, rich=False), names)]
        faults += [*pool.map(lambda name: fault(name, rich=True), names)]
    client.close()
    assert [one for one in faults if one] == []


def _plain(value: Any) -> Any:
    """A parsed answer with the types that JSON would have."""
    if isinstance(value, datetime):
        return value.timestamp()
    if isinstance(value, bytes):
        return value.decode("latin-1")
    if isinstance(value, dict) and "Statement" in value:
        return json.dumps(value)  # a policy, which boto3 has taken apart
    if isinstance(value, dict):
        return {key: _plain(one) for key, one in value.items()}
    if isinstance(value, list):
        return [_plain(one) for one in value]
    return value
