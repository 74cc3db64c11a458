"""Endpoints can be deleted in whatever state they are, and leave nothing behind."""

from __future__ import annotations

import pytest
from botocore.exceptions import ClientError

from tests.journeys.conftest import SKLEARN, archive, wait_until
from tests.resources.inference.conftest import VARIABLES, unique, variant

pytestmark = pytest.mark.xdist_group("endpoints")

# It never becomes healthy, and never gives up.
STUCK = "import time\nprint('loading weights', flush=True)\ntime.sleep(600)\n"
BROKEN = "print('reading the vocabulary', flush=True)\nraise RuntimeError('no vocabulary')\n"


def model(hosting, script: str) -> str:
    key = f"{unique('script')}/model.tar.gz"
    packed = archive({"code/inference.py": script})
    hosting.s3.put_object(Bucket=hosting.bucket, Key=key, Body=packed)
    container = {"Image": SKLEARN, "ModelDataUrl": f"s3://{hosting.bucket}/{key}"}
    return hosting.model("m", PrimaryContainer={**container, "Environment": VARIABLES})


def created(hosting, script: str) -> str:
    name = unique("endpoint")
    config = hosting.config(variant(model(hosting, script)))
    hosting.sagemaker.create_endpoint(EndpointName=name, EndpointConfigName=config)
    return name


def folders(server) -> set[str]:
    return {str(path) for path in server.home.glob("work/*/g*/*")}


def delete(hosting, server, name: str, before: set[str]) -> None:
    """Delete and see that the endpoint, its hosts and their files are gone."""
    hosting.sagemaker.delete_endpoint(EndpointName=name)

    def gone() -> bool:
        try:
            hosting.described(name)
        except ClientError as problem:
            return "Could not find endpoint" in str(problem)
        return False

    wait_until(gone)
    wait_until(lambda: folders(server) <= before)


def test_an_endpoint_that_never_comes_up_can_be_deleted(hosting, server):
    before = folders(server)
    name = created(hosting, STUCK)
    wait_until(lambda: folders(server) - before)
    assert hosting.described(name)["EndpointStatus"] == "Creating"
    delete(hosting, server, name, before)


def test_an_endpoint_whose_update_is_stuck_can_be_deleted(hosting, server):
    before = folders(server)
    name = hosting.endpoint(hosting.config(variant(hosting.model("good"))))
    hosting.endpoints.remove(name)
    known = folders(server)
    config = hosting.config(variant(model(hosting, STUCK)))
    hosting.sagemaker.update_endpoint(EndpointName=name, EndpointConfigName=config)
    wait_until(lambda: folders(server) - known)
    assert hosting.described(name)["EndpointStatus"] == "Updating"
    assert hosting.invoke(name) == "good(x)"
    delete(hosting, server, name, before)


def test_a_failed_endpoint_says_what_its_container_said_last_and_can_be_deleted(hosting, server):
    before = folders(server)
    name = created(hosting, BROKEN)
    found = wait_until(
        lambda: (one := hosting.described(name))["EndpointStatus"] == "Failed" and one
    )
    assert "did not pass the ping health check" in found["FailureReason"]
    assert "no vocabulary" in found["FailureReason"]
    delete(hosting, server, name, before)
