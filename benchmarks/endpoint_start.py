"""From CreateEndpoint to the first answer, and the first answer of a serverless endpoint that has no host.

    python benchmarks/endpoint_start.py [--rounds 5]

A scikit-learn model, in an environment that other endpoints have used before. Beside each, in the same round:
a new Python process that imports scikit-learn and loads the same model, without any server around it.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import invocations
import peers
from botocore.exceptions import ClientError

from clary.images import build, catalogue
from clary.settings import Settings

WAIT_SECONDS_MAX = 60.0
POLL_SECONDS = 0.005
LOAD = "import sys, joblib; joblib.load(sys.argv[1] + '/model.joblib')"


def answered(runtime: Any, name: str, row: bytes) -> float:
    """Seconds until the endpoint has answered."""
    began = time.perf_counter()
    while True:
        try:
            answer = runtime.invoke_endpoint(EndpointName=name, Body=row, ContentType="text/csv")
            answer["Body"].read()
            return time.perf_counter() - began
        except ClientError:
            if time.perf_counter() - began > WAIT_SECONDS_MAX:
                raise
            time.sleep(POLL_SECONDS)


def plain(python: Path, model: Path) -> float:
    began = time.perf_counter()
    subprocess.run([str(python), "-c", LOAD, str(model)], check=True)
    return time.perf_counter() - began


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    settings = Settings.load()
    environment = catalogue.resolve(invocations.IMAGES["sklearn"], settings).environment
    python = build.build(environment, settings) / "bin" / "python"
    found: dict[str, list[float]] = {"created": [], "cold": [], "plain": []}
    row = invocations.bodies(1, 1)[0]
    print(f"load of the machine before: {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores")
    with peers.clary() as peer, tempfile.TemporaryDirectory(prefix="clary-bench-") as folder:
        peer.client("s3").create_bucket(Bucket=invocations.BUCKET)
        model = invocations.trained("sklearn", python, Path(folder))
        sagemaker, runtime = peer.client("sagemaker"), peer.client("sagemaker-runtime")
        first = invocations.deploy(peer, "sklearn", model)
        answered(runtime, first, row)
        # The first endpoint of an environment has a process made that later ones are forked from.
        while not list(Path(peer.home, "run").glob("fork-*.sock")):
            time.sleep(0.1)
        for turn in range(options.rounds):
            name = f"started-{turn}"
            found["plain"].append(plain(python, model))
            began = time.perf_counter()
            sagemaker.create_endpoint(EndpointName=name, EndpointConfigName=first)
            answered(runtime, name, row)
            found["created"].append(time.perf_counter() - began)
            cold = invocations.deploy(peer, "sklearn", model, serverless=True, name=f"cold-{turn}")
            found["cold"].append(answered(runtime, cold, row))
            for one in (name, cold):
                sagemaker.delete_endpoint(EndpointName=one)
    for name, text in (
        ("created", "CreateEndpoint to the first answer"),
        ("cold", "serverless, first answer"),
        ("plain", "Python that imports and loads"),
    ):
        seconds = found[name]
        pairs = zip(seconds, found["plain"], strict=True)
        ratio = statistics.median(own / other for own, other in pairs)
        print(
            f"{text:36}{statistics.median(seconds):6.2f} s   {min(seconds):.2f} to {max(seconds):.2f} s"
            f"   {ratio:5.2f} x plain"
        )
    print(f"load of the machine after: {os.getloadavg()[0]:.1f}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
