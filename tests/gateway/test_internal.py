"""Clary's own routes: health, the credentials of jobs, the door's counters."""

from __future__ import annotations

import json
from typing import Any

import pytest

from clary.gateway.internal import Internal
from clary.identity.sealing import SealBroken
from clary.wire.http import Request

KEPT: dict[str, Any] = {}


def renew(token: str) -> dict[str, Any]:
    if token != "good":
        raise SealBroken("the token is not ours")
    return {"AccessKeyId": "AK", "SecretAccessKey": "S", "Token": "T", "Expiration": 1_700_000_000}


@pytest.fixture
def internal() -> Internal:
    return Internal(renew=renew, put_metrics=lambda batch: KEPT.update(batch=batch))


def ask(internal: Internal, method: str, path: str, body: bytes = b"", **headers: str) -> Any:
    response = internal.handle(Request(method, path, "", headers, body))
    assert response.headers == {"Content-Type": "application/json"}
    return response.status, json.loads(response.body)


def test_health_is_ok(internal: Internal) -> None:
    assert ask(internal, "GET", "/_clary/health") == (200, {"status": "ok"})


def test_a_job_renews_its_credentials_as_the_sdks_expect_them(internal: Internal) -> None:
    status, found = ask(internal, "GET", "/_clary/credentials", authorization="good")
    assert status == 200
    assert found == {
        "AccessKeyId": "AK",
        "SecretAccessKey": "S",
        "Token": "T",
        "Expiration": "2023-11-14T22:13:20Z",
    }


@pytest.mark.parametrize("token", ["", "bad"])
def test_a_token_that_is_not_ours_gets_nothing(token: str, internal: Internal) -> None:
    status, found = ask(internal, "GET", "/_clary/credentials", authorization=token)
    assert (status, found["code"]) == (403, "AccessDenied")


def test_counters_are_kept(internal: Internal) -> None:
    assert ask(internal, "POST", "/_clary/metrics", b'[{"a": 1}]') == (200, {})
    assert KEPT["batch"] == [{"a": 1}]


def test_nothing_else_is_here(internal: Internal) -> None:
    assert ask(internal, "GET", "/_clary/secrets")[0] == 404
