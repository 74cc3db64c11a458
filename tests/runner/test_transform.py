from __future__ import annotations

import gzip
import json
import re
import socketserver
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any

import pytest

from clary.runner.model_server import Abandoned, ModelServer
from clary.runner.s3 import S3
from clary.runner.spec import HostSpec
from clary.runner.transform import Told, Transform
from clary.runner.transform_settings import Tuning, parse, tune

Answer = Callable[[str, bytes, dict[str, str]], "tuple[int, bytes]"]


class Model(socketserver.ThreadingUnixStreamServer):
    """A model server whose answers are a function of path, body and headers."""

    daemon_threads = True

    def __init__(self, path: str, answer: Answer) -> None:
        self.answer = answer
        self.bodies: list[bytes] = []
        self.headers: list[dict[str, str]] = []
        self.at_once = self.at_once_max = 0
        self.guard = threading.Lock()
        super().__init__(path, Handler)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that gave up leaves its answer behind; the tests look at what came of it."""


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Model

    def do_GET(self) -> None:
        self._reply(*self.server.answer(self.path, b"", {}))

    def do_POST(self) -> None:
        headers = {name.lower(): value for name, value in self.headers.items()}
        body = self._chunks() if "transfer-encoding" in headers else self._plain(headers)
        with self.server.guard:
            self.server.bodies.append(body)
            self.server.headers.append(headers)
            self.server.at_once += 1
            self.server.at_once_max = max(self.server.at_once_max, self.server.at_once)
        try:
            self._reply(*self.server.answer(self.path, body, headers))
        finally:
            with self.server.guard:
                self.server.at_once -= 1

    def _plain(self, headers: dict[str, str]) -> bytes:
        return self.rfile.read(int(headers["content-length"]))

    def _chunks(self) -> bytes:
        parts: list[bytes] = []
        while size := int(self.rfile.readline(), 16):
            parts.append(self.rfile.read(size))
            self.rfile.readline()
        self.rfile.readline()
        return b"".join(parts)

    def _reply(self, status: int, body: bytes) -> None:
        self.send_response(status)
        self.send_header("Content-Type", "text/csv")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def address_string(self) -> str:
        return "unix"

    def log_message(self, format: str, *args: object) -> None:
        return


@pytest.fixture
def model(tmp_path: Path) -> Iterator[Callable[[Answer], Model]]:
    made: list[Model] = []

    def make(answer: Answer) -> Model:
        made.append(Model(str(tmp_path / "model.sock"), answer))
        threading.Thread(target=made[-1].serve_forever, args=(0.02,), daemon=True).start()
        return made[-1]

    yield make
    for server in made:
        server.shutdown()
        server.server_close()


def echo(path: str, body: bytes, headers: dict[str, str]) -> tuple[int, bytes]:
    return (200, body) if path == "/invocations" else (404, b"")


@pytest.fixture
def transform(
    s3: S3, bucket: str, make_spec: Callable[..., HostSpec], model: Callable[[Answer], Model]
) -> Callable[..., tuple[Told, Model, list[str]]]:
    """Run one transform of s3://bucket/in/ to s3://bucket/out against a model."""

    def run(
        answer: Answer = echo,
        *,
        stopping: Callable[[], bool] = lambda: False,
        seconds: float = 20,
        retries: int = 3,
        host: dict[str, Any] | None = None,
        **members: Any,
    ) -> tuple[Told, Model, list[str]]:
        server = model(answer)
        settings = parse(
            {
                **members,
                "input": {
                    "type": "S3Prefix",
                    "uri": f"s3://{bucket}/in/",
                    "split": "Line",
                    "content_type": "text/csv",
                    **members.get("input", {}),
                },
                "output": {
                    "uri": f"s3://{bucket}/out",
                    "assemble": "Line",
                    **members.get("output", {}),
                },
                "started": 1_661_518_800.0,
            }
        )
        client = ModelServer(
            str(server.server_address), timeout_seconds=seconds, retries=retries, stopping=stopping
        )
        log: list[str] = []
        spec = make_spec(**(host or {}))
        try:
            told = Transform(spec, settings, s3, client, log.append, stopping).run()
        finally:
            client.close()
        return told, server, log

    return run


def test_every_object_gets_an_output_of_its_name(transform: Any, put: Any, stored: Any) -> None:
    put({"in/a.csv": b"1\n2\n", "in/deep/b.csv": b"3\n", "in/empty.csv": b"", "in/folder/": b""})
    told, server, _ = transform(output={"accept": "text/csv"})
    assert told == Told("success", files=3)
    found = {key: body for key, body in stored().items() if key.startswith("out/")}
    assert found == {
        "out/a.csv.out": b"1\n2\n",
        "out/deep/b.csv.out": b"3\n",
        "out/empty.csv.out": b"",
    }
    assert server.headers[0]["content-type"] == server.headers[0]["accept"] == "text/csv"


def test_parallel_answers_keep_the_order_of_their_records(
    transform: Any, put: Any, stored: Any
) -> None:
    lines = b"".join(b"%d\n" % number for number in range(40))
    put({"in/a.csv": lines})
    never = threading.Event()

    def late_first(path: str, body: bytes, headers: dict[str, str]) -> tuple[int, bytes]:
        never.wait(0.02 if int(body) % 4 == 0 else 0)
        return 200, body

    told, server, _ = transform(late_first, strategy="SingleRecord", concurrency=4)
    assert told.result == "success"
    assert stored()["out/a.csv.out"] == lines
    assert 1 < server.at_once_max <= 4


def test_a_file_that_fails_has_no_output_and_the_others_do(
    transform: Any, put: Any, stored: Any, bucket: str
) -> None:
    put({"in/a.csv": b"1\n", "in/b.csv": b"good\nbad\n", "in/c.csv": b"3\n"})

    def picky(path: str, body: bytes, headers: dict[str, str]) -> tuple[int, bytes]:
        return (400, b"not a number: bad") if b"bad" in body else (200, body)

    told, server, log = transform(picky, strategy="SingleRecord")
    assert [key for key in stored() if key.startswith("out/")] == ["out/a.csv.out", "out/c.csv.out"]
    assert (told.result, told.source, told.files, told.failed) == ("failure", "client", 3, 1)
    assert told.failure == (
        f"Bad HTTP status received from algorithm: 400 (s3://{bucket}/in/b.csv, record 2): not a "
        "number: bad. 1 of 3 files failed on this instance. See job logs for more information"
    )
    assert server.bodies.count(b"bad") == 1  # a refusal is not asked again
    assert f"[sagemaker logs]: {bucket}/in/b.csv: ClientError: 400" in log
    assert f"[sagemaker logs]: {bucket}/in/b.csv: not a number: bad" in log


@pytest.mark.parametrize("status", [429, 500, 503])
def test_a_status_that_may_pass_is_tried_again(
    transform: Any, put: Any, stored: Any, status: int
) -> None:
    put({"in/a.csv": b"1\n"})
    left = [status, status]

    def busy(path: str, body: bytes, headers: dict[str, str]) -> tuple[int, bytes]:
        return (left.pop(), b"busy") if body and left else (200, b"done")

    told, server, _ = transform(busy)
    assert told.result == "success"
    assert stored()["out/a.csv.out"] == b"done\n"
    assert len(server.bodies) == 3


def test_retries_are_as_many_as_asked_for(transform: Any, put: Any) -> None:
    put({"in/a.csv": b"1\n"})
    told, server, _ = transform(lambda *_: (500, b"broken"), strategy="SingleRecord", retries=1)
    assert (told.result, told.source) == ("failure", "algorithm")
    assert "Bad HTTP status received from algorithm: 500" in told.failure
    assert len([body for body in server.bodies if body]) == 2


def test_a_model_that_does_not_answer_in_time_fails_the_file(transform: Any, put: Any) -> None:
    put({"in/a.csv": b"1\n"})
    answered = threading.Event()

    def hang(path: str, body: bytes, headers: dict[str, str]) -> tuple[int, bytes]:
        if path == "/invocations":
            answered.wait(10)
        return 404, b""

    told, _, _ = transform(hang, seconds=0.3, retries=0)
    answered.set()
    assert "did not respond to /invocations request within 0.3 seconds" in told.failure


def test_a_record_above_the_payload_fails_its_file_only(
    transform: Any, put: Any, stored: Any
) -> None:
    put({"in/a.csv": b"1\n" + b"x" * (1 << 20) + b"\n", "in/b.csv": b"2\n"})
    told, _, _ = transform(payload_megabytes=1)
    assert "Record 2 is larger than MaxPayloadInMB, which is 1 MB" in told.failure
    assert told.source == "client"
    assert [key for key in stored() if key.startswith("out/")] == ["out/b.csv.out"]


def test_gzip_input_is_decompressed_and_keeps_its_name(
    transform: Any, put: Any, stored: Any
) -> None:
    put({"in/a.csv.gz": gzip.compress(b"1\n2\n"), "in/b.csv.gz": b"not gzip"})
    told, _, _ = transform(input={"compression": "Gzip"})
    assert "not valid gzip" in told.failure
    assert stored()["out/a.csv.gz.out"] == b"1\n2\n"
    assert "out/b.csv.gz.out" not in stored()


def test_a_payload_of_zero_streams_the_object_in_one_request(
    transform: Any, put: Any, stored: Any
) -> None:
    data = b"0123456789\n" * 300_000
    put({"in/a.csv": data})
    failures = [503]
    told, server, _ = transform(
        lambda _, body, __: (failures.pop(), b"busy") if failures else (200, body),
        payload_megabytes=0,
        strategy="MultiRecord",
        concurrency=1,
    )
    assert told.result == "success"
    assert server.headers[-1]["transfer-encoding"] == "chunked"
    assert [len(body) for body in server.bodies] == [len(data), len(data)]
    assert stored()["out/a.csv.out"] == data


def test_large_outputs_are_written_in_parts_and_seen_when_whole(
    transform: Any, put: Any, stored: Any
) -> None:
    put({"in/a.csv": b"".join(b"%d\n" % number for number in range(20))})
    seen: list[bool] = []

    def large(path: str, body: bytes, headers: dict[str, str]) -> tuple[int, bytes]:
        seen.append("out/a.csv.out" in stored())
        return 200, body * (1 << 20)

    told, _, _ = transform(large, strategy="SingleRecord", concurrency=1, payload_megabytes=1)
    assert told.result == "success"
    assert not any(seen)
    assert len(stored()["out/a.csv.out"]) == sum((1 + (n > 9)) << 20 for n in range(20)) + 20


def test_stopping_half_way_leaves_nothing_half_written(
    transform: Any, put: Any, stored: Any, boto: Any, bucket: str
) -> None:
    put({"in/a.csv": b"1\n", "in/b.csv": b"".join(b"%d\n" % number for number in range(50))})
    stopped = threading.Event()

    def large(path: str, body: bytes, headers: dict[str, str]) -> tuple[int, bytes]:
        if body == b"30":
            stopped.set()
        return 200, body * (1 << 20)

    with pytest.raises(Abandoned):
        transform(large, stopping=stopped.is_set, strategy="SingleRecord", concurrency=2)
    assert [key for key in stored() if key.startswith("out/")] == ["out/a.csv.out"]
    assert "Uploads" not in boto("s3").list_multipart_uploads(Bucket=bucket)


def test_hosts_share_the_objects_by_sorted_key(transform: Any, put: Any, stored: Any) -> None:
    put({f"in/{name}.csv": name.encode() for name in "cabde"})
    told, _, _ = transform(host={"host": "algo-2", "hosts": ["algo-1", "algo-2"]})
    assert told.files == 2
    assert [key for key in stored() if key.startswith("out/")] == ["out/b.csv.out", "out/d.csv.out"]


def test_outputs_below_the_input_prefix_are_no_input(
    transform: Any, put: Any, bucket: str, stored: Any
) -> None:
    put({"in/a.csv": b"1\n", "in/out/a.csv.out": b"old"})
    told, _, _ = transform(output={"uri": f"s3://{bucket}/in/out"})
    assert told == Told("success", files=1)
    assert stored()["in/out/a.csv.out"] == b"1\n"
    assert "in/out/out/a.csv.out.out" not in stored()


def test_a_manifest_names_the_objects(transform: Any, put: Any, stored: Any, bucket: str) -> None:
    manifest = [{"prefix": f"s3://{bucket}/in/"}, "x/a.csv", "b.csv"]
    put({"in/x/a.csv": b"1\n", "in/b.csv": b"2\n", "in/c.csv": b"3\n"})
    put({"list.json": json.dumps(manifest).encode()})
    told, _, _ = transform(input={"type": "ManifestFile", "uri": f"s3://{bucket}/list.json"})
    assert told.files == 2
    assert [key for key in stored() if key.startswith("out/")] == [
        "out/b.csv.out",
        "out/x/a.csv.out",
    ]


def test_a_missing_object_fails_alone(transform: Any, put: Any, stored: Any, bucket: str) -> None:
    put({"in/a.csv": b"1\n"})
    put({"list.json": json.dumps([{"prefix": f"s3://{bucket}/in/"}, "a.csv", "gone.csv"]).encode()})
    told, _, _ = transform(input={"type": "ManifestFile", "uri": f"s3://{bucket}/list.json"})
    assert (told.result, told.source, told.failed) == ("failure", "client", 1)
    assert f"s3://{bucket}/in/gone.csv" in told.failure
    assert "out/a.csv.out" in stored()


def test_an_output_bucket_that_is_not_there_is_the_users_to_mend(transform: Any, put: Any) -> None:
    put({"in/a.csv": b"1\n"})
    told, _, _ = transform(output={"uri": "s3://no-such-bucket-of-ours/out"})
    assert (told.result, told.source) == ("failure", "client")
    assert "NoSuchBucket" in told.failure


def test_capture_writes_manifests_under_the_hour_of_the_job(
    transform: Any, put: Any, stored: Any, bucket: str
) -> None:
    put({"in/a.csv": b"1\n", "in/b/c.csv": b"2\n"})
    transform(capture={"uri": f"s3://{bucket}/capture", "inference_id": True})
    found = {key: body for key, body in stored().items() if key.startswith("capture/")}
    inputs, outputs = sorted(found)
    assert re.fullmatch(r"capture/input/2022/08/26/13/[0-9a-f]{32}\.json", inputs)
    assert json.loads(found[inputs]) == [{"prefix": f"s3://{bucket}/in/"}, "a.csv", "b/c.csv"]
    assert outputs == inputs.replace("input", "output")
    assert json.loads(found[outputs]) == [
        {"prefix": f"s3://{bucket}/out/"},
        "a.csv.out",
        "b/c.csv.out",
    ]
    assert re.fullmatch(rb"1,[0-9a-f-]{36},2022-08-26T13:00:00Z\n", stored()["out/a.csv.out"])


def test_the_request_comes_before_the_container_and_that_before_the_defaults() -> None:
    places = {"input": {"type": "S3Prefix", "uri": "s3://b/i"}, "output": {"uri": "s3://b/o"}}
    asked = {"MaxConcurrentTransforms": 8, "BatchStrategy": "SINGLE_RECORD", "MaxPayloadInMB": 2}

    def tuned(asked: dict[str, Any], **request: Any) -> Tuning:
        return tune(parse({**places, "started": 0, **request}), asked)

    assert tuned({}) == Tuning(1, 6, "MultiRecord")
    assert tuned(asked) == Tuning(8, 2, "SingleRecord")
    assert tuned(asked, concurrency=3, strategy="MultiRecord") == Tuning(3, 2, "MultiRecord")
    assert tuned({"MaxConcurrentTransforms": "many", "MaxPayloadInMB": -1}) == tuned({})
    # Together no more than 100 MB: what the request does not fix gives way.
    assert tuned({}, concurrency=50) == Tuning(50, 2, "MultiRecord")
    assert tuned({"MaxConcurrentTransforms": 32}, payload_megabytes=20).concurrency == 5


def test_the_container_is_asked_for_its_parameters(transform: Any, put: Any) -> None:
    put({"in/a.csv": b"1\n2\n"})

    def told_by_container(path: str, body: bytes, headers: dict[str, str]) -> tuple[int, bytes]:
        if path == "/execution-parameters":
            return 200, b'{"BatchStrategy":"SINGLE_RECORD","MaxConcurrentTransforms":2}'
        return 200, body

    _, server, log = transform(told_by_container)
    assert sorted(server.bodies) == [b"1", b"2"]
    assert log[0].endswith(
        "MaxConcurrentTransforms=2, MaxPayloadInMB=6, BatchStrategy=SINGLE_RECORD"
    )
