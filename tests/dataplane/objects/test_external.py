import socket
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import boto3
import pytest
from botocore.config import Config

from clary.dataplane.objects.external import ExternalApp
from clary.model.errors import ApiError
from clary.store.external_objects import ExternalEndpoint, ExternalObjects
from tests.dataplane.objects.asking import refused
from tests.dataplane.objects.conftest import Door
from tests.dataplane.objects.lone_door import build, server_of


@pytest.fixture(scope="module")
def endpoint(door: Door) -> ExternalEndpoint:
    """The external store is another Clary, in another process with other keys."""
    keys = door.keys["admin"]
    return ExternalEndpoint(door.url, keys["aws_access_key_id"], keys["aws_secret_access_key"])


@pytest.fixture(scope="module")
def passed(
    endpoint: ExternalEndpoint, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[dict[str, Any]]:
    """Clients of a door that passes S3 through."""
    inner, keys = build(tmp_path_factory.mktemp("front"))
    app = ExternalApp(
        endpoint,
        account="123456789012",
        region="us-east-1",
        authenticator=inner.service.authenticator,
        authoriser=inner.service.authoriser,
    )
    listener = socket.create_server(("127.0.0.1", 0))
    server = server_of(app)
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
    thread.start()
    url = f"http://127.0.0.1:{listener.getsockname()[1]}"
    config = Config(retries={"total_max_attempts": 1})
    yield {
        user: boto3.client(
            "s3", endpoint_url=url, region_name="us-east-1", config=config, **keys[user]
        )
        for user in keys
    }
    server.should_exit = True
    thread.join(10)
    listener.close()
    app.close()
    inner.close()


def test_objects_pass_through_both_ways(passed: dict[str, Any], s3: Any, bucket: str) -> None:
    admin = passed["admin"]
    body = bytes(range(256)) * 12_000
    admin.put_object(Bucket=bucket, Key="a b/é+", Body=body, Metadata={"m": "1"})
    assert s3.get_object(Bucket=bucket, Key="a b/é+")["Body"].read() == body
    got = admin.get_object(Bucket=bucket, Key="a b/é+", Range="bytes=1-2")
    assert (got["Body"].read(), got["Metadata"]) == (b"\1\2", {"m": "1"})
    assert [o["Key"] for o in admin.list_objects_v2(Bucket=bucket)["Contents"]] == ["a b/é+"]
    admin.copy_object(Bucket=bucket, Key="copy", CopySource={"Bucket": bucket, "Key": "a b/é+"})
    assert admin.head_object(Bucket=bucket, Key="copy")["ContentLength"] == len(body)
    done = admin.delete_objects(Bucket=bucket, Delete={"Objects": [{"Key": "copy"}]})
    assert [found["Key"] for found in done["Deleted"]] == ["copy"]
    assert refused(admin.head_object, Bucket=bucket, Key="copy") == ("404", 404)
    assert bucket in [found["Name"] for found in admin.list_buckets()["Buckets"]]


def test_our_policies_hold_before_anything_is_passed_on(
    passed: dict[str, Any], s3: Any, bucket: str
) -> None:
    s3.put_object(Bucket=bucket, Key="k", Body=b"1")
    reader = passed["reader"]
    assert reader.get_object(Bucket=bucket, Key="k")["Body"].read() == b"1"
    denied = ("AccessDenied", 403)
    assert refused(reader.put_object, Bucket=bucket, Key="k", Body=b"") == denied
    wanted = {"Objects": [{"Key": "k"}]}
    assert refused(reader.delete_objects, Bucket=bucket, Delete=wanted) == denied
    assert s3.get_object(Bucket=bucket, Key="k")["Body"].read() == b"1"


def test_a_body_that_is_not_what_was_promised_does_not_arrive(
    passed: dict[str, Any], s3: Any, bucket: str
) -> None:
    ask = {"Bucket": bucket, "Key": "k", "Body": b"hello", "ChecksumCRC32": "AAAAAA=="}
    assert refused(passed["admin"].put_object, **ask) == ("BadDigest", 400)
    assert refused(s3.head_object, Bucket=bucket, Key="k") == ("404", 404)


def test_a_store_that_is_away_is_said_so(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    store = ExternalObjects(ExternalEndpoint(f"http://127.0.0.1:{port}", "key", "secret"))
    with pytest.raises(ApiError, match="cannot be reached"):
        store.read("bkt", "k")


def test_the_in_process_interface_is_that_of_files(endpoint: ExternalEndpoint, bucket: str) -> None:
    store = ExternalObjects(endpoint)
    assert store.put(bucket, "a/b", b"1", content_type="text/x").content_type == "text/x"
    store.put(bucket, "a//c", b"22")
    store.put(bucket, "d", b"333")
    assert store.read(bucket, "a//c") == b"22"
    with pytest.raises(ApiError, match="larger than"):
        store.read(bucket, "d", limit=2)
    assert store.head(bucket, "none") is None and store.path(bucket, "d") is None
    with pytest.raises(ApiError) as caught:
        store.open(bucket, "none")
    assert caught.value.code == "NoSuchKey"
    page = store.list(bucket, delimiter="/", limit=1)
    assert (page.prefixes, [info.key for info in page.objects]) == (["a/"], [])
    rest = store.list(bucket, start_after=page.next_after, delimiter="/")
    assert [info.key for info in rest.objects] == ["d"] and rest.next_after == ""
    store.delete(bucket, "d")
    assert store.head(bucket, "d") is None
    assert store.bucket("no-such-bucket") is None
    assert store.create_bucket(f"{bucket}-2") is True
    assert bucket in [found.name for found in store.buckets()]


def test_missing_credentials_are_named() -> None:
    with pytest.raises(ValueError, match="CLARY_OBJECT_STORE_ACCESS_KEY_ID"):
        ExternalEndpoint.load("http://store", {})
    found = ExternalEndpoint.load(
        "http://store/",
        {
            "CLARY_OBJECT_STORE_ACCESS_KEY_ID": "key",
            "CLARY_OBJECT_STORE_SECRET_ACCESS_KEY": "hidden",
        },
    )
    assert found.url == "http://store" and "hidden" not in repr(found)
