"""The signed GET: its signature, its credentials, its retries and its refusals."""

from __future__ import annotations

import http.server
import io
import tarfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from botocore.auth import S3SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials as BotoCredentials

from clary.workloads.toolkit import downloads
from clary.workloads.toolkit.downloads import Credentials, DownloadError, download, sign


class Store:
    """A tiny S3 and a credentials address that remember what was asked."""

    def __init__(self) -> None:
        self.requests: list[tuple[str, dict[str, str]]] = []
        self.answers: dict[str, list[tuple[int, bytes]]] = {}
        store = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                store.requests.append((self.path, {k.lower(): v for k, v in self.headers.items()}))
                queue = store.answers.get(self.path, [(404, b"<Code>NoSuchKey</Code>")])
                status, body = queue.pop(0) if len(queue) > 1 else queue[0]
                self.send_response(status)
                self.send_header("Content-Length", str(len(body) + (9 if status == 299 else 0)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_: Any) -> None:
                """Keep quiet."""

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_address[1]}"
        self.thread = threading.Thread(target=self.server.serve_forever, args=(0.01,))
        self.thread.start()

    def close(self) -> None:
        self.server.shutdown()
        self.server.server_close()
        self.thread.join()


@pytest.fixture
def store(monkeypatch: pytest.MonkeyPatch) -> Iterator[Store]:
    monkeypatch.setattr(downloads.time, "sleep", lambda seconds: None)
    running = Store()
    yield running
    running.close()


def environ(store: Store, **more: str) -> dict[str, str]:
    return {
        "S3_ENDPOINT_URL": store.url,
        "AWS_REGION": "eu-west-1",
        "AWS_ACCESS_KEY_ID": "AKIDEXAMPLE",
        "AWS_SECRET_ACCESS_KEY": "secret",
        "AWS_SESSION_TOKEN": "token+/=",
        **more,
    }


def test_the_signature_equals_botocores() -> None:
    path = "/bucket/a%20key/with%2Bplus/%C3%BC.tar.gz"
    now = time.gmtime(1_700_000_000)
    headers = {"host": "127.0.0.1:9000", "x-amz-content-sha256": downloads.EMPTY_SHA256}
    ours = sign(path, headers, "eu-west-1", Credentials("AKID", "secret", "token"), now)
    request = AWSRequest("GET", "http://127.0.0.1:9000" + path, headers=headers)
    request.context["timestamp"] = ours["x-amz-date"]
    request.headers["X-Amz-Date"] = ours["x-amz-date"]
    request.headers["X-Amz-Security-Token"] = "token"
    auth = S3SigV4Auth(BotoCredentials("AKID", "secret", "token"), "s3", "eu-west-1")
    text = auth.string_to_sign(request, auth.canonical_request(request))
    expected = auth.signature(text, request)
    assert ours["authorization"].endswith(f"Signature={expected}")
    assert "Credential=AKID/20231114/eu-west-1/s3/aws4_request" in ours["authorization"]


def test_an_object_is_fetched_whole_with_the_containers_credentials(
    store: Store, tmp_path: Path
) -> None:
    store.answers["/bucket/a%20b/c.tar.gz"] = [(200, b"content")]
    store.answers["/creds?x=1"] = [
        (200, b'{"AccessKeyId": "ASIA1", "SecretAccessKey": "s", "Token": "t"}')
    ]
    settings = {
        "AWS_ENDPOINT_URL": store.url,
        "AWS_CONTAINER_CREDENTIALS_FULL_URI": store.url + "/creds?x=1",
        "AWS_CONTAINER_AUTHORIZATION_TOKEN": "opaque",
    }
    download("s3://bucket/a b/c.tar.gz", tmp_path / "out", settings)
    assert (tmp_path / "out").read_bytes() == b"content"
    assert store.requests[0][1]["authorization"] == "opaque"
    headers = store.requests[1][1]
    assert "Credential=ASIA1/" in headers["authorization"]
    assert headers["x-amz-security-token"] == "t"
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_a_store_in_trouble_is_asked_again(store: Store, tmp_path: Path) -> None:
    store.answers["/b/k"] = [(503, b"slow down"), (500, b""), (200, b"there")]
    download("s3://b/k", tmp_path / "out", environ(store))
    assert (tmp_path / "out").read_bytes() == b"there"


def test_a_store_that_stays_in_trouble_is_given_up(store: Store, tmp_path: Path) -> None:
    store.answers["/b/k"] = [(503, b"slow down")]
    with pytest.raises(DownloadError, match="the store answered 503"):
        download("s3://b/k", tmp_path / "out", environ(store))
    assert len(store.requests) == downloads.ATTEMPTS
    assert list(tmp_path.iterdir()) == []


def test_a_refusal_is_told_with_its_code_and_not_repeated(store: Store, tmp_path: Path) -> None:
    answer = b"<Error><Code>AccessDenied</Code><Message>No.</Message></Error>"
    store.answers["/b/k"] = [(403, answer)]
    with pytest.raises(DownloadError, match=r"answered 403 AccessDenied No\."):
        download("s3://b/k", tmp_path / "out", environ(store))
    assert len(store.requests) == 1


@pytest.mark.parametrize("uri", ["s3://bucket", "s3:///key", "http://x/y", "s3://bucket/"])
def test_addresses_that_are_no_objects_are_refused(uri: str, tmp_path: Path) -> None:
    with pytest.raises(DownloadError, match="is not the address of an S3 object"):
        download(uri, tmp_path / "out", {})


def test_keys_are_never_shown() -> None:
    assert "secret" not in repr(Credentials("AKID", "secret", "token"))
    assert "token" not in repr(Credentials("AKID", "secret", "token"))


def test_a_job_trains_with_code_from_the_store(store: Store, job) -> None:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w:gz") as tar:
        member = tarfile.TarInfo("train.py")
        text = b"print('from the store')"
        member.size = len(text)
        tar.addfile(member, io.BytesIO(text))
    store.answers["/bucket/source.tar.gz"] = [(200, out.getvalue())]
    job.configure(
        {
            "sagemaker_program": "train.py",
            "sagemaker_submit_directory": "s3://bucket/source.tar.gz",
        }
    )
    status, text_out, err = job.train(**environ(store))
    assert status == 0, err
    assert "from the store" in text_out
