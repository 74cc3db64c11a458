"""A model that kills its process on one row, under load: whom that costs an answer, and whom it does not."""

from __future__ import annotations

import threading
import time
from typing import Any

import boto3
import pytest
from botocore.config import Config
from botocore.exceptions import ClientError

from tests.journeys.conftest import SKLEARN, archive, wait_until
from tests.resources.inference.conftest import VARIABLES, unique, variant

pytestmark = pytest.mark.xdist_group("endpoints")

CALLERS = 64
SECONDS = 3.0
# A pipeline of scikit-learn's: rows of different requests are predicted together.
SCRIPT = """
import os, signal, numpy
from sklearn.linear_model import LinearRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer

def check(rows):
    if (rows == 666).any():
        os.kill(os.getpid(), signal.SIGKILL)
    return rows

def model_fn(folder):
    x = numpy.arange(40.0).reshape(20, 2)
    return make_pipeline(FunctionTransformer(check), LinearRegression()).fit(x, x[:, 0] * 3 + 1)
"""


class Callers:
    """Ask the endpoint from many threads at once, each with rows of its own."""

    def __init__(self, runtime: Any, endpoint: str) -> None:
        self.runtime, self.endpoint = runtime, endpoint
        self.answered = 0
        self.wrong: list[tuple[int, float]] = []
        self.refused: list[str] = []
        self.slowest = 0.0
        self._guard = threading.Lock()
        self._end = time.monotonic() + SECONDS

    def ask(self, number: int) -> float:
        answer = self.runtime.invoke_endpoint(
            EndpointName=self.endpoint,
            Body=f"{number},{number + 1}",
            ContentType="text/csv",
            Accept="text/csv",
        )
        return float(answer["Body"].read())

    def run(self) -> None:
        threads = [threading.Thread(target=self._call, args=(one,)) for one in range(CALLERS)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

    def _call(self, caller: int) -> None:
        number = caller * 8
        while time.monotonic() < self._end:
            began, number = time.monotonic(), (number + 1) % 600
            # One of the callers is the culprit, a few times.
            wanted = 666 if caller == 0 and number % 8 == 1 else number
            try:
                found = self.ask(wanted)
            except ClientError as problem:
                told = problem.response.get("Error", {}).get("Code", "")
                status = problem.response.get("ResponseMetadata", {}).get("HTTPStatusCode")
                with self._guard:
                    self.refused += [f"{status} {told}"] if wanted != 666 else []
            else:
                with self._guard:
                    self.answered += 1
                    if abs(found - (3 * wanted + 1)) > 1e-3:
                        self.wrong.append((wanted, found))
            self.slowest = max(self.slowest, time.monotonic() - began)


@pytest.fixture
def runtime(exported):
    """One connection for each caller, and no retries that would hide a refusal."""
    client = boto3.client(
        "sagemaker-runtime",
        endpoint_url=exported["AWS_ENDPOINT_URL"],
        region_name=exported["AWS_REGION"],
        aws_access_key_id=exported["AWS_ACCESS_KEY_ID"],
        aws_secret_access_key=exported["AWS_SECRET_ACCESS_KEY"],
        aws_session_token=exported.get("AWS_SESSION_TOKEN"),
        config=Config(
            retries={"total_max_attempts": 1}, max_pool_connections=CALLERS, read_timeout=50
        ),
    )
    yield client
    client.close()


def test_a_row_that_kills_its_process_costs_few_others_their_answer(hosting, runtime):
    key = f"{unique('crashing')}/model.tar.gz"
    hosting.s3.put_object(
        Bucket=hosting.bucket, Key=key, Body=archive({"code/inference.py": SCRIPT})
    )
    container = {
        "Image": SKLEARN,
        "ModelDataUrl": f"s3://{hosting.bucket}/{key}",
        "Environment": {**VARIABLES, "SAGEMAKER_MODEL_SERVER_WORKERS": "2"},
    }
    name = hosting.endpoint(hosting.config(variant(hosting.model("", PrimaryContainer=container))))
    callers = Callers(runtime, name)
    callers.run()
    assert callers.wrong == []
    assert callers.slowest < 30.0
    assert callers.answered > CALLERS
    # What the killed process was at may have had its effect; all else is asked again.
    assert set(callers.refused) <= {"424 ModelError"}
    assert len(callers.refused) < callers.answered / 2
    wait_until(lambda: abs(callers.ask(7) - 22) < 1e-3)
    assert hosting.described(name)["EndpointStatus"] == "InService"
