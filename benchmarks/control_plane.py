"""CreateModel and DescribeModel through boto3 and raw, beside moto_server, which keeps nothing and checks no signature.

python benchmarks/control_plane.py [--rounds 5] [--calls 300]
"""

from __future__ import annotations

import argparse
import http.client
import json
import statistics
import threading
import time
import uuid
from typing import Any
from urllib.parse import urlsplit

import peers
from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials

IMAGE = "683313688378.dkr.ecr.us-east-1.amazonaws.com/sagemaker-xgboost:3.0-5"


def request(name: str) -> dict[str, Any]:
    container = {"Image": IMAGE, "Environment": {"A": "b"}}
    return {"ModelName": name, "ExecutionRoleArn": peers.ROLE, "PrimaryContainer": container}


def through_boto3(peer: peers.Peer, calls: int) -> dict[str, float]:
    client = peer.client("sagemaker")
    names = [f"m-{uuid.uuid4().hex[:20]}" for _ in range(calls)]
    client.list_models(MaxResults=1)
    started = time.perf_counter()
    for name in names:
        client.create_model(**request(name))
    created = time.perf_counter()
    for name in names:
        client.describe_model(ModelName=name)
    described = time.perf_counter()
    return {
        "CreateModel": calls / (created - started),
        "DescribeModel": calls / (described - created),
    }


def raw_creates(peer: peers.Peer, calls: int, connections: int) -> float:
    """Requests signed beforehand, sent on keep-alive connections from as many threads; calls a second."""
    address = urlsplit(peer.url)
    prepared = [signed(peer, f"r-{uuid.uuid4().hex[:20]}") for _ in range(calls)]
    failures: list[bytes] = []

    def send(mine: list[tuple[bytes, dict[str, str]]]) -> None:
        connection = http.client.HTTPConnection(address.hostname or "", address.port)
        for body, headers in mine:
            connection.request("POST", "/", body, headers)
            answer = connection.getresponse()
            text = answer.read()
            if answer.status != 200:
                failures.append(text)
        connection.close()

    threads = [
        threading.Thread(target=send, args=(prepared[one::connections],))
        for one in range(connections)
    ]
    started = time.perf_counter()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    seconds = time.perf_counter() - started
    assert not failures, failures[:2]
    return calls / seconds


def signed(peer: peers.Peer, name: str) -> tuple[bytes, dict[str, str]]:
    body = json.dumps(request(name)).encode()
    headers = {
        "X-Amz-Target": "SageMaker.CreateModel",
        "Content-Type": "application/x-amz-json-1.1",
    }
    prepared = AWSRequest("POST", peer.url + "/", data=body, headers=headers)
    variables = peer.environment
    keys = Credentials(
        variables.get("AWS_ACCESS_KEY_ID", "testing"),
        variables.get("AWS_SECRET_ACCESS_KEY", "testing"),
        variables.get("AWS_SESSION_TOKEN"),
    )
    SigV4Auth(keys, "sagemaker", "us-east-1").add_auth(prepared)
    return body, dict(prepared.headers.items())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--calls", type=int, default=300)
    options = parser.parse_args()
    found: dict[tuple[str, str], list[float]] = {}
    with peers.clary() as ours, peers.moto() as theirs:
        for number in range(options.rounds):
            for peer in (ours, theirs) if number % 2 == 0 else (theirs, ours):
                for name, rate in through_boto3(peer, options.calls).items():
                    found.setdefault((name, peer.name), []).append(rate)
                rate = raw_creates(peer, options.calls * 4, 16)
                found.setdefault(("CreateModel, raw, 16 connections", peer.name), []).append(rate)
    print(
        f"{'calls a second, median of ' + str(options.rounds):<40}{'clary':>9}{'moto':>9}{'ratio':>8}"
    )
    for name in ("CreateModel", "DescribeModel", "CreateModel, raw, 16 connections"):
        ours_rate = statistics.median(found[name, "clary"])
        theirs_rate = statistics.median(found[name, "moto_server"])
        print(f"{name:<40}{ours_rate:>9.0f}{theirs_rate:>9.0f}{ours_rate / theirs_rate:>8.1f}")


if __name__ == "__main__":
    main()
