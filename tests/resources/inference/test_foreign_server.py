"""Servers that know nothing of Clary: any program that listens on port 8080, several of them at once."""

from __future__ import annotations

import sys
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest

from clary.cli.installation import Installation
from clary.executors.capabilities import probe
from clary.images import user_images
from clary.reconcile.observations import Exited
from clary.resources.inference import endpoint_plan
from tests.executors.executor_contract import Door
from tests.journeys.conftest import archive, wait_until
from tests.resources.inference.conftest import Hosting, unique, variant

# Port 8080 to the letter. GET / of the door, whose address it finds in its environment, needs no key.
SERVE = """
import http.client, http.server, os, urllib.parse, urllib.request
NAME = open("/opt/ml/model/name.txt").read()
class Handler(http.server.BaseHTTPRequestHandler):
    def answer(self, body, status=200):
        self.send_response(status)
        self.send_header("Content-Type", "text/plain")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)
    def do_GET(self):
        self.answer(b"", 200 if self.path == "/ping" else 404)
    def do_POST(self):
        body = self.rfile.read(int(self.headers["Content-Length"]))
        if body == b"door":
            url = os.environ["AWS_ENDPOINT_URL"] + "/_clary/health"
            body = str(urllib.request.urlopen(url, timeout=20).status).encode()
        if body.startswith(b"tunnel "):
            proxy = urllib.parse.urlsplit(os.environ["HTTPS_PROXY"])
            outside = http.client.HTTPConnection(proxy.hostname, proxy.port, timeout=20)
            outside.set_tunnel("localhost", int(body.split()[1]))
            outside.request("GET", "/")
            body = outside.getresponse().read()
        self.answer(NAME.encode() + b" said " + body)
http.server.ThreadingHTTPServer(("0.0.0.0", 8080), Handler).serve_forever()
"""

pytestmark = pytest.mark.skipif(
    not probe().network_namespaces, reason=probe().explanations["network_namespaces"]
)


@pytest.fixture
def image(server: Installation) -> Iterator[str]:
    uri = f"bring-your-own-{uuid.uuid4().hex[:8]}:latest"
    user_images.add(
        uri,
        server.settings,
        existing=Path(sys.prefix),
        serve=("python", "/opt/ml/model/serve.py"),
    )
    yield uri
    user_images.remove(uri, server.settings)


def model(hosting: Hosting, image: str, says: str, script: str = SERVE) -> str:
    key = f"{unique(says)}/model.tar.gz"
    packed = archive({"name.txt": says, "serve.py": script})
    hosting.s3.put_object(Bucket=hosting.bucket, Key=key, Body=packed)
    url = f"s3://{hosting.bucket}/{key}"
    return hosting.model(says, PrimaryContainer={"Image": image, "ModelDataUrl": url})


def test_two_endpoints_and_a_serverless_one_listen_on_8080_at_once(
    hosting: Hosting, image: str
) -> None:
    serverless = {"MemorySizeInMB": 1024, "MaxConcurrency": 2}
    without_server = variant(model(hosting, image, "c"))
    del without_server["InstanceType"], without_server["InitialInstanceCount"]
    configs = [
        hosting.config(variant(model(hosting, image, "a"), count=2)),
        hosting.config(variant(model(hosting, image, "b"))),
        hosting.config({**without_server, "ServerlessConfig": serverless}),
    ]
    names = [hosting.endpoint(config) for config in configs]
    for _ in range(3):
        said = [hosting.invoke(name, "7") for name in names]
        assert said == ["a said 7", "b said 7", "c said 7"]
    assert hosting.invoke(names[0], "door") == "a said 200"
    with Door() as outside:
        assert hosting.invoke(names[1], f"tunnel {outside.port}") == "b said the door"


def test_the_reason_of_an_endpoint_says_that_nothing_listened_on_the_port() -> None:
    outcome = {
        "failure": "The primary container did not pass the ping health check. Nothing listened on "
        "port 8080. The program listened on 5000: and so on",
        "log_tail": ["Serving on 5000"],
    }
    reason = endpoint_plan._unhealthy("A-r1-i0", Exited(outcome))
    assert (
        "for this endpoint. Nothing listened on port 8080. The program listened on 5000" in reason
    )
    assert reason.endswith("Last log lines: Serving on 5000")


def test_the_reason_of_an_endpoint_tells_what_killed_its_server_and_ends_with_the_error() -> None:
    said = "The program was killed (SIGKILL) because it wanted more memory than the 96 MiB that it"
    outcome = {
        "failure": f"The primary container did not pass the ping health check. {said} may use. "
        "Last log lines: loading",
        "out_of_memory": True,
        "log_tail": ["loading"],
    }
    reason = endpoint_plan._unhealthy("A-r1-i0", Exited(outcome))
    assert reason.endswith(f"logs for this endpoint. {said} may use. Last log lines: loading")
    lines = ["INFO started", "Traceback (most recent call last):"]
    lines += [f'  File "inference.py", line {number}, in {"f" * 150}' for number in range(12)]
    lines += ["    ~~~^^^", "ValueError: no weights"]
    outcome = {"failure": "the sandbox is broken", "log_tail": lines}
    reason = endpoint_plan._unhealthy("A-r1-i0", Exited(outcome))
    assert "for this endpoint. the sandbox is broken Last log lines: File" in reason
    assert reason.endswith(" | ValueError: no weights")
    assert len(reason) <= 1024
    assert "INFO" not in reason and "^" not in reason


def test_a_transform_by_such_a_server_answers_every_line(hosting: Hosting, image: str) -> None:
    source, name = unique("in"), unique("transform")
    hosting.s3.put_object(Bucket=hosting.bucket, Key=f"{source}/lines.csv", Body=b"1\n2\n3\n")
    hosting.sagemaker.create_transform_job(
        TransformJobName=name,
        ModelName=model(hosting, image, "t"),
        BatchStrategy="SingleRecord",
        TransformInput={
            "DataSource": {
                "S3DataSource": {
                    "S3DataType": "S3Prefix",
                    "S3Uri": f"s3://{hosting.bucket}/{source}/",
                }
            },
            "ContentType": "text/csv",
            "SplitType": "Line",
        },
        TransformOutput={
            "S3OutputPath": f"s3://{hosting.bucket}/{source}-out",
            "AssembleWith": "Line",
        },
        TransformResources={"InstanceType": "ml.m5.large", "InstanceCount": 1},
    )

    def ended() -> dict[str, object] | None:
        found = hosting.sagemaker.describe_transform_job(TransformJobName=name)
        return found if found["TransformJobStatus"] not in ("InProgress", "Stopping") else None

    found = wait_until(ended, 60.0)
    assert found["TransformJobStatus"] == "Completed", found.get("FailureReason")
    answer = hosting.s3.get_object(Bucket=hosting.bucket, Key=f"{source}-out/lines.csv.out")
    assert answer["Body"].read().split(b"\n")[:3] == [b"t said 1", b"t said 2", b"t said 3"]
