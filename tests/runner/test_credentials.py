"""Credentials are renewed in time, by one thread, and used to their end when they cannot be."""

from __future__ import annotations

import json
import threading
from datetime import UTC, datetime

import pytest

from clary.runner.credentials import NoCredentials, Provider, parse


def document(key: str, expires: float) -> dict[str, str]:
    moment = datetime.fromtimestamp(expires, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    return {"AccessKeyId": key, "SecretAccessKey": "s", "Token": "t", "Expiration": moment}


def spec_with(make_spec, url: str, given: dict[str, str] | None):
    return make_spec(
        credentials_url=f"{url}/_clary/credentials",
        tokens={"role": "opaque"},
        credentials={"role": given} if given else {},
    )


def test_credentials_are_renewed_five_minutes_before_they_expire(make_spec, scripted, reply):
    server = scripted(lambda request: reply(200, json.dumps(document("NEW", 10_000)).encode()))
    now = [1000.0]
    provider = Provider(
        spec_with(make_spec, server.url, document("OLD", 2000)), "role", clock=lambda: now[0]
    )
    assert provider().access_key == "OLD"
    now[0] = 1699.0
    assert provider().access_key == "OLD"
    assert server.requests == []
    now[0] = 1701.0
    renewed = provider()
    assert (renewed.access_key, renewed.token, renewed.expires) == ("NEW", "t", 10_000.0)
    assert server.requests[0].target == "/_clary/credentials"
    assert server.requests[0].headers["authorization"] == "opaque"


def test_valid_credentials_outlast_a_failing_renewal_and_expired_ones_do_not(
    make_spec, scripted, reply
):
    server = scripted(lambda request: reply(500))
    now = [1800.0]
    provider = Provider(
        spec_with(make_spec, server.url, document("OLD", 2000)), "role", clock=lambda: now[0]
    )
    assert provider().access_key == "OLD"
    assert provider().access_key == "OLD"
    assert len(server.requests) == 1  # the next attempt waits a little
    now[0] = 2001.0
    with pytest.raises(NoCredentials, match="credentials of the role"):
        provider()


def test_many_threads_renew_once(make_spec, scripted, reply):
    server = scripted(lambda request: reply(200, json.dumps(document("NEW", 10_000)).encode()))
    provider = Provider(spec_with(make_spec, server.url, None), "role", clock=lambda: 0.0)
    keys: list[str] = []
    threads = [
        threading.Thread(target=lambda: keys.append(provider().access_key)) for _ in range(8)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(10)
    assert keys == ["NEW"] * 8
    assert len(server.requests) == 1


def test_refused_credentials_are_forgotten(make_spec, scripted, reply):
    server = scripted(lambda request: reply(200, json.dumps(document("NEW", 10_000)).encode()))
    provider = Provider(
        spec_with(make_spec, server.url, document("OLD", 9000)), "role", clock=lambda: 0.0
    )
    provider.forget(provider())
    assert provider().access_key == "NEW"


def test_what_is_not_credentials_is_refused():
    with pytest.raises(ValueError, match="SecretAccessKey"):
        parse({"AccessKeyId": "A"})
    assert parse({"AccessKeyId": "A", "SecretAccessKey": "S", "Expiration": 5}).expires == 5.0
