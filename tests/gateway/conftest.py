"""A gateway on a Unix socket, with every kind and a real store behind it, but without loop and runners."""

from __future__ import annotations

import http.client
import json
import socket
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials

from clary.engine.registry import Registry, discover
from clary.gateway.audit import Trail
from clary.gateway.chain import Chain
from clary.gateway.listener import Listener
from clary.identity import first_start
from clary.identity.authenticate import Authenticator
from clary.identity.authorise import Authoriser
from clary.identity.sealing import install_key
from clary.model.service import Services
from clary.server import PACKAGES
from clary.settings import Settings
from clary.store.database import Store

BODY_BYTES_MAX = 64 * 1024


class UnixConnection(http.client.HTTPConnection):
    def __init__(self, path: Path) -> None:
        super().__init__("localhost", timeout=20)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(20)
        self.sock.connect(str(self._path))


@dataclass
class Answer:
    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def document(self) -> Any:
        return json.loads(self.body)

    @property
    def error(self) -> tuple[str, str]:
        """(code, message) of an AWS JSON error."""
        return self.document["__type"], self.document.get("message", "")


class Gateway:
    """What control puts before its handlers, over the parts that handlers of small kinds use."""

    def __init__(self, home: Path) -> None:
        self.settings = Settings(home=home, body_bytes_max=BODY_BYTES_MAX)
        self.ahead = 0.0  # seconds that the server's clock is before the client's
        self.store = Store.open(f"sqlite:///{home}/clary.db", clock=self.clock)
        self.telemetry, self.objects = self.store, None
        self.services = Services()
        self.registry: Registry = discover(self.services, PACKAGES)
        made = first_start.prepare(self.store, self.settings, self.clock)
        self.admin = Credentials(made["AccessKeyId"], made["SecretAccessKey"])
        self.key = install_key(home)
        self.authoriser = Authoriser(self.store, self.settings, self.clock)
        self.trail = Trail(home / "audit")
        self.chain = Chain(
            services=self.services,
            registry=self.registry,
            authenticator=Authenticator(self.store, self.settings, self.key, self.clock),
            authoriser=self.authoriser,
            trail=self.trail,
            parts=self,  # type: ignore[arg-type]
            account=self.settings.account,
        )
        self.path = home / "control.sock"
        self.listener = Listener(self.path, self.chain.handle, BODY_BYTES_MAX)
        self.listener.start()

    def clock(self) -> float:
        return time.time() + self.ahead

    def bound(self, noun: str) -> Any:
        return self.registry.resources[noun]

    def wake(self) -> None:
        return None

    def close(self) -> None:
        self.listener.close()
        self.trail.close()
        self.store.close()

    def audit(self) -> list[dict[str, Any]]:
        """The records so far; the trail is closed so that all are written."""
        self.trail.close()
        files = sorted((self.settings.home / "audit").glob("*.jsonl"))
        return [json.loads(line) for file in files for line in file.read_text().splitlines()]

    def ask(self, operation: str, body: Any = None, **options: Any) -> Answer:
        """One SageMaker operation, signed by the administrator unless told otherwise."""
        data = body if isinstance(body, bytes) else json.dumps(body or {}).encode()
        headers = {
            "X-Amz-Target": f"SageMaker.{operation}",
            "Content-Type": "application/x-amz-json-1.1",
        }
        return self.send(data, {**headers, **options.pop("headers", {})}, **options)

    def query(self, service: str, action: str, version: str, **parameters: str) -> Answer:
        """One operation of IAM or STS."""
        words = {"Action": action, "Version": version, **parameters}
        request = AWSRequest("POST", "http://localhost/", data=words, headers={})
        prepared = request.prepare().body
        assert isinstance(prepared, str | bytes)
        data = prepared.encode() if isinstance(prepared, str) else prepared
        form = {"Content-Type": "application/x-www-form-urlencoded"}
        return self.send(data, form, service=service)

    def send(
        self,
        data: bytes,
        headers: dict[str, str],
        *,
        credentials: Credentials | None = None,
        service: str = "sagemaker",
        signed: bool = True,
        sent: bytes | None = None,
        added: dict[str, str] | None = None,
    ) -> Answer:
        """`sent` goes out instead of the bytes that were signed, `added` headers beside those that were."""
        request = AWSRequest("POST", "http://localhost/", headers, data)
        if signed:
            SigV4Auth(credentials or self.admin, service, "us-east-1").add_auth(request)
        connection = UnixConnection(self.path)
        try:
            body = data if sent is None else sent
            connection.request("POST", "/", body, {**request.headers, **(added or {})})
            found = connection.getresponse()
            names = {name.lower(): value for name, value in found.getheaders()}
            return Answer(found.status, names, found.read())
        finally:
            connection.close()


@pytest.fixture
def gateway() -> Iterator[Gateway]:
    with tempfile.TemporaryDirectory(prefix="clary-") as home:
        made = Gateway(Path(home))
        try:
            yield made
        finally:
            made.close()
