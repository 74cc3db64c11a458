"""What the door adds: forwarding and signed invocations, beside the same constant server asked directly.

    python benchmarks/hop.py [--seconds 5] [--connections 16] [--rounds 3]

Needs `wrk`. Every server answers the same 20 bytes. Rows of one round are measured one after another,
so that they share what else the machine does; CPU is that of the door's process alone.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import re
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path

import httptools
import uvloop

from clary.cli.processes import environment_of, free_port
from clary.identity import first_start
from clary.settings import Settings
from clary.store.database import Store
from clary.wire.http import Request
from clary.wire.sigv4 import sign

ANSWER = b'HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 20\r\n\r\n{"predictions": [1]}'
BODY = ",".join(["0.5"] * 30)
TICKS = os.sysconf("SC_CLK_TCK")


class Constant(asyncio.Protocol):
    """The floor: parses a request and sends the same answer."""

    def connection_made(self, transport):
        self.transport = transport
        self.parser = httptools.HttpRequestParser(self)

    def data_received(self, data):
        self.parser.feed_data(data)

    def on_message_complete(self):
        self.transport.write(ANSWER)


async def constant_server(home: Path, port: int) -> None:
    loop = asyncio.get_running_loop()
    servers = [
        await loop.create_unix_server(Constant, str(home / "run" / "control.sock")),
        await loop.create_unix_server(Constant, str(home / "model.sock")),
        await loop.create_server(Constant, "127.0.0.1", port),
    ]
    await asyncio.Event().wait()
    del servers  # kept until here: a server that nobody refers to is closed


def prepare(home: Path) -> tuple[Settings, dict[str, str]]:
    settings = replace(Settings.load({}), home=home, port=free_port())
    settings.run.mkdir(parents=True)
    store = Store.open(f"sqlite:///{home / 'clary.db'}")
    keys = first_start.prepare(store, settings, time.time)
    store.close()
    (settings.run / "routes.json").write_text(
        '{"endpoints": {"us-east-1/bench": {"arn": "arn:aws:sagemaker:us-east-1:123456789012:'
        'endpoint/bench", "account": "123456789012", "status": "InService", "config": "c", '
        '"variants": [{"name": "main", "weight": 1, "timeout_seconds": 60, "instances": '
        f'[{{"id": "i-0", "socket": "{home}/model.sock"}}]}}]}}}}}}'
    )
    return settings, keys


def signed_headers(settings: Settings, keys: dict[str, str], path: str) -> dict[str, str]:
    headers = {"host": f"127.0.0.1:{settings.port}", "content-type": "text/csv"}
    request = Request("POST", path, "", headers, BODY.encode())
    signature = sign(
        request,
        access_key=keys["AccessKeyId"],
        secret=keys["SecretAccessKey"],
        region="us-east-1",
        service="sagemaker",
        now=time.time(),
    )
    # wrk sends the host itself; twice, it would not be the one that was signed.
    return {"content-type": headers["content-type"], **signature}


def load(
    folder: Path, url: str, headers: dict[str, str], options: argparse.Namespace
) -> tuple[float, float, float]:
    """Requests a second and the median and 99th percentile in ms; raises if any answer was an error."""
    script = folder / "load.lua"
    lines = [f'wrk.headers["{name}"] = "{value}"' for name, value in headers.items()]
    script.write_text("\n".join(['wrk.method = "POST"', f'wrk.body = "{BODY}"', *lines]))
    output = subprocess.run(
        ["wrk", "-t1", f"-c{options.connections}", f"-d{options.seconds}s", "--latency", "-s",
         str(script), url],
        capture_output=True, text=True, check=True,
    ).stdout  # fmt: skip
    if "Non-2xx" in output or "Socket errors" in output or " 0 requests" in output:
        raise RuntimeError(f"{url}: {output}")
    units = {"us": 1e-3, "ms": 1.0, "s": 1e3}
    percentiles = {
        name: float(value) * units[unit]
        for name, value, unit in re.findall(r"(50|99)%\s+([\d.]+)(us|ms|s)\b", output)
    }
    rate = float(re.search(r"Requests/sec:\s+([\d.]+)", output)[1])
    return rate, percentiles["50"], percentiles["99"]


def cpu_seconds(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / TICKS


def resident_megabytes(pid: int) -> float:
    return int(re.search(r"VmRSS:\s+(\d+)", Path(f"/proc/{pid}/status").read_text())[1]) / 1024


def wait_for_port(port: int) -> float:
    import socket

    started = time.perf_counter()
    while time.perf_counter() - started < 60:
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return time.perf_counter() - started
        time.sleep(0.01)
    raise TimeoutError(f"nothing listens on port {port}")


def measure(options: argparse.Namespace, home: Path) -> None:
    settings, keys = prepare(home)
    direct = free_port()
    floor = subprocess.Popen([sys.executable, __file__, "--floor", str(home), str(direct)])
    wait_for_port(direct)
    door = subprocess.Popen(
        [sys.executable, "-m", "clary.dataplane"],
        env=environment_of(settings, os.environ), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    try:
        print(f"door ready after {wait_for_port(settings.port):.2f} s")
        path = "/endpoints/bench/invocations"
        url = f"http://127.0.0.1:{settings.port}"
        rows = {
            "constant server, asked directly": (f"http://127.0.0.1:{direct}/", {}),
            "forwarded to control": (f"{url}/", {"x-amz-target": "SageMaker.ListModels"}),
            "signed invocation": (url + path, signed_headers(settings, keys, path)),
        }
        results: dict[str, list[tuple[float, ...]]] = {name: [] for name in rows}
        for turn in range(options.rounds):
            for name in list(rows)[:: 1 if turn % 2 == 0 else -1]:
                before = cpu_seconds(door.pid)
                rate, median, slow = load(home, *rows[name], options)
                cpu = (cpu_seconds(door.pid) - before) / (rate * options.seconds) * 1e6
                results[name].append((rate, median, slow, cpu))
        floor_rate = statistics.median(row[0] for row in results[next(iter(rows))])
        print(f"{'':34}{'req/s':>9}{'of direct':>11}{'p50 ms':>9}{'p99 ms':>9}{'door us':>9}")
        for name, measured in results.items():
            rate, median, slow, cpu = (
                statistics.median(column) for column in zip(*measured, strict=True)
            )
            print(
                f"{name:34}{rate:9.0f}{rate / floor_rate:10.0%} {median:9.2f}{slow:9.2f}{cpu:9.0f}"
            )
        print(f"door resident: {resident_megabytes(door.pid):.0f} MB")
    finally:
        for process in (door, floor):
            process.send_signal(signal.SIGTERM)
            process.wait(30)


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--seconds", type=int, default=5)
    parser.add_argument("--connections", type=int, default=16)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--floor", nargs=2, metavar=("HOME", "PORT"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.floor:
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            signal.signal(signal.SIGTERM, lambda *_: os._exit(0))
            runner.run(constant_server(Path(options.floor[0]), int(options.floor[1])))
        return 0
    with tempfile.TemporaryDirectory(prefix="clary-") as folder:
        measure(options, Path(folder))
    return 0


if __name__ == "__main__":
    sys.exit(main())
