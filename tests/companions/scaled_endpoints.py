"""A real control whose clock can be turned forward, a real door beside it, and real endpoints on both."""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import boto3

from clary.cli.installation import Installation
from clary.cli.processes import free_port
from clary.cli.running_work import end_work
from clary.companions import application_autoscaling, cloudwatch_alarms
from clary.engine.chores import Chores
from clary.identity.principals import service_principal
from clary.server import Server
from clary.settings import Settings
from tests.journeys.conftest import REGION, ROLE, SKLEARN, plain_environment, wait_until

PAUSE_SECONDS = 30.0
HANDLERS = """
def model_fn(folder):
    return None

def input_fn(body, content_type):
    return body

def predict_fn(body, model):
    return "said"

def output_fn(said, accept):
    return said, "text/plain"
"""


class Clock:
    """The time of this machine, and as much more as a test has let go by."""

    ahead = 0.0

    def __call__(self) -> float:
        return time.time() + self.ahead


class Bench:
    """Control in this process, with its chores done when a test says; the door is a process of its own."""

    def __init__(self, settings: Settings) -> None:
        self.clock = Clock()
        self.server = Server(settings, self.clock)
        self.server.chores = Chores(())
        told = self.server.internal.put_metrics
        # The door tells the time of this machine; its counters are of the turned clock.
        put = replace(self.server.internal, put_metrics=lambda batch: told(self._turned(batch)))
        self.server.internal = put
        self.server.start()
        keys = Installation(settings).administrator()
        self.session: Any = boto3.Session(keys.access_key, keys.secret, region_name=REGION)
        self.url = f"http://127.0.0.1:{settings.port}"
        self._opened: dict[str, Any] = {}

    def _turned(self, batch: list[dict[str, Any]]) -> list[dict[str, Any]]:
        return [{**one, "timestamp": one["timestamp"] + self.clock.ahead} for one in batch]

    def client(self, service: str) -> Any:
        """Of what the door answers by itself: objects and invocations."""
        if service not in self._opened:
            self._opened[service] = self.session.client(service, endpoint_url=self.url)
        return self._opened[service]

    def ask(self, operation: str, service: str = "sagemaker", **members: Any) -> dict[str, Any]:
        principal = service_principal(self.server.settings.account, "tests")
        return self.server.call(service, operation, members, principal=principal, region=REGION)

    def pass_minutes(self, minutes: float) -> None:
        """Time goes by, and what is done by the clock is done; alarms first, as they are each minute."""
        self.clock.ahead += 60 * minutes
        self.look()

    def look(self) -> None:
        now = self.clock()
        cloudwatch_alarms.evaluate_all(self.server, now)
        application_autoscaling.scale_all(self.server, now)
        self.server.wake()

    def model(self, name: str) -> None:
        environment = {
            "SAGEMAKER_PROGRAM": "inference.py",
            "SAGEMAKER_SUBMIT_DIRECTORY": "/opt/ml/model/code",
            "SAGEMAKER_MODEL_SERVER_WORKERS": "1",
        }
        container = {"Image": SKLEARN, "ModelDataUrl": "s3://models/model.tar.gz"}
        container["Environment"] = environment  # type: ignore[assignment]
        self.ask("CreateModel", ModelName=name, ExecutionRoleArn=ROLE, PrimaryContainer=container)

    def endpoint(self, name: str, variant: dict[str, Any], **members: Any) -> None:
        variants = [{"VariantName": "A", **variant}]
        self.ask(
            "CreateEndpointConfig", EndpointConfigName=name, ProductionVariants=variants, **members
        )
        self.ask("CreateEndpoint", EndpointName=name, EndpointConfigName=name)
        self.settled(name)

    def variant(self, name: str) -> dict[str, Any]:
        return self.ask("DescribeEndpoint", EndpointName=name)["ProductionVariants"][0]

    def settled(self, name: str) -> None:
        wait_until(
            lambda: self.ask("DescribeEndpoint", EndpointName=name)["EndpointStatus"] == "InService"
        )

    def sum_of(self, metric: str, **dimensions: str) -> float:
        """Of the last hour, once what the door has counted is here."""
        answer = self.ask(
            "GetMetricStatistics",
            "cloudwatch",
            Namespace="AWS/SageMaker",
            MetricName=metric,
            Dimensions=[{"Name": key, "Value": one} for key, one in dimensions.items()],
            StartTime=_at(self.clock() - 3600),
            EndTime=_at(self.clock() + 60),
            Period=3600,
            Statistics=["Sum"],
        )
        return sum(one["Sum"] for one in answer["Datapoints"])

    def close(self) -> None:
        for client in self._opened.values():
            client.close()
        self.server.close()


def _at(moment: float) -> Any:
    return datetime.fromtimestamp(moment, UTC)


@contextlib.contextmanager
def bench_with(pack: Callable[[dict[str, str]], bytes]) -> Iterator[Bench]:
    home = Path(tempfile.mkdtemp(prefix="clary-", dir="/tmp"))
    settings = replace(Settings.load(plain_environment()), home=home, port=free_port())
    bench, door = None, None
    try:
        bench = Bench(settings)
        door = _door(settings)
        s3 = bench.client("s3")
        wait_until(lambda: _answers(s3))
        s3.create_bucket(Bucket="models")
        s3.put_object(
            Bucket="models", Key="model.tar.gz", Body=pack({"code/inference.py": HANDLERS})
        )
        yield bench
    finally:
        if bench is not None:
            bench.close()
        if door is not None:
            door.terminate()
            door.wait(PAUSE_SECONDS)
        end_work(home)
        shutil.rmtree(home, ignore_errors=True)


def _door(settings: Settings) -> subprocess.Popen[bytes]:
    environment = {**plain_environment(), "CLARY_HOME": str(settings.home)}
    environment |= {"CLARY_PORT": str(settings.port), "CLARY_CACHE": str(settings.cache)}
    with open(settings.home / "door.log", "wb") as log:
        return subprocess.Popen(
            [sys.executable, "-m", "clary.dataplane"],
            env={**environment, "PYTHONPATH": os.pathsep.join(sys.path)},
            stdout=log,
            stderr=log,
        )


def _answers(s3: Any) -> bool:
    try:
        s3.list_buckets()
    except Exception:  # noqa: BLE001 - it is asked until it is there, within a deadline
        return False
    return True
