"""Endpoints of a real server: models that say which they are, made quickly."""

from __future__ import annotations

import threading
import time
import uuid
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import pytest
from botocore.exceptions import ClientError

from tests.journeys.conftest import (
    ROLE,
    SKLEARN,
    archive,
    bucket_of,
    client,
    exported,
    server,
    wait_until,
)

__all__ = ["client", "exported", "server"]

# Answers with the name of the model and the body, so that a test sees who answered.
SCRIPT = """
import json, os

def model_fn(folder):
    with open(os.path.join(folder, "name.txt")) as file:
        return file.read()

def input_fn(body, content_type):
    return body.decode() if isinstance(body, bytes) else body

def predict_fn(body, model):
    return f"{model}({body})"

def output_fn(said, accept):
    return said, "text/plain"
"""
VARIABLES = {
    "SAGEMAKER_PROGRAM": "inference.py",
    "SAGEMAKER_SUBMIT_DIRECTORY": "/opt/ml/model/code",
    "SAGEMAKER_MODEL_SERVER_WORKERS": "1",
}


def unique(stem: str) -> str:
    return f"{stem}-{uuid.uuid4().hex[:8]}"


@dataclass
class Hosting:
    """What the tests of endpoints do again and again."""

    sagemaker: Any
    runtime: Any
    s3: Any
    bucket: str
    endpoints: list[str] = field(default_factory=list)

    def container(self, says: str, **members: Any) -> dict[str, Any]:
        key = f"{unique(says)}/model.tar.gz"
        packed = archive({"name.txt": says, "code/inference.py": SCRIPT})
        self.s3.put_object(Bucket=self.bucket, Key=key, Body=packed)
        url = f"s3://{self.bucket}/{key}"
        return {"Image": SKLEARN, "ModelDataUrl": url, "Environment": VARIABLES, **members}

    def model(self, says: str, **members: Any) -> str:
        name = unique("model")
        request = members or {"PrimaryContainer": self.container(says)}
        self.sagemaker.create_model(ModelName=name, ExecutionRoleArn=ROLE, **request)
        return name

    def config(self, *variants: dict[str, Any], **members: Any) -> str:
        name = unique("config")
        self.sagemaker.create_endpoint_config(
            EndpointConfigName=name, ProductionVariants=list(variants), **members
        )
        return name

    def endpoint(self, config: str, seconds: float = 60.0) -> str:
        name = unique("endpoint")
        self.sagemaker.create_endpoint(EndpointName=name, EndpointConfigName=config)
        self.endpoints.append(name)
        self.in_service(name, seconds)
        return name

    def described(self, name: str) -> dict[str, Any]:
        return self.sagemaker.describe_endpoint(EndpointName=name)

    def in_service(self, name: str, seconds: float = 60.0) -> dict[str, Any]:
        def settled() -> dict[str, Any] | None:
            found = self.described(name)
            return found if found["EndpointStatus"] in ("InService", "Failed") else None

        found = wait_until(settled, seconds)
        assert found["EndpointStatus"] == "InService", found
        return found

    def invoke(self, name: str, body: str = "x", **members: Any) -> str:
        answer = self.runtime.invoke_endpoint(
            EndpointName=name, Body=body, ContentType="text/plain", **members
        )
        return answer["Body"].read().decode()


def variant(model: str, name: str = "A", count: int = 1, **members: Any) -> dict[str, Any]:
    return {
        "VariantName": name,
        "ModelName": model,
        "InstanceType": "ml.m5.large",
        "InitialInstanceCount": count,
        **members,
    }


def refusal(call: Callable[..., Any], **request: Any) -> tuple[str, str]:
    """The code and the message of the error that a request gets."""
    with pytest.raises(ClientError) as caught:
        call(**request)
    error: dict[str, str] = {**caught.value.response.get("Error", {})}
    return error["Code"], error["Message"]


@pytest.fixture
def hosting(client: Callable[..., Any]):
    s3 = client("s3")
    made = Hosting(client("sagemaker"), client("sagemaker-runtime"), s3, bucket_of(s3))
    yield made
    for name in made.endpoints:
        made.in_service(name)
        made.sagemaker.delete_endpoint(EndpointName=name)


class Load:
    """Invokes an endpoint from a few threads until it is told to end, and counts who answered."""

    def __init__(self, hosting: Hosting, name: str, threads: int = 3) -> None:
        self.said: dict[str, int] = {}
        self.failures: list[str] = []
        self._hosting, self._name = hosting, name
        self._ended = threading.Event()
        self._threads = [threading.Thread(target=self._run) for _ in range(threads)]

    def __enter__(self) -> Load:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        for thread in self._threads:
            thread.join()

    def _run(self) -> None:
        while not self._ended.is_set():
            try:
                said = self._hosting.invoke(self._name)
            except Exception as problem:  # noqa: BLE001 - told by the test
                self.failures.append(f"{time.time():.3f} {problem}")
            else:
                self.said[said] = self.said.get(said, 0) + 1
