"""A client that checks every answer against its shape before a test sees it."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from typing import Any

import boto3
from botocore import xform_name
from botocore.config import Config
from botocore.exceptions import ClientError
from botocore.model import OperationModel

from clary.cli.installation import Installation
from tests.contract.answers import faults_of

WAIT_SECONDS = 30.0


class Asker:
    """Real boto3 clients of one server, as its administrator."""

    def __init__(self, installation: Installation) -> None:
        keys = installation.administrator()
        self.url = installation.url
        self.session = boto3.Session(keys.access_key, keys.secret, region_name="us-east-1")
        self.sagemaker = self.client("sagemaker")
        self._body = b""
        self.sagemaker.meta.events.register("before-parse.sagemaker", self._keep)
        self.answered: set[str] = set()

    def client(self, service: str) -> Any:
        config = Config(retries={"total_max_attempts": 1}, s3={"addressing_style": "path"})
        return self.session.client(service, endpoint_url=self.url, config=config)

    def model(self, operation: str) -> OperationModel:
        return self.sagemaker.meta.service_model.operation_model(operation)

    def ask(self, operation: str, **members: Any) -> dict[str, Any]:
        """The answer as boto3 gives it; what came over the wire is checked against the output shape."""
        answer = getattr(self.sagemaker, xform_name(operation))(**members)
        faults = faults_of(self.model(operation).output_shape, json.loads(self._body or b"{}"))
        assert faults == [], f"{operation}({members}) answered {self._body!r}"
        self.answered.add(operation)
        answer.pop("ResponseMetadata")
        return answer

    def refused(self, operation: str, **members: Any) -> tuple[str, str]:
        """(code, message) of the error that an operation answers; fail if it answers none."""
        try:
            answer = getattr(self.sagemaker, xform_name(operation))(**members)
        except ClientError as problem:
            error = problem.response["Error"]
            return error["Code"], error["Message"]
        raise AssertionError(f"{operation}({members}) was not refused: {answer}")

    def wait(self, condition: Callable[[], Any]) -> Any:
        deadline = time.monotonic() + WAIT_SECONDS
        while not (found := condition()):
            assert time.monotonic() < deadline, "the condition did not come true in time"
            time.sleep(0.05)
        return found

    def close(self) -> None:
        self.sagemaker.close()

    def _keep(self, response_dict: dict[str, Any], **_: Any) -> None:
        self._body = response_dict["body"]
