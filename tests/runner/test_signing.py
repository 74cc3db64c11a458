"""Signatures equal botocore's, byte for byte."""

from __future__ import annotations

import math

import pytest
from botocore.auth import S3SigV4Auth, SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials as BotoCredentials

from clary.runner.signing import (
    UNSIGNED,
    Credentials,
    Signer,
    encode_path,
    encode_query,
    payload_hash,
)

AT = 1_700_000_000.0
STAMP = "20231114T221320Z"


@pytest.mark.parametrize("token", ["", "session-token"])
@pytest.mark.parametrize(
    ("service", "method", "path", "query", "body"),
    [
        ("s3", "GET", "/bucket/a b+c/é%&?=.txt", [], b""),
        ("s3", "GET", "/bucket", [("list-type", "2"), ("prefix", "a/b c&="), ("a", "")], b""),
        ("s3", "PUT", "/bucket/../x//y", [("partNumber", "1"), ("uploadId", "a+/=")], b"data"),
        ("logs", "POST", "/", [], b'{"logGroupName":"g"}'),
    ],
)
def test_signatures_equal_those_of_botocore(service, method, path, query, body, token):
    encoded_path, encoded_query = encode_path(path), encode_query(query)
    suffix = f"?{encoded_query}" if encoded_query else ""
    request = AWSRequest(
        method,
        f"http://127.0.0.1:4510{encoded_path}{suffix}",
        headers={"x-amz-date": STAMP, "host": "127.0.0.1:4510", "X-Amz-Extra": "a  b"},
        data=body,
    )
    request.context["timestamp"] = STAMP
    keys = BotoCredentials("AKIA", "secret", token or None)
    kind = S3SigV4Auth if service == "s3" else SigV4Auth
    auth = kind(keys, service, "us-east-1")
    request.headers["X-Amz-Content-SHA256"] = payload_hash(body)
    if token:
        request.headers["X-Amz-Security-Token"] = token
    canonical = auth.canonical_request(request)
    expected = auth.signature(auth.string_to_sign(request, canonical), request)
    sent = Signer("us-east-1", service).sign(
        Credentials("AKIA", "secret", token, math.inf),
        method,
        encoded_path,
        encoded_query,
        {"host": "127.0.0.1:4510", "x-amz-extra": "a  b", "range": "bytes=0-"},
        content_hash=payload_hash(body),
        at=AT,
    )
    assert sent["authorization"].endswith(f"Signature={expected}")
    assert sent["x-amz-date"] == STAMP
    assert "range" not in sent["authorization"]


def test_the_derived_key_follows_the_day_and_the_secret():
    signer = Signer("us-east-1", "s3")

    def signature(secret: str, at: float) -> str:
        keys = Credentials("AKIA", secret, "", math.inf)
        return signer.sign(keys, "GET", "/", "", {"host": "h"}, content_hash=UNSIGNED, at=at)[
            "authorization"
        ]

    first = signature("one", AT)
    assert signature("two", AT) != first
    assert signature("one", AT + 86400) != first
    assert signature("one", AT) == first


def test_a_secret_is_not_shown():
    assert "hidden" not in repr(Credentials("AKIA", "hidden", "hidden", 0.0))
