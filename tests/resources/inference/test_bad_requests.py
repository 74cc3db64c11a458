"""What a bad request or a bad model gets: a precise error for its caller, and nothing for the others."""

from __future__ import annotations

import io
import tarfile

import pytest
from botocore.exceptions import ClientError

from tests.journeys.conftest import archive, wait_until

from .conftest import VARIABLES, Hosting, unique, variant

# The default handlers of the image read the body; the model is a sum that refuses what is no number.
SUMS = """
import os, sys
import numpy

class Sums:
    def predict(self, rows):
        if not numpy.isfinite(rows).all():
            raise ValueError("Input contains NaN.")
        os.write(1, bytes(range(256)))  # what no log expects
        return numpy.asarray(rows).sum(axis=1)

def model_fn(folder):
    return Sums()
"""


def endpoint_of(hosting: Hosting, packed: bytes) -> str:
    key = f"{unique('bad')}/model.tar.gz"
    hosting.s3.put_object(Bucket=hosting.bucket, Key=key, Body=packed)
    url = f"s3://{hosting.bucket}/{key}"
    container = {**hosting.container("bad"), "ModelDataUrl": url, "Environment": VARIABLES}
    return hosting.config(variant(hosting.model("", PrimaryContainer=container)))


def test_a_bad_body_is_told_to_its_caller_alone(hosting: Hosting):
    name = hosting.endpoint(endpoint_of(hosting, archive({"code/inference.py": SUMS})))

    def ask(body: str, kind: str = "text/csv") -> str:
        answer = hosting.runtime.invoke_endpoint(
            EndpointName=name, Body=body, ContentType=kind, Accept="text/csv"
        )
        return answer["Body"].read().decode()

    def refused(body: str, kind: str = "text/csv") -> tuple[str, int, str]:
        with pytest.raises(ClientError) as caught:
            ask(body, kind)
        error = caught.value.response
        return error["Error"]["Code"], error["OriginalStatusCode"], error["OriginalMessage"]

    assert float(ask("1,2,3")) == 6.0
    for body, kind, status, words in (
        ("1,2,3", "image/png", 415, "image/png"),
        ("1,2\n3", "text/csv", 400, "line 2"),
        ("1,nan", "text/csv", 500, "Input contains NaN."),
        ("a,b", "text/csv", 400, "a"),
    ):
        code, original, message = refused(body, kind)
        assert (code, original) == ("ModelError", status), message
        assert words in message
        assert float(ask("4,5")) == 9.0


def test_an_archive_that_climbs_out_fails_its_endpoint_and_says_so(hosting: Hosting):
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w:gz") as file:
        evil = tarfile.TarInfo("../../../evil.txt")
        evil.size = 4
        file.addfile(evil, io.BytesIO(b"evil"))
    name = unique("endpoint")
    hosting.sagemaker.create_endpoint(
        EndpointName=name, EndpointConfigName=endpoint_of(hosting, stream.getvalue())
    )
    found = wait_until(
        lambda: (one := hosting.described(name))["EndpointStatus"] == "Failed" and one, 90
    )
    assert "../../../evil.txt" in found["FailureReason"]
    for change, given in (
        (hosting.sagemaker.update_endpoint, {"EndpointConfigName": found["EndpointConfigName"]}),
        (
            hosting.sagemaker.update_endpoint_weights_and_capacities,
            {"DesiredWeightsAndCapacities": [{"VariantName": "A", "DesiredInstanceCount": 2}]},
        ),
    ):
        words = f'Cannot update endpoint "{found["EndpointArn"]}" with status Failed: it can only '
        with pytest.raises(ClientError, match=words):
            change(EndpointName=name, **given)
    hosting.sagemaker.delete_endpoint(EndpointName=name)
