"""The explainer process at the door: it is started when needed, and its end is told to those who wait."""

from __future__ import annotations

import asyncio
import http.server
import json
import socketserver
import threading
from pathlib import Path
from typing import Any

import pytest

from clary.dataplane import explainer
from clary.dataplane.explainer import Explainers
from clary.dataplane.invocation_metrics import InvocationMetrics
from clary.model.errors import ThrottlingException

JOB = {
    "config": {"ShapConfig": {"ShapBaselineConfig": {}}},
    "baseline": "0,0\n",
    "expression": "",
    "content_type": "text/csv",
    "body": "1,2\n",
    "output_type": "text/csv",
    "output": "7.0\n",
    "accept": "text/csv",
}


class Model(http.server.BaseHTTPRequestHandler):
    """Answers 3 a + 2 b for each row, and no more than four rows at once."""

    protocol_version = "HTTP/1.1"

    def do_POST(self) -> None:
        rows = self.rfile.read(int(self.headers["content-length"])).decode().splitlines()
        pairs = [[float(one) for one in row.split(",")] for row in rows]
        told = "".join(f"{3 * a + 2 * b}\n" for a, b in pairs).encode()
        self.send_response(200 if len(rows) <= 4 else 413)
        self.send_header("content-type", "text/csv")
        self.send_header("content-length", str(len(told)))
        self.end_headers()
        self.wfile.write(told)

    def log_message(self, format: str, *args: Any) -> None:
        return

    def address_string(self) -> str:
        return "local"


class UnixServer(socketserver.ThreadingMixIn, socketserver.UnixStreamServer):
    daemon_threads = True


@pytest.fixture
def model(tmp_path: Path):
    path = tmp_path / "serve.sock"
    server = UnixServer(str(path), Model)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield str(path)
    server.shutdown()
    server.server_close()
    thread.join()


async def explained(explainers: Explainers, seconds: float = 20.0, **changes: Any) -> Any:
    told: asyncio.Future[dict[str, Any]] = asyncio.get_running_loop().create_future()
    explainers.submit({**JOB, **changes}, seconds, told.set_result)
    return await told


async def ended(explainers: Explainers) -> None:
    process = explainers._process
    assert process is not None and process.stdin is not None
    process.stdin.close()
    assert await process.wait() == 0
    await settled(explainers)


async def settled(explainers: Explainers) -> None:
    """Its pipes are closed once those who listen to them have seen their end."""
    while explainers._tasks:
        await asyncio.wait(explainers._tasks)


def test_a_record_is_explained_by_the_model_itself(model):
    async def ask() -> Any:
        explainers = Explainers(InvocationMetrics())
        many = "".join("0,0\n" for _ in range(9))  # more than the model takes at once
        found = await explained(explainers, socket=model, baseline=many)
        await ended(explainers)
        return found

    told = asyncio.run(ask())
    (record,) = told["answer"]["explanations"]["kernel_shap"]
    values = [one["attributions"][0]["attribution"][0] for one in record]
    assert values == pytest.approx([3.0, 4.0], abs=1e-6)
    assert told["explained"] == 1
    assert json.dumps(told["answer"]["predictions"]) == (
        '{"content_type": "text/csv", "data": "7.0\\n"}'
    )


def test_what_goes_wrong_is_told_and_the_next_request_is_answered(model, tmp_path):
    async def ask() -> list[Any]:
        explainers = Explainers(InvocationMetrics())
        gone = await explained(explainers, socket=str(tmp_path / "gone.sock"))
        late = await explained(explainers, seconds=0.0, socket=model)
        assert explainers._process is not None
        explainers._process.kill()
        await settled(explainers)
        after = await explained(explainers, socket=model)
        await ended(explainers)
        return [gone, late, after]

    gone, late, after = asyncio.run(ask())
    assert gone["status"] == 400 and "could not be asked" in gone["error"]
    assert late["status"] == 400 and "longer than an invocation may" in late["error"]
    assert after["explained"] == 1


def test_those_who_wait_hear_that_the_explainer_ended(model, monkeypatch):
    monkeypatch.setattr(explainer, "WAITING_MAX", 1)

    async def ask() -> Any:
        explainers = Explainers(InvocationMetrics())
        await explained(explainers, socket=model)
        assert explainers._process is not None
        explainers._process.send_signal(19)  # stopped, so that it does not answer before its end
        waiting = asyncio.ensure_future(explained(explainers, socket=model))
        await asyncio.sleep(0)
        with pytest.raises(ThrottlingException, match="being computed already"):
            await explained(explainers, socket=model)
        explainers._process.kill()
        told = await waiting
        await settled(explainers)
        return told

    told = asyncio.run(ask())
    assert told["status"] == 500 and "ended" in told["error"]
