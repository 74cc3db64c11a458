"""A known caller's next request is recognised only if it is what the whole check would let in."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from clary.identity import authenticate
from clary.identity.authenticate import Authenticator, Caller
from clary.identity.first_start import prepare
from clary.identity.sealing import install_key
from clary.model.errors import ApiError
from clary.settings import Settings
from clary.store.database import Store
from clary.wire.http import Request
from clary.wire.sigv4 import STREAMING_SIGNED, UNSIGNED_PAYLOAD, sign


class World:
    def __init__(self, home: Path) -> None:
        self.store = Store.open(f"sqlite:///{home}/clary.db")
        settings = Settings(home=home)
        self.keys = prepare(self.store, settings, time.time)
        self.whole_checks = 0
        self.authenticator = Authenticator(self.store, settings, install_key(home), time.time)

    def put(self, path: str = "/b/k", query: str = "", payload: str = "", **more: str) -> Request:
        headers = {"host": "127.0.0.1:4510", **more}
        request = Request("PUT", path, query, headers, b"body")
        added = sign(
            request,
            access_key=self.keys["AccessKeyId"],
            secret=self.keys["SecretAccessKey"],
            region="us-east-1",
            service="s3",
            now=time.time(),
            payload=payload,
        )
        return replace(request, headers={**headers, **added})

    def enter(self, request: Request, *, check_body: bool = False) -> Caller:
        return self.authenticator.authenticate(request, check_body=check_body, style="s3")


@pytest.fixture
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[World]:
    world = World(tmp_path)
    parse = authenticate.parse_signature

    def counted(request: Request, style: authenticate.Style) -> authenticate.Signature:
        world.whole_checks += 1
        return parse(request, style)

    monkeypatch.setattr(authenticate, "parse_signature", counted)
    yield world
    world.store.close()


def test_objects_and_queries_of_a_known_caller_are_recognised(world: World) -> None:
    for path, query in (("/b/k", ""), ("/b/a%20b", ""), ("/b", "prefix=a%2Fb&list-type=2")):
        caller = world.enter(world.put(path, query))
        assert (caller.principal.name, caller.style) == ("admin", "s3")
    assert world.whole_checks == 1


def test_a_header_of_amazon_that_was_added_after_signing_is_refused(world: World) -> None:
    world.enter(world.put())
    request = world.put()
    forged = replace(request, headers={**request.headers, "x-amz-acl": "public-read"})
    with pytest.raises(ApiError, match="not signed"):
        world.enter(forged)


def test_a_body_other_than_the_declared_one_is_refused_when_it_is_looked_at(world: World) -> None:
    world.enter(world.put(), check_body=True)
    forged = replace(world.put(), body=b"forged")
    with pytest.raises(ApiError, match="does not match"):
        world.enter(forged, check_body=True)
    assert world.enter(forged).payload == forged.headers["x-amz-content-sha256"]


def test_how_the_body_is_to_be_read_is_told_of_known_callers_as_well(world: World) -> None:
    for _ in range(2):
        assert world.enter(world.put(payload=UNSIGNED_PAYLOAD)).signer is None
        streamed = world.enter(world.put(payload=STREAMING_SIGNED))
        assert streamed.signer is not None and streamed.payload == STREAMING_SIGNED
    assert world.whole_checks == 1


def test_an_undeclared_payload_is_refused(world: World) -> None:
    world.enter(world.put())
    request = world.put()
    headers = {k: v for k, v in request.headers.items() if k != "x-amz-content-sha256"}
    with pytest.raises(ApiError, match="x-amz-content-sha256"):
        world.enter(replace(request, headers=headers))
