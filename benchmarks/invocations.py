"""InvokeEndpoint as clients send it, beside a server written by hand for the same model.

    python benchmarks/invocations.py [--seconds 2] [--rounds 7] [--models sklearn xgboost] [--connections 1 16 64]
    python benchmarks/invocations.py --multi-model 1000 [--seconds 2] [--rounds 7]

One row of 30 features in, one number out; then 100 rows a request. Every request to Clary is signed anew
(2,000 different ones in turn): signature, policies, routing, metrics and micro-batching are all in the figures,
and for "captured" so is data capture of every request. The peer is FastAPI on uvicorn with two processes, one
numerical thread each, in the very environment that Clary's model server runs in; it checks no signature.
With --multi-model, that many models stand behind one endpoint: each is loaded by its first request, and then all
of them are asked in turn, beside an endpoint of the one model.
Needs `wrk`. Rows of one round are measured one after another, rounds alternate in order, and ratios are
medians of the ratios within a round.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import json
import os
import random
import re
import statistics
import subprocess
import sys
import tarfile
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import peers

from clary.images import build, catalogue
from clary.settings import Settings
from clary.wire.http import Request
from clary.wire.sigv4 import sign

IMAGES = {
    "sklearn": "683313688378.dkr.ecr.us-east-1.amazonaws.com/sagemaker-scikit-learn:1.2-1-cpu-py3",
    "xgboost": "683313688378.dkr.ecr.us-east-1.amazonaws.com/sagemaker-xgboost:1.7-1",
}
BUCKET = "sagemaker-us-east-1-123456789012"
REQUESTS = 2_000
REQUESTS_OF_MANY_ROWS = 200
FEATURES = 30
TARGET_MODEL = "x-amzn-sagemaker-target-model"
TICKS = os.sysconf("SC_CLK_TCK")

TRAIN = {
    "sklearn": """
import joblib, numpy, sys
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
random = numpy.random.default_rng(7)
rows = random.normal(size=(2000, 30))
labels = (rows @ random.normal(size=30) > 0).astype(int)
joblib.dump(make_pipeline(StandardScaler(), LogisticRegression()).fit(rows, labels), sys.argv[1] + "/model.joblib")
""",
    "xgboost": """
import numpy, sys, xgboost
random = numpy.random.default_rng(7)
rows = random.normal(size=(2000, 30))
labels = (rows @ random.normal(size=30) > 0).astype(int)
matrix = xgboost.DMatrix(rows, label=labels)
booster = xgboost.train({"objective": "binary:logistic", "max_depth": 6, "nthread": 1}, matrix, 100)
booster.save_model(sys.argv[1] + "/xgboost-model")
""",
}
SCRIPT = """
import os
import joblib

def model_fn(model_dir):
    return joblib.load(os.path.join(model_dir, "model.joblib"))
"""
PEER = """
import os, sys
import numpy
from fastapi import FastAPI, Request, Response

app = FastAPI()
path = os.environ["BENCH_MODEL"]
if os.environ["BENCH_KIND"] == "sklearn":
    import joblib
    model = joblib.load(path + "/model.joblib")
    predict = model.predict
else:
    import xgboost
    model = xgboost.Booster({"nthread": 1})
    model.load_model(path + "/xgboost-model")
    predict = model.inplace_predict

@app.post("/invocations")
async def invocations(request: Request):
    text = (await request.body()).decode()
    rows = numpy.array([line.split(",") for line in text.splitlines()], dtype=numpy.float64)
    return Response(",".join(str(one) for one in predict(rows)), media_type="text/csv")
"""
# One string literal of a long request would be slow to parse: the requests are read from a file.
REPLAY = """
local requests, at = {}, 0
for line in io.lines(%s) do
  requests[#requests + 1] = (line:gsub("\\\\n", "\\n"):gsub("\\\\r", "\\r"))
end
request = function()
  at = at %% #requests + 1
  return requests[at]
end
"""


@dataclass
class Measured:
    rates: list[float] = field(default_factory=list)
    medians: list[float] = field(default_factory=list)
    slow: list[float] = field(default_factory=list)
    cpu: dict[str, list[float]] = field(default_factory=dict)


@dataclass
class Target:
    name: str
    url: str
    path: str
    keys: dict[str, str] | None  # None where nothing is signed
    processes: dict[str, str]  # what CPU is told of: a name, and what marks its command lines
    models: list[str] = field(default_factory=list)  # TargetModel of one request after another


def bodies(rows: int, count: int) -> list[bytes]:
    source = random.Random(7)
    values = [f"{source.gauss(0, 1):.4f}" for _ in range(5_000)]
    return [
        "\n".join(",".join(source.choices(values, k=FEATURES)) for _ in range(rows)).encode()
        for _ in range(count)
    ]


def requests_file(target: Target, content: list[bytes], folder: Path) -> Path:
    """Whole requests, one a line; those to Clary are signed now, as they live for 15 minutes."""
    host = urlsplit(target.url).netloc
    path = folder / "requests.txt"
    with path.open("w") as file:
        for at, body in enumerate(content):
            headers = {
                "host": host,
                "accept-encoding": "identity",
                "content-type": "text/csv",
                "user-agent": "Boto3/1.43.11 md/Botocore#1.43.11 os/linux lang/python#3.11.7",
                "amz-sdk-request": "attempt=1",
                "content-length": str(len(body)),
            }
            if target.models:
                headers[TARGET_MODEL] = target.models[at % len(target.models)]
            if target.keys is not None:
                headers |= signature(target, headers, body)
            lines = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
            text = f"POST {target.path} HTTP/1.1\r\n{lines}\r\n{body.decode()}"
            file.write(text.replace("\r", "\\r").replace("\n", "\\n") + "\n")
    return path


def signature(target: Target, headers: dict[str, str], body: bytes) -> dict[str, str]:
    assert target.keys is not None
    return sign(
        Request(
            "POST",
            target.path,
            "",
            {
                name: headers[name]
                for name in ("host", "content-type", TARGET_MODEL)
                if name in headers
            },
            body,
        ),
        access_key=target.keys["AWS_ACCESS_KEY_ID"],
        secret=target.keys["AWS_SECRET_ACCESS_KEY"],
        token=target.keys.get("AWS_SESSION_TOKEN", ""),
        region="us-east-1",
        service="sagemaker",
        now=time.time(),
    )


def load(
    target: Target, script: Path, seconds: int, connections: int
) -> tuple[float, float, float]:
    """Requests a second and the median and 99th percentile in ms; raises if any answer was an error."""
    command = [
        "wrk",
        "-t1",
        f"-c{connections}",
        f"-d{seconds}s",
        "--latency",
        "-s",
        str(script),
        target.url,
    ]
    output = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    if "Non-2xx" in output or "Socket errors" in output or " 0 requests" in output:
        raise RuntimeError(f"{target.name}: {output}")
    units = {"us": 1e-3, "ms": 1.0, "s": 1e3}
    percentiles = {
        name: float(value) * units[unit]
        for name, value, unit in re.findall(r"(50|99)%\s+([\d.]+)(us|ms|s)\b", output)
    }
    rate = re.search(r"Requests/sec:\s+([\d.]+)", output)
    assert rate is not None
    return float(rate[1]), percentiles["50"], percentiles["99"]


def cpu_seconds(mark: str) -> float:
    """CPU of the processes whose command line holds `mark`, and of all below them."""
    parents: dict[int, int] = {}
    used: dict[int, float] = {}
    found: set[int] = set()
    for folder in Path("/proc").iterdir():
        if not folder.name.isdigit():
            continue
        with contextlib.suppress(OSError):
            pid = int(folder.name)
            parts = (folder / "stat").read_text().rpartition(")")[2].split()
            parents[pid] = int(parts[1])
            used[pid] = (int(parts[11]) + int(parts[12])) / TICKS
            if mark == folder.name or mark.encode() in (folder / "cmdline").read_bytes():
                found.add(pid)
    while more := {pid for pid, parent in parents.items() if parent in found} - found:
        found |= more
    return sum(used.get(pid, 0.0) for pid in found)


def door_pid(peer: peers.Peer) -> str:
    described = json.loads((Path(peer.home) / "run" / "server.json").read_text())
    return str(described["children"]["door"]["pid"])


def measure(
    targets: list[Target],
    content: list[bytes],
    connections: int,
    options: argparse.Namespace,
    folder: Path,
) -> dict[str, Measured]:
    found = {target.name: Measured() for target in targets}
    for turn in range(options.rounds):
        for target in targets[:: 1 if turn % 2 == 0 else -1]:
            script = folder / "replay.lua"
            script.write_text(REPLAY % json.dumps(str(requests_file(target, content, folder))))
            before = {name: cpu_seconds(mark) for name, mark in target.processes.items()}
            rate, median, slow = load(target, script, options.seconds, connections)
            result = found[target.name]
            result.rates.append(rate)
            result.medians.append(median)
            result.slow.append(slow)
            for name, mark in target.processes.items():
                used = (cpu_seconds(mark) - before[name]) / (rate * options.seconds)
                result.cpu.setdefault(name, []).append(used * 1e6)
    return found


def cpu_told(result: Measured) -> str:
    return ", ".join(f"{of} {statistics.median(each):.0f}" for of, each in result.cpu.items())


def tell(what: str, found: dict[str, Measured], rows: int) -> None:
    reference = found["fastapi"].rates
    for name, result in found.items():
        rate = statistics.median(result.rates)
        # Rates of one round share what else the machine did then; those of different rounds do not.
        pairs = zip(result.rates, reference, strict=True)
        ratio = statistics.median(own / other for own, other in pairs)
        shown = f"{rate * rows:9,.0f} rows/s" if rows > 1 else f"{rate:9,.0f} req/s "
        print(
            f"{what:22}{name:16}{shown}{ratio:7.2f} x   p50 {statistics.median(result.medians):7.2f} ms"
            f"   p99 {statistics.median(result.slow):7.2f} ms   CPU us/request: {cpu_told(result)}",
            flush=True,
        )


def trained(kind: str, python: Path, folder: Path) -> Path:
    target = folder / kind
    target.mkdir()
    subprocess.run([str(python), "-c", TRAIN[kind], str(target)], check=True)
    return target


def packed(folder: Path, script: str = "") -> bytes:
    content = io.BytesIO()
    with tarfile.open(fileobj=content, mode="w:gz") as archive:
        for path in sorted(folder.iterdir()):
            archive.add(path, path.name)
        if script:
            member = tarfile.TarInfo("code/inference.py")
            member.size = len(script)
            archive.addfile(member, io.BytesIO(script.encode()))
    return content.getvalue()


def deploy(
    peer: peers.Peer,
    kind: str,
    model: Path,
    *,
    captured: bool = False,
    copies: int = 0,
    serverless: bool = False,
    name: str = "",
) -> str:
    """An endpoint of the model, or of `copies` of it; returns its name once it is in service."""
    name = name or f"bench-{kind}{'-captured' if captured else ''}{'-many' if copies else ''}"
    sagemaker, s3 = peer.client("sagemaker"), peer.client("s3")
    script = SCRIPT if kind == "sklearn" else ""
    content = packed(model, script)
    s3.put_object(Bucket=BUCKET, Key=f"bench/{kind}.tar.gz", Body=content)
    for number in range(copies):
        s3.put_object(Bucket=BUCKET, Key=f"bench/many/{number}.tar.gz", Body=content)
    environment = (
        {"SAGEMAKER_PROGRAM": "inference.py", "SAGEMAKER_SUBMIT_DIRECTORY": "/opt/ml/model/code"}
        if script
        else {}
    )
    container = {
        "Image": IMAGES[kind],
        "ModelDataUrl": f"s3://{BUCKET}/bench/{kind}.tar.gz",
        "Environment": environment,
    }
    if copies:
        container |= {"Mode": "MultiModel", "ModelDataUrl": f"s3://{BUCKET}/bench/many/"}
    sagemaker.create_model(ModelName=name, ExecutionRoleArn=peers.ROLE, PrimaryContainer=container)
    variant: dict[str, Any] = {"VariantName": "AllTraffic", "ModelName": name}
    if serverless:
        variant["ServerlessConfig"] = {"MemorySizeInMB": 2048, "MaxConcurrency": 8}
    else:
        variant |= {"InstanceType": "ml.m5.large", "InitialInstanceCount": 1}
    capture = {
        "InitialSamplingPercentage": 100,
        "DestinationS3Uri": f"s3://{BUCKET}/captured",
        "CaptureOptions": [{"CaptureMode": "Input"}, {"CaptureMode": "Output"}],
        "CaptureContentTypeHeader": {"CsvContentTypes": ["text/csv"]},
    }
    extra = {"DataCaptureConfig": capture} if captured else {}
    sagemaker.create_endpoint_config(EndpointConfigName=name, ProductionVariants=[variant], **extra)
    sagemaker.create_endpoint(EndpointName=name, EndpointConfigName=name)
    wait_until_in_service(sagemaker, name)
    return name


def wait_until_in_service(sagemaker: Any, name: str) -> None:
    while (found := sagemaker.describe_endpoint(EndpointName=name))["EndpointStatus"] == "Creating":
        time.sleep(0.2)
    if found["EndpointStatus"] != "InService":
        raise RuntimeError(found.get("FailureReason"))


@contextlib.contextmanager
def fastapi(kind: str, python: Path, model: Path, packages: Path, folder: Path) -> Iterator[str]:
    """The peer, by hand: two processes of uvicorn with httptools and uvloop."""
    (folder / "peer.py").write_text(PEER)
    port = peers.free_port()
    command = [
        *(str(python), "-m", "uvicorn", "peer:app", "--app-dir", str(folder), "--port", str(port)),
        *("--workers", "2", "--no-access-log", "--log-level", "warning"),
    ]
    os.environ |= {
        "PYTHONPATH": str(packages),
        "BENCH_MODEL": str(model),
        "BENCH_KIND": kind,
        "OMP_NUM_THREADS": "1",
        "OPENBLAS_NUM_THREADS": "1",
    }
    with peers.running(command, port):
        del os.environ["PYTHONPATH"]
        deadline = time.monotonic() + 60
        target = Target("fastapi", f"http://127.0.0.1:{port}", "/invocations", None, {})
        while time.monotonic() < deadline:
            with contextlib.suppress(RuntimeError, subprocess.CalledProcessError):
                script = folder / "probe.lua"
                script.write_text(
                    REPLAY % json.dumps(str(requests_file(target, bodies(1, 1), folder)))
                )
                load(target, script, 1, 2)
                break
        yield target.url


def peer_packages(python: Path) -> Path:
    """FastAPI and uvicorn for the interpreter of the environment, installed once into the cache."""
    version = subprocess.run(
        [str(python), "-c", "import sys; print('%d.%d' % sys.version_info[:2])"],
        capture_output=True, text=True, check=True,
    ).stdout.strip()  # fmt: skip
    folder = Settings.load().cache / "benchmarks" / f"fastapi-{version}"
    if not folder.is_dir():
        command = [
            *(sys.executable, "-m", "uv", "pip", "install", "--quiet", "--python", str(python)),
            *("--target", str(folder), "fastapi", "uvicorn", "httptools", "uvloop"),
        ]
        subprocess.run(command, check=True)
    return folder


def run_model(kind: str, peer: peers.Peer, options: argparse.Namespace, folder: Path) -> None:
    settings = Settings.load()
    environment = catalogue.resolve(IMAGES[kind], settings).environment
    python = build.build(environment, settings) / "bin" / "python"
    model = trained(kind, python, folder)
    names = {
        False: deploy(peer, kind, model, captured=False),
        True: deploy(peer, kind, model, captured=True),
    }
    with fastapi(kind, python, model, peer_packages(python), folder) as url:
        targets = [
            Target(
                "clary, captured" if captured else "clary",
                peer.url,
                f"/endpoints/{name}/invocations",
                peer.environment,
                {"door": door_pid(peer), "models": f"{peer.home}/run"},
            )
            for captured, name in names.items()
        ]
        targets.append(Target("fastapi", url, "/invocations", None, {"servers": str(folder)}))
        for connections in options.connections:
            found = measure(targets, bodies(1, REQUESTS), connections, options, folder)
            tell(f"{kind} 1 row @{connections}", found, 1)
        content = bodies(100, REQUESTS_OF_MANY_ROWS)
        found = measure(targets, content, 16, options, folder)
        tell(f"{kind} 100 rows @16", found, 100)


def run_many(peer: peers.Peer, options: argparse.Namespace, folder: Path) -> None:
    """One row at a time of models that are in memory, in turn, beside one model alone."""
    settings = Settings.load()
    environment = catalogue.resolve(IMAGES["sklearn"], settings).environment
    model = trained("sklearn", build.build(environment, settings) / "bin" / "python", folder)
    count = options.multi_model
    one, many = deploy(peer, "sklearn", model), deploy(peer, "sklearn", model, copies=count)
    names = [f"{number}.tar.gz" for number in range(count)]
    runtime = peer.client("sagemaker-runtime")
    row = bodies(1, 1)[0]
    seconds = []
    # A prediction is made on the event loop once some have shown that the model is quick.
    for turn in range(4):
        for name in names:
            began = time.perf_counter()
            answer = runtime.invoke_endpoint(
                EndpointName=many, Body=row, ContentType="text/csv", TargetModel=name
            )
            answer["Body"].read()
            if not turn:
                seconds.append(time.perf_counter() - began)
    print(
        f"{count} models loaded by their first requests in {sum(seconds):.1f} s: "
        f"median {statistics.median(seconds) * 1e3:.1f} ms, longest {max(seconds) * 1e3:.1f} ms"
    )
    processes = {"door": door_pid(peer), "models": f"{peer.home}/run"}
    targets = [
        Target("one model", peer.url, f"/endpoints/{one}/invocations", peer.environment, processes),
        Target(
            f"{count} models",
            peer.url,
            f"/endpoints/{many}/invocations",
            peer.environment,
            processes,
            names,
        ),
    ]
    for connections in options.connections:
        found = measure(targets, bodies(1, REQUESTS), connections, options, folder)
        alone, among = (found[target.name] for target in targets)
        ratio = statistics.median(
            mine / other for mine, other in zip(among.medians, alone.medians, strict=True)
        )
        for target in targets:
            result = found[target.name]
            print(
                f"@{connections:<4}{target.name:14}{statistics.median(result.rates):9,.0f} req/s   "
                f"p50 {statistics.median(result.medians):6.2f} ms   p99 "
                f"{statistics.median(result.slow):6.2f} ms   CPU us/request: {cpu_told(result)}"
            )
        print(f"@{connections:<4}p50 of {count} models is {ratio:.2f} x that of one", flush=True)


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--seconds", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--models", nargs="+", choices=sorted(IMAGES), default=sorted(IMAGES))
    parser.add_argument("--connections", nargs="+", type=int, default=[1, 16, 64])
    parser.add_argument("--multi-model", type=int, default=0, metavar="COUNT")
    options = parser.parse_args()
    print(f"load of the machine before: {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores")
    with peers.clary() as peer, tempfile.TemporaryDirectory(prefix="clary-bench-") as folder:
        peer.client("s3").create_bucket(Bucket=BUCKET)
        if options.multi_model:
            run_many(peer, options, Path(folder))
            return 0
        for kind in options.models:
            place = Path(folder) / kind
            place.mkdir()
            run_model(kind, peer, options, place)
    print(f"load of the machine after: {os.getloadavg()[0]:.1f}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
