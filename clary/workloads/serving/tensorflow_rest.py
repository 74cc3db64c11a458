"""TensorFlow Serving's REST API on a port of this machine's loopback, for the `handler` of an inference.py.

    POST /v1/models/{name}[/versions/{version}]:predict | :classify | :regress
    GET  /v1/models/{name}[/versions/{version}][/metadata]

It is there because such handlers send what they made to `context.rest_uri` by themselves.
"""

from __future__ import annotations

import json
import re
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from clary.workloads.serving.tensorflow_models import SavedModels

BODY_BYTES_MAX = 1 << 30
IDLE_SECONDS = 60.0
_PATH = re.compile(
    r"/v1/models/(?P<name>[^/:]+)(?:/versions/(?P<version>\d+))?(?:(?P<metadata>/metadata)|:(?P<method>\w+))?"
)


class RestDoor:
    """Listens from when it is made; its threads end with the process."""

    def __init__(self, models: SavedModels) -> None:
        class Bound(_Exchange):
            served = models

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Bound)
        self._server.daemon_threads = True
        thread = threading.Thread(target=self._server.serve_forever, name="tfs-rest", daemon=True)
        thread.start()

    @property
    def port(self) -> int:
        return int(self._server.server_address[1])

    def uri(self, name: str, version: str | None, method: str) -> str:
        """What `context.rest_uri` says."""
        place = f"{name}/versions/{version}" if version else name
        return f"http://localhost:{self.port}/v1/models/{place}:{method}"

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()


class _Exchange(BaseHTTPRequestHandler):
    served: SavedModels
    protocol_version = "HTTP/1.1"
    timeout = IDLE_SECONDS

    def do_POST(self) -> None:
        found = _PATH.fullmatch(self.path)
        length = self.headers.get("content-length", "")
        if not length.isdigit() or int(length) > BODY_BYTES_MAX:
            self.close_connection = True  # what follows is not known to be a request
            self._answer(411, {"error": "The request must say a content-length of at most 1 GiB."})
            return
        body = self.rfile.read(int(length))
        if found is None or not found["method"]:
            self._answer(404, {"error": f"Malformed request: POST {self.path}"})
            return
        try:
            request = json.loads(body)
        except ValueError as problem:
            self._answer(400, {"error": f"JSON Parse error: {problem}"})
            return
        self._answer(*self.served.answer(found["method"], found["name"], found["version"], request))

    def do_GET(self) -> None:
        found = _PATH.fullmatch(self.path)
        if found is None or found["method"]:
            self._answer(404, {"error": f"Malformed request: GET {self.path}"})
        elif found["metadata"]:
            self._answer(*self.served.metadata(found["name"], found["version"]))
        else:
            self._answer(*self.served.status(found["name"], found["version"]))

    def log_message(self, format: str, *args: Any) -> None:
        """A line for each request would bury those of the script."""

    def _answer(self, status: int, document: Any) -> None:
        content = json.dumps(document, indent=4).encode("utf-8")
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)
