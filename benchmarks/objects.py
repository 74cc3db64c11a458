"""S3 in the door beside moto_server and plain files: small objects a second, large ones in MiB/s.

    python benchmarks/objects.py [--rounds 3] [--seconds 4]

Every request carries its own signature, as SDKs sign: Clary verifies and authorises it, moto does not. Load for
small objects is wrk with one thread, and each PUT is of a new key; large ones go over one raw socket, so that the
client is no limit. Peers take turns, the order is turned round each round, and medians are printed.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import boto3
import uvloop
from botocore.auth import S3SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.config import Config
from botocore.credentials import Credentials

from clary.dataplane.objects.app import ObjectsApp
from clary.dataplane.process import serve_settings
from clary.identity.access_keys import create_access_key
from clary.identity.authenticate import Authenticator
from clary.identity.authorise import Authoriser
from clary.identity.principals import Principal
from clary.identity.sealing import install_key
from clary.model.errors import AccessDeniedException
from clary.settings import Settings
from clary.store.database import Store
from clary.store.objects import Objects
from clary.store.rows import Row
from clary.wire.http import Request

ACCOUNT = "123456789012"
SMALL = 1024
LARGE = 64 * 1024 * 1024
KEYS = 512
PUTS_A_SECOND_MAX = 5000  # so that no key is written twice
TARGETS = {"put 1 KiB /s": 2500, "get 1 KiB /s": 8000, "put MiB/s": 200, "get MiB/s": 1000}

LUA = """
local signed = {}
for line in io.lines("%s") do
  local path, date, hash, authorization = line:match("([^\\t]*)\\t([^\\t]*)\\t([^\\t]*)\\t([^\\t]*)")
  signed[#signed + 1] = {path, {["X-Amz-Date"] = date, ["X-Amz-Content-SHA256"] = hash,
    ["Authorization"] = authorization}}
end
local body = string.rep("x", %d)
local at = 0
function request()
  at = at %% #signed + 1
  return wrk.format("%s", signed[at][1], signed[at][2], %s)
end
function done(summary, latency)
  local wrong = summary.errors.status + summary.errors.connect + summary.errors.timeout
  io.write(string.format('RESULT {"rate": %%f, "wrong": %%d, "p99_ms": %%f}\\n',
    summary.requests / summary.duration * 1e6, wrong, latency:percentile(99) / 1000))
end
"""


def serve(home: Path) -> None:
    """A door with nothing but S3 behind it."""
    settings = Settings(home=home, port=0)
    store = Store.open(f"sqlite:///{home}/clary.db")
    store.rows.insert(
        Row(
            kind="iam:User",
            name="bench",
            arn=f"arn:aws:iam::{ACCOUNT}:user/bench",
            account=ACCOUNT,
            document={
                "UserId": "AIDABENCH",
                "AttachedPolicies": ["arn:aws:iam::aws:policy/AdministratorAccess"],
            },
        )
    )
    row, secret = create_access_key(store, ACCOUNT, install_key(home), "bench")
    app = ObjectsApp(
        Objects(home / "objects"),
        account=ACCOUNT,
        region="us-east-1",
        authenticator=Authenticator(store, settings, install_key(home), time.time),
        authoriser=Authoriser(store, settings, time.time),
    )

    def ready(port: int) -> None:
        print(json.dumps([port, row.name, secret]), flush=True)

    async def until_killed() -> None:
        await serve_settings(settings, refuse, app, stop=asyncio.Event(), ready=ready)

    uvloop.run(until_killed())


def refuse(request: Request, *, action: str, resource: str) -> Principal:
    raise AccessDeniedException("this door serves objects alone", status=403)


class Peer:
    """An S3 server under load."""

    def __init__(self, url: str, key: str, secret: str) -> None:
        self.url = url
        self.credentials = Credentials(key, secret)
        self.client: Any = boto3.client(
            "s3",
            endpoint_url=url,
            region_name="us-east-1",
            aws_access_key_id=key,
            aws_secret_access_key=secret,
            config=Config(signature_version="s3v4", s3={"addressing_style": "path"}),
        )
        self.client.create_bucket(Bucket="bench")

    def target(self, operation: str, key: str) -> str:
        parameters = {"Bucket": "bench", "Key": key}
        parts = urlsplit(
            self.client.generate_presigned_url(operation, Params=parameters, ExpiresIn=3600)
        )
        return f"{parts.path}?{parts.query}"

    def signed(self, method: str, keys: list[str], body: bytes) -> list[str]:
        """Lines of path, date, payload hash and signature, one a request."""
        lines: list[str] = []
        for key in keys:
            request = AWSRequest(method, f"{self.url}/bench/{key}", data=body)
            S3SigV4Auth(self.credentials, "s3", "us-east-1").add_auth(request)
            found = request.headers
            lines.append(
                f"/bench/{key}\t{found['X-Amz-Date']}\t{found['X-Amz-Content-SHA256']}\t{found['Authorization']}"
            )
        return lines

    def small(self, folder: Path, seconds: float, turn: int) -> dict[str, float]:
        body = b"x" * SMALL
        for i in range(KEYS):
            self.client.put_object(Bucket="bench", Key=f"small/{i:05d}", Body=body)
        keys = {
            "put": [f"new-{turn}/{i:05d}" for i in range(int(PUTS_A_SECOND_MAX * seconds))],
            "get": [f"small/{i:05d}" for i in range(KEYS)],
        }
        found: dict[str, float] = {}
        for name, names in keys.items():
            lines = folder / f"{name}.requests"
            content = body if name == "put" else b""
            lines.write_text("\n".join(self.signed(name.upper(), names, content)) + "\n")
            result = self._wrk(folder, name, lines, seconds)
            found[f"{name} 1 KiB /s"] = result["rate"]
            found[f"{name} p99 ms"] = result["p99_ms"]
        return found

    def _wrk(self, folder: Path, name: str, paths: Path, seconds: float) -> dict[str, float]:
        script = folder / f"{name}.lua"
        script.write_text(LUA % (paths, SMALL, name.upper(), "body" if name == "put" else "nil"))
        command = ["wrk", "-t1", "-c32", f"-d{seconds}s", "-s", str(script), self.url]
        output = subprocess.run(command, capture_output=True, text=True, check=True).stdout
        line = next(line for line in output.splitlines() if line.startswith("RESULT "))
        result: dict[str, float] = json.loads(line[7:])
        if result["wrong"]:
            raise SystemExit(f"{self.url}: {result['wrong']:.0f} of wrk's requests failed")
        return result

    def large(self, source: Path) -> dict[str, float]:
        parts = urlsplit(self.url)
        address = (str(parts.hostname), int(parts.port or 80))
        put = _timed(lambda: _exchange(address, "PUT", self.target("put_object", "large"), source))
        get = _timed(lambda: _exchange(address, "GET", self.target("get_object", "large"), None))
        return {"put MiB/s": LARGE / put / 2**20, "get MiB/s": LARGE / get / 2**20}


def _timed(work: Callable[[], None]) -> float:
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


def _exchange(address: tuple[str, int], method: str, target: str, source: Path | None) -> None:
    """One request over one socket; its body sent by the kernel, its answer thrown away."""
    with socket.create_connection(address, timeout=120) as connection:
        size = source.stat().st_size if source else 0
        head = f"{method} {target} HTTP/1.1\r\nHost: {address[0]}:{address[1]}\r\nContent-Length: {size}\r\n\r\n"
        connection.sendall(head.encode())
        if source:
            with source.open("rb") as file:
                connection.sendfile(file)
        buffer = bytearray(1 << 20)
        got = connection.recv_into(buffer)
        start = bytes(buffer[:got])
        if b" 200 " not in start[:20]:
            raise SystemExit(f"{method} {target[:60]}: {start[:300]!r}")
        if source is None:
            received = got - start.index(b"\r\n\r\n") - 4
            while received < LARGE:
                received += connection.recv_into(buffer)


@contextmanager
def clary(folder: Path) -> Iterator[Peer]:
    folder.mkdir()
    command = [sys.executable, __file__, "--serve", str(folder)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout
        try:
            port, key, secret = json.loads(process.stdout.readline())
            yield Peer(f"http://127.0.0.1:{port}", key, secret)
        finally:
            process.terminate()


@contextmanager
def moto(_: Path) -> Iterator[Peer]:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    command = [str(Path(sys.executable).with_name("moto_server")), "-p", str(port)]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        try:
            deadline = time.monotonic() + 30
            while socket.socket().connect_ex(("127.0.0.1", port)):
                if time.monotonic() > deadline:
                    raise SystemExit("moto_server did not start")
                time.sleep(0.1)
            yield Peer(f"http://127.0.0.1:{port}", "key", "secret")
        finally:
            process.terminate()


def plain_files(folder: Path, source: Path) -> dict[str, float]:
    """The limit: write and rename, open and read, in one process without a network."""
    folder.mkdir(exist_ok=True)
    data = b"x" * SMALL

    def put(i: int) -> None:
        temporary = folder / "temporary"
        temporary.write_bytes(data)
        temporary.rename(folder / str(i))

    for old in folder.iterdir():
        old.unlink()
    put_seconds = _timed(lambda: [put(i) for i in range(4 * KEYS)] and None)
    get_seconds = _timed(
        lambda: [(folder / str(i % KEYS)).read_bytes() for i in range(8 * KEYS)] and None
    )
    content = source.read_bytes()
    large_put = _timed(lambda: (folder / "large").write_bytes(content) and None)
    large_get = _timed(lambda: (folder / "large").read_bytes() and None)
    return {
        "put 1 KiB /s": 4 * KEYS / put_seconds,
        "get 1 KiB /s": 8 * KEYS / get_seconds,
        "put MiB/s": LARGE / large_put / 2**20,
        "get MiB/s": LARGE / large_get / 2**20,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--serve", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=int, default=4)
    parser.add_argument("--only", choices=["clary"], help="leave the peers out")
    arguments = parser.parse_args()
    if arguments.serve:
        serve(arguments.serve)
        return
    if not shutil.which("wrk"):
        raise SystemExit("this benchmark needs wrk")
    measured: dict[str, list[dict[str, float]]] = {}
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="clary-bench-")))
        source = folder / "source"
        source.write_bytes(b"0123456789abcdef" * (LARGE // 16))
        peers = {"clary": stack.enter_context(clary(folder / "clary"))}
        if not arguments.only:
            peers["moto"] = stack.enter_context(moto(folder))
        for turn in range(arguments.rounds):
            order = list(peers) if turn % 2 == 0 else list(reversed(peers))
            for name in order:
                found = {
                    **peers[name].large(source),
                    **peers[name].small(folder, arguments.seconds, turn),
                }
                measured.setdefault(name, []).append(found)
            files = plain_files(folder / "plain", source)
            measured.setdefault("plain files", []).append(files)
    report(measured)


def report(measured: dict[str, list[dict[str, float]]]) -> None:
    medians = {
        name: {what: statistics.median(run[what] for run in runs) for what in runs[0]}
        for name, runs in measured.items()
    }
    ours = medians["clary"]
    print(f"{'':14}" + "".join(f"{name:>14}" for name in medians) + f"{'target':>10}{'':4}ratios")
    for what in ours:
        values = "".join(f"{medians[name].get(what, float('nan')):14,.1f}" for name in medians)
        ratios = "  ".join(
            f"{ours[what] / medians[name][what]:.2f} x {name}"
            for name in medians
            if name != "clary" and what in medians[name]
        )
        print(f"{what:14}{values}{TARGETS.get(what, 0):10,}{'':4}{ratios}")


if __name__ == "__main__":
    main()
