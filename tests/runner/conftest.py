"""A real S3 and CloudWatch (moto), a server that fails as told, and host specs to go with them."""

from __future__ import annotations

import contextlib
import json
import math
import socket
import threading
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import boto3
import pytest
from moto.server import ThreadedMotoServer

from clary.runner.s3 import S3
from clary.runner.signing import Credentials
from clary.runner.spec import HostSpec, parse

KEYS = Credentials("AKIAEXAMPLE", "secret", "", math.inf)


@pytest.fixture(scope="session")
def endpoint() -> Iterator[str]:
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    _, port = server.get_host_and_port()
    yield f"http://127.0.0.1:{port}"
    server.stop()


@pytest.fixture(scope="session")
def boto(endpoint: str) -> Callable[[str], Any]:
    session = boto3.Session("AKIAEXAMPLE", "secret", region_name="us-east-1")
    clients: dict[str, Any] = {}

    def client(service: str) -> Any:
        if service not in clients:
            clients[service] = session.client(service, endpoint_url=endpoint)
        return clients[service]

    return client


@pytest.fixture
def bucket(boto: Callable[[str], Any]) -> str:
    name = f"b-{uuid.uuid4().hex[:12]}"
    boto("s3").create_bucket(Bucket=name)
    return name


@pytest.fixture
def s3(endpoint: str) -> Iterator[S3]:
    client = S3(endpoint, "us-east-1", lambda: KEYS, patience_seconds=5)
    yield client
    client.close()


@pytest.fixture
def put(boto: Callable[[str], Any], bucket: str) -> Callable[..., None]:
    def store(objects: dict[str, bytes]) -> None:
        for key, body in objects.items():
            boto("s3").put_object(Bucket=bucket, Key=key, Body=body)

    return store


@pytest.fixture
def stored(boto: Callable[[str], Any], bucket: str) -> Callable[[], dict[str, bytes]]:
    """Everything that the bucket holds."""

    def read() -> dict[str, bytes]:
        client = boto("s3")
        found: dict[str, bytes] = {}
        for item in client.list_objects_v2(Bucket=bucket).get("Contents", []):
            # A mirror may delete what was just listed.
            with contextlib.suppress(client.exceptions.NoSuchKey):
                body = client.get_object(Bucket=bucket, Key=item["Key"])["Body"]
                found[item["Key"]] = body.read()
        return found

    return read


@pytest.fixture
def make_spec(tmp_path: Path, endpoint: str) -> Callable[..., HostSpec]:
    """A host spec of one host; keyword arguments replace its members."""

    def make(**members: Any) -> HostSpec:
        host = members.get("host", "algo-1")
        directory = tmp_path / "g1" / host
        (directory / "ml").mkdir(parents=True, exist_ok=True)
        document = {
            "version": 1,
            "work": "arn:aws:sagemaker:us-east-1:123456789012:training-job/job",
            "generation": 1,
            "host": host,
            "hosts": ["algo-1"],
            "directory": str(directory),
            "shared": str(tmp_path / "g1"),
            "endpoint_url": endpoint,
            "region": "us-east-1",
            "program": {"argv": ["train"]},
            "limits": {"seconds": 60},
            "grace_seconds": 1,
            **members,
        }
        return parse(json.loads(json.dumps(document)))

    return make


class Received:
    """One request as a scripted server saw it."""

    def __init__(self, method: str, target: str, headers: dict[str, str], body: bytes) -> None:
        self.method = method
        self.target = target
        self.headers = headers
        self.body = body

    @property
    def operation(self) -> str:
        return self.headers.get("x-amz-target", "").rpartition(".")[2]

    @property
    def document(self) -> dict[str, Any]:
        return json.loads(self.body)


class Scripted:
    """A server whose answers are raw bytes given by a function; None closes the connection."""

    def __init__(self, answer: Callable[[Received], bytes | None], port: int = 0) -> None:
        self.answer = answer
        self.requests: list[Received] = []
        self._listener = socket.create_server(("127.0.0.1", port))
        self.port = self._listener.getsockname()[1]
        self.url = f"http://127.0.0.1:{self.port}"
        self._open: list[socket.socket] = []
        self._threads = [threading.Thread(target=self._accept, daemon=True)]
        self._threads[0].start()

    def _accept(self) -> None:
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            self._open.append(connection)
            thread = threading.Thread(target=self._serve, args=(connection,), daemon=True)
            self._threads.append(thread)
            thread.start()

    def _serve(self, connection: socket.socket) -> None:
        with connection, connection.makefile("rb") as stream:
            try:
                while True:
                    first = stream.readline().decode().split()
                    if not first:
                        return
                    headers: dict[str, str] = {}
                    while line := stream.readline().decode().strip():
                        name, _, value = line.partition(":")
                        headers[name.lower()] = value.strip()
                    body = stream.read(int(headers.get("content-length", 0)))
                    request = Received(first[0], first[1], headers, body)
                    self.requests.append(request)
                    answer = self.answer(request)
                    if answer is None:
                        return
                    connection.sendall(answer)
                    if b"connection: close" in answer.lower():
                        return
            except OSError:
                return

    def close(self) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        for connection in self._open:
            try:
                connection.shutdown(socket.SHUT_RDWR)
            except OSError:
                continue
        for thread in self._threads:
            thread.join(5)


@pytest.fixture
def scripted() -> Iterator[Callable[..., Scripted]]:
    made: list[Scripted] = []

    def make(answer: Callable[[Received], bytes | None], port: int = 0) -> Scripted:
        made.append(Scripted(answer, port))
        return made[-1]

    yield make
    for server in made:
        server.close()


@pytest.fixture
def reply() -> Callable[..., bytes]:
    def make(status: int, body: bytes = b"", **headers: str) -> bytes:
        lines = [f"HTTP/1.1 {status} X", f"Content-Length: {len(body)}"]
        lines += [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
        return "\r\n".join(lines).encode() + b"\r\n\r\n" + body

    return make
