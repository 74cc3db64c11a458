"""The S3 client against moto, and against a server that fails."""

from __future__ import annotations

import base64
import math
import os
import socket
import threading
import time
import zlib
from pathlib import Path
from typing import Any

import pytest

from clary.runner.connections import FileShrank
from clary.runner.s3 import S3, encryption, split_uri
from clary.runner.s3_answers import S3Error
from clary.runner.signing import Credentials
from clary.runner.uploads import UploadStream

KEYS = Credentials("AKIAEXAMPLE", "secret", "", math.inf)
STRANGE_KEYS = ["a b+c/é%&?=#.txt", "x//y", "x/\x01", "../up", "'(~)*!", "日本/語"]


def client(url: str, **options: Any) -> S3:
    return S3(url, "us-east-1", lambda: KEYS, **options)


@pytest.mark.parametrize("key", STRANGE_KEYS)
def test_a_key_of_any_characters_comes_back_as_it_went(s3, boto, bucket, key):
    s3.put_bytes(bucket, key, b"hello")
    assert s3.get(bucket, key) == b"hello"
    assert boto("s3").get_object(Bucket=bucket, Key=key)["Body"].read() == b"hello"
    assert [found.key for found in s3.objects(bucket, "")] == [key]


def test_listing_reads_every_page_in_order(s3, bucket, boto, monkeypatch):
    keys = [f"p/{number:04d}" for number in range(25)]
    for key in keys:
        s3.put_bytes(bucket, key, key.encode())
    original = s3.call

    def small_pages(*arguments, query=(), **rest):
        if ("list-type", "2") in query:
            query = [*query, ("max-keys", "10")]
        return original(*arguments, query=query, **rest)

    monkeypatch.setattr(s3, "call", small_pages)
    listed = list(s3.objects(bucket, "p/"))
    assert [found.key for found in listed] == keys
    assert {found.size for found in listed} == {6}


def test_a_missing_key_and_a_missing_bucket_are_named(s3, bucket):
    with pytest.raises(S3Error) as missing:
        s3.get(bucket, "nothing")
    assert str(missing.value) == "NoSuchKey (404): The specified key does not exist."
    assert missing.value.where == f"s3://{bucket}/nothing"
    with pytest.raises(S3Error, match=r"NoSuchBucket \(404\)"):
        list(s3.objects("no-such-bucket", ""))
    assert s3.head(bucket, "nothing") is None


def test_files_of_any_size_are_stored_and_fetched_whole(s3, bucket, tmp_path, monkeypatch):
    monkeypatch.setattr("clary.runner.s3.SINGLE_PUT_BYTES_MAX", 12 * 1024 * 1024)
    monkeypatch.setattr("clary.runner.s3.PART_BYTES_MIN", 6 * 1024 * 1024)
    for size in (0, 1, 100_000, 20 * 1024 * 1024 + 3):
        source, target = tmp_path / "source", tmp_path / "target"
        source.write_bytes(os.urandom(size))
        counted: list[int] = []
        assert s3.put_file(bucket, "file", source, count=counted.append) == size
        assert sum(counted) == size
        head = s3.head(bucket, "file")
        assert head is not None and head.size == size
        assert ("-4" in head.etag) == (size > 12 * 1024 * 1024)
        assert s3.get_file(bucket, "file", target) == size
        assert target.read_bytes() == source.read_bytes()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["source", "target"]


def test_a_stream_of_unknown_length_is_stored_whole(s3, bucket, monkeypatch):
    monkeypatch.setattr("clary.runner.uploads.PART_BYTES_MIN", 5 * 1024 * 1024)
    for size in (0, 10, 11 * 1024 * 1024):
        data = os.urandom(size)
        sink = UploadStream(s3, bucket, "stream")
        for start in range(0, size, 300_000):
            sink.write(data[start : start + 300_000])
        sink.close()
        assert s3.get(bucket, "stream") == data


def test_an_aborted_stream_leaves_neither_object_nor_parts(s3, bucket, boto, monkeypatch):
    monkeypatch.setattr("clary.runner.uploads.PART_BYTES_MIN", 5 * 1024 * 1024)
    sink = UploadStream(s3, bucket, "stream")
    sink.write(bytes(6 * 1024 * 1024))
    sink.abort()
    assert s3.head(bucket, "stream") is None
    assert "Uploads" not in boto("s3").list_multipart_uploads(Bucket=bucket)


def test_copy_and_delete_many(s3, bucket, stored):
    keys = [*STRANGE_KEYS, "k&<>"]
    for key in keys:
        s3.put_bytes(bucket, key, b"1")
    s3.copy((bucket, "a b+c/é%&?=#.txt"), bucket, "copy")
    s3.delete_many(bucket, keys)
    assert stored() == {"copy": b"1"}


def test_encryption_headers_reach_the_object(s3, bucket, boto):
    s3.put_bytes(bucket, "secret", b"1", encryption("key-1"))
    head = boto("s3").head_object(Bucket=bucket, Key="secret")
    assert (head["ServerSideEncryption"], head["SSEKMSKeyId"]) == ("aws:kms", "key-1")
    assert encryption("") == {}


def test_connections_are_kept_alive_and_a_small_get_is_one_request(scripted, reply):
    server = scripted(lambda request: reply(200, b"data", ETag='"e"'))
    s3 = client(server.url)
    for _ in range(5):
        assert s3.get("bucket", "key") == b"data"
    assert len(server.requests) == 5
    assert len(server._open) == 1
    s3.close()


def test_slow_down_and_internal_errors_are_retried_within_bounds(scripted, reply):
    body = b"<Error><Code>SlowDown</Code><Message>Reduce</Message></Error>"
    answers = [reply(503, body), reply(500), None, reply(200, b"done")]
    server = scripted(lambda request: answers[min(len(server.requests), 4) - 1])
    s3 = client(server.url)
    assert s3.get("bucket", "key") == b"done"
    server.answer = lambda request: reply(500)
    before = len(server.requests)
    with pytest.raises(S3Error) as error:
        s3.get("bucket", "key")
    assert error.value.status == 500
    assert len(server.requests) - before == 6
    s3.close()


def test_a_denial_is_not_retried(scripted, reply):
    body = b"<Error><Code>AccessDenied</Code><Message>Access Denied</Message></Error>"
    server = scripted(lambda request: reply(403, body))
    s3 = client(server.url)
    with pytest.raises(S3Error, match=r"AccessDenied \(403\): Access Denied"):
        s3.get("bucket", "key")
    assert len(server.requests) == 1
    s3.close()


def test_a_door_that_restarts_is_waited_for(scripted, reply, monkeypatch):
    refused = threading.Event()

    def pause(attempt: int) -> float:
        refused.set()
        return 0.02

    monkeypatch.setattr("clary.runner.s3.jittered", pause)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    s3 = client(f"http://127.0.0.1:{port}", patience_seconds=10)
    got: list[bytes] = []
    thread = threading.Thread(target=lambda: got.append(s3.get("bucket", "key")))
    thread.start()
    assert refused.wait(10)
    scripted(lambda request: reply(200, b"back"), port)
    thread.join(10)
    assert got == [b"back"]
    s3.close()


def test_patience_ends_and_closing_ends_it_sooner():
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    s3 = client(f"http://127.0.0.1:{port}", patience_seconds=0.2)
    with pytest.raises(ConnectionRefusedError):
        s3.get("bucket", "key")
    patient = client(f"http://127.0.0.1:{port}", patience_seconds=60)
    threading.Timer(0.1, patient.close).start()
    began = time.monotonic()
    with pytest.raises(ConnectionRefusedError):
        patient.get("bucket", "key")
    assert time.monotonic() - began < 5


def test_a_download_cut_short_is_resumed_by_range(scripted, reply, tmp_path):
    data = os.urandom(300_000)

    def answer(request):
        if "range" not in request.headers:
            return (
                b'HTTP/1.1 200 OK\r\nContent-Length: 300000\r\nETag: "v1"\r\n'
                b"Connection: close\r\n\r\n" + data[:100_000]
            )
        start = int(request.headers["range"][6:-1])
        return reply(206, data[start:], ETag='"v1"')

    server = scripted(answer)
    s3 = client(server.url)
    assert s3.get_file("bucket", "key", tmp_path / "file") == 300_000
    assert (tmp_path / "file").read_bytes() == data
    assert [request.headers.get("range") for request in server.requests] == [
        None,
        "bytes=100000-",
    ]
    assert server.requests[1].headers["if-match"] == '"v1"'
    s3.close()


def test_an_object_replaced_while_it_is_read_is_read_anew(scripted, reply, tmp_path):
    def answer(request):
        if len(server.requests) == 1:
            return (
                b'HTTP/1.1 200 OK\r\nContent-Length: 10\r\nETag: "v1"\r\n'
                b"Connection: close\r\n\r\nold"
            )
        if "range" in request.headers:
            return reply(412)
        return reply(200, b"new", ETag='"v2"')

    server = scripted(answer)
    s3 = client(server.url)
    assert s3.get_file("bucket", "key", tmp_path / "file") == 3
    assert (tmp_path / "file").read_bytes() == b"new"
    s3.close()


def test_bytes_that_do_not_match_their_checksum_are_refused(scripted, reply, tmp_path):
    right = base64.b64encode(zlib.crc32(b"right").to_bytes(4, "big")).decode()
    server = scripted(lambda request: reply(200, b"right", x_amz_checksum_crc32=right))
    s3 = client(server.url)
    assert s3.get("bucket", "key") == b"right"
    server.answer = lambda request: reply(200, b"wrong", x_amz_checksum_crc32=right)
    with pytest.raises(S3Error, match="BadDigest"):
        s3.get_file("bucket", "key", tmp_path / "file")
    assert list(tmp_path.iterdir()) == []
    s3.close()


def test_chunked_answers_are_read(scripted):
    server = scripted(
        lambda request: (
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
            b"5;x=y\r\nhello\r\n6\r\n world\r\n0\r\nTrailer: 1\r\n\r\n"
        )
    )
    s3 = client(server.url)
    assert s3.get("bucket", "key") == b"hello world"
    assert s3.get("bucket", "key") == b"hello world"
    assert len(server._open) == 1
    s3.close()


def test_expired_credentials_are_renewed(scripted, reply):
    forgotten: list[Credentials] = []

    class Provider:
        def __call__(self) -> Credentials:
            return KEYS._replace(access_key=f"key{len(forgotten)}")

        def forget(self, used: Credentials) -> None:
            forgotten.append(used)

    def answer(request):
        if "key0/" in request.headers["authorization"]:
            return reply(400, b"<Error><Code>ExpiredToken</Code><Message>x</Message></Error>")
        return reply(200, b"ok")

    server = scripted(answer)
    s3 = S3(server.url, "us-east-1", Provider())
    assert s3.get("bucket", "key") == b"ok"
    assert [used.access_key for used in forgotten] == ["key0"]
    s3.close()


def test_a_file_that_shrinks_while_it_is_sent_is_told(s3, bucket, tmp_path, monkeypatch):
    path = tmp_path / "file"
    path.write_bytes(bytes(200_000))
    descriptor = os.open(path, os.O_RDONLY)
    real = os.fstat(descriptor)
    os.truncate(path, 100_000)
    with monkeypatch.context() as patch:
        patch.setattr("clary.runner.s3.os.fstat", lambda _: real)
        with pytest.raises(FileShrank):
            s3.put_descriptor(bucket, "file", descriptor)
    os.close(descriptor)
    assert s3.head(bucket, "file") is None


def test_uris_are_split():
    assert split_uri("s3://bucket/a//b ") == ("bucket", "a//b ")
    assert split_uri("s3://bucket") == ("bucket", "")
    for wrong in ("http://x", "s3:///key", "bucket/key"):
        with pytest.raises(ValueError, match=r"s3://|bucket"):
            split_uri(wrong)


def test_only_plain_endpoints_are_spoken_to(tmp_path: Path):
    with pytest.raises(ValueError, match="plain http://"):
        client("https://example.com")
