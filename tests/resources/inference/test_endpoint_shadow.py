"""Shadow variants of real endpoints: they see the requests, and nobody sees their answers."""

from __future__ import annotations

import time

import pytest
from botocore.exceptions import ClientError

from tests.journeys.conftest import wait_until
from tests.resources.inference.conftest import variant

pytestmark = pytest.mark.xdist_group("endpoints")


def invocations(client, name: str, shadow: str) -> float:
    found = client("cloudwatch").get_metric_data(
        MetricDataQueries=[
            {
                "Id": "m",
                "MetricStat": {
                    "Metric": {
                        "Namespace": "AWS/SageMaker",
                        "MetricName": "Invocations",
                        "Dimensions": [
                            {"Name": "EndpointName", "Value": name},
                            {"Name": "VariantName", "Value": shadow},
                        ],
                    },
                    "Period": 3600,
                    "Stat": "Sum",
                },
            }
        ],
        StartTime=time.time() - 3600,
        EndTime=time.time() + 3600,
    )
    return sum(found["MetricDataResults"][0]["Values"])


def test_a_shadow_gets_its_share_of_the_requests_and_answers_nobody(hosting, client):
    shadow = variant(hosting.model("shadow"), "Shadow", InitialVariantWeight=1.0)
    real = variant(hosting.model("real"), InitialVariantWeight=2.0)
    name = hosting.endpoint(hosting.config(real, ShadowProductionVariants=[shadow]))
    shown = hosting.described(name)["ShadowProductionVariants"]
    assert [one["VariantName"] for one in shown] == ["Shadow"]
    assert {hosting.invoke(name) for _ in range(200)} == {"real(x)"}
    wait_until(lambda: invocations(client, name, "A") == 200, 20)
    # Half of two hundred, give or take five standard deviations.
    assert 65 <= invocations(client, name, "Shadow") <= 135
    with pytest.raises(ClientError, match="Variant Shadow not found"):
        hosting.invoke(name, TargetVariant="Shadow")
