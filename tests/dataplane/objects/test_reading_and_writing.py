import base64
import hashlib
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.dataplane.objects.asking import refused


def test_an_object_comes_back_with_all_that_was_said_of_it(s3: Any, bucket: str) -> None:
    put = s3.put_object(
        Bucket=bucket,
        Key="a/b.json",
        Body=b"{}",
        ContentType="application/json",
        CacheControl="no-cache",
        ContentEncoding="identity",
        Metadata={"Owner": "me", "empty": ""},
        Tagging="a=1&b=x%20y",
        StorageClass="STANDARD_IA",
        ServerSideEncryption="aws:kms",
        SSEKMSKeyId="key",
    )
    got = s3.get_object(Bucket=bucket, Key="a/b.json")
    assert got["Body"].read() == b"{}"
    assert put["ETag"] == got["ETag"] == f'"{hashlib.md5(b"{}").hexdigest()}"'
    assert (got["ContentType"], got["CacheControl"], got["ContentEncoding"]) == (
        "application/json",
        "no-cache",
        "identity",
    )
    assert (got["Metadata"], got["TagCount"]) == ({"owner": "me", "empty": ""}, 2)
    assert (got["StorageClass"], got["SSEKMSKeyId"]) == ("STANDARD_IA", "key")
    tags = s3.get_object_tagging(Bucket=bucket, Key="a/b.json")["TagSet"]
    assert tags == [{"Key": "a", "Value": "1"}, {"Key": "b", "Value": "x y"}]


keys = st.text(
    st.characters(exclude_categories=["Cs", "Cc"]), min_size=1, max_size=30
) | st.sampled_from(
    [
        "x",
        "x/y",
        "a//b",
        "a/",
        "/a",
        ".",
        "..",
        "a/../b",
        "a/./b",
        "+ %?&#=",
        "é",
        "😀/😀",
        "%2F",
        "z" * 900,
    ]
)


@settings(
    max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(key=keys)
def test_any_key_round_trips(s3: Any, bucket: str, key: str) -> None:
    s3.put_object(Bucket=bucket, Key=key, Body=key.encode())
    assert s3.get_object(Bucket=bucket, Key=key)["Body"].read() == key.encode()
    assert key in [o["Key"] for o in s3.list_objects_v2(Bucket=bucket, Prefix=key)["Contents"]]
    s3.delete_object(Bucket=bucket, Key=key)
    assert refused(s3.head_object, Bucket=bucket, Key=key) == ("404", 404)


@pytest.mark.parametrize("size", [0, 1, 262_144, 262_145, 3_000_001])
def test_bodies_of_all_sizes_come_back_equal(s3: Any, bucket: str, size: int) -> None:
    body = bytes(i * 7 & 255 for i in range(min(size, 4096))) * (size // 4096 + 1)
    body = body[:size]
    s3.put_object(Bucket=bucket, Key="k", Body=body)
    got = s3.get_object(Bucket=bucket, Key="k")
    assert got["ContentLength"] == size and got["Body"].read() == body


@pytest.mark.parametrize(
    ("asked", "expected", "content_range"),
    [
        ("bytes=0-0", b"0", "bytes 0-0/10"),
        ("bytes=2-4", b"234", "bytes 2-4/10"),
        ("bytes=7-", b"789", "bytes 7-9/10"),
        ("bytes=-3", b"789", "bytes 7-9/10"),
        ("bytes=-99", b"0123456789", "bytes 0-9/10"),
        ("bytes=8-99", b"89", "bytes 8-9/10"),
        ("bytes=4-2", b"0123456789", None),
        ("lines=1-2", b"0123456789", None),
    ],
)
def test_ranges(
    s3: Any, bucket: str, asked: str, expected: bytes, content_range: str | None
) -> None:
    s3.put_object(Bucket=bucket, Key="k", Body=b"0123456789")
    got = s3.get_object(Bucket=bucket, Key="k", Range=asked, ChecksumMode="ENABLED")
    assert got["Body"].read() == expected
    assert got.get("ContentRange") == content_range
    assert got["ResponseMetadata"]["HTTPStatusCode"] == (206 if content_range else 200)
    assert ("ChecksumCRC32" in got) is False


def test_a_range_beyond_the_end_is_not_satisfiable(s3: Any, bucket: str) -> None:
    s3.put_object(Bucket=bucket, Key="k", Body=b"0123456789")
    s3.put_object(Bucket=bucket, Key="empty", Body=b"")
    assert refused(s3.get_object, Bucket=bucket, Key="k", Range="bytes=10-") == (
        "InvalidRange",
        416,
    )
    assert refused(s3.get_object, Bucket=bucket, Key="k", Range="bytes=-0") == ("InvalidRange", 416)
    assert refused(s3.get_object, Bucket=bucket, Key="empty", Range="bytes=0-1") == (
        "InvalidRange",
        416,
    )


def test_conditions_on_reading(s3: Any, bucket: str) -> None:
    etag = s3.put_object(Bucket=bucket, Key="k", Body=b"1")["ETag"]
    now = datetime.now(UTC)
    ask = {"Bucket": bucket, "Key": "k"}
    assert (
        s3.get_object(**ask, IfMatch=etag, IfUnmodifiedSince=now - timedelta(days=1))["ETag"]
        == etag
    )
    assert refused(s3.get_object, **ask, IfMatch='"other"') == ("PreconditionFailed", 412)
    assert refused(s3.get_object, **ask, IfNoneMatch=etag) == ("304", 304)
    assert refused(s3.get_object, **ask, IfModifiedSince=now + timedelta(seconds=5)) == ("304", 304)
    assert refused(s3.head_object, **ask, IfUnmodifiedSince=now - timedelta(days=1)) == ("412", 412)
    assert s3.get_object(**ask, IfNoneMatch='"other"', IfModifiedSince=now)["ETag"] == etag


def test_conditions_on_writing(s3: Any, bucket: str) -> None:
    ask = {"Bucket": bucket, "Key": "k"}
    assert refused(s3.put_object, **ask, Body=b"", IfMatch='"x"') == ("NoSuchKey", 404)
    etag = s3.put_object(**ask, Body=b"1", IfNoneMatch="*")["ETag"]
    assert refused(s3.put_object, **ask, Body=b"2", IfNoneMatch="*") == ("PreconditionFailed", 412)
    assert refused(s3.put_object, **ask, Body=b"2", IfMatch='"x"') == ("PreconditionFailed", 412)
    s3.put_object(**ask, Body=b"3", IfMatch=etag)
    assert s3.get_object(**ask)["Body"].read() == b"3"
    assert refused(s3.delete_object, **ask, IfMatch=etag) == ("PreconditionFailed", 412)


# Of b"123456789": the check values that the definitions of the algorithms give.
CHECKS = {
    "CRC32": "cbf43926",
    "CRC32C": "e3069283",
    "CRC64NVME": "ae8b14860a799888",
    "SHA1": hashlib.sha1(b"123456789").hexdigest(),
    "SHA256": hashlib.sha256(b"123456789").hexdigest(),
}


@pytest.mark.parametrize("name", ["CRC32", "CRC32C", "CRC64NVME", "SHA1", "SHA256"])
def test_a_checksum_is_verified_kept_and_given_back(s3: Any, bucket: str, name: str) -> None:
    digest = bytes.fromhex(CHECKS[name])
    value = base64.b64encode(digest).decode()
    ask = {"Bucket": bucket, "Key": "k", "Body": b"123456789"}
    put = s3.put_object(**ask, **{f"Checksum{name}": value})
    assert (put[f"Checksum{name}"], put["ChecksumType"]) == (value, "FULL_OBJECT")
    got = s3.get_object(Bucket=bucket, Key="k", ChecksumMode="ENABLED")
    assert (got[f"Checksum{name}"], got["Body"].read()) == (value, b"123456789")
    wrong = base64.b64encode(digest[::-1]).decode()
    assert refused(s3.put_object, **ask, **{f"Checksum{name}": wrong}) == ("BadDigest", 400)
    assert refused(s3.put_object, **ask, **{f"Checksum{name}": "AAA="}) == ("InvalidRequest", 400)
    attributes = s3.get_object_attributes(
        Bucket=bucket, Key="k", ObjectAttributes=["Checksum", "ObjectSize"]
    )
    assert (attributes["Checksum"][f"Checksum{name}"], attributes["ObjectSize"]) == (value, 9)


def test_content_md5_is_verified(s3: Any, bucket: str) -> None:
    ask = {"Bucket": bucket, "Key": "k", "Body": b"hello"}
    right = base64.b64encode(hashlib.md5(b"hello").digest()).decode()
    s3.put_object(**ask, ContentMD5=right)
    assert refused(s3.put_object, **ask, ContentMD5=right[::-1]) == ("InvalidDigest", 400)
    wrong = base64.b64encode(bytes(16)).decode()
    assert refused(s3.put_object, **ask, ContentMD5=wrong) == ("BadDigest", 400)


def test_deleting_is_idempotent_and_many_at_once(s3: Any, bucket: str) -> None:
    for i in range(5):
        s3.put_object(Bucket=bucket, Key=f"d/{i}", Body=b"")
    s3.delete_object(Bucket=bucket, Key="d/0")
    s3.delete_object(Bucket=bucket, Key="d/0")
    wanted = [{"Key": f"d/{i}"} for i in range(1, 4)] + [{"Key": "never"}]
    done = s3.delete_objects(Bucket=bucket, Delete={"Objects": wanted})
    assert [found["Key"] for found in done["Deleted"]] == [found["Key"] for found in wanted]
    quiet = s3.delete_objects(Bucket=bucket, Delete={"Objects": [{"Key": "d/4"}], "Quiet": True})
    assert "Deleted" not in quiet and "Errors" not in quiet
    assert "Contents" not in s3.list_objects_v2(Bucket=bucket)


def test_a_copy_keeps_or_replaces_metadata(s3: Any, bucket: str) -> None:
    s3.put_object(
        Bucket=bucket,
        Key="a b+é",
        Body=b"1",
        ContentType="text/x",
        Metadata={"m": "1"},
        Tagging="t=1",
    )
    source = {"Bucket": bucket, "Key": "a b+é"}
    s3.copy_object(Bucket=bucket, Key="kept", CopySource=source)
    kept = s3.get_object(Bucket=bucket, Key="kept", ChecksumMode="ENABLED")
    assert (kept["Body"].read(), kept["ContentType"], kept["Metadata"], kept["TagCount"]) == (
        b"1",
        "text/x",
        {"m": "1"},
        1,
    )
    s3.copy_object(
        Bucket=bucket,
        Key="new",
        CopySource=source,
        MetadataDirective="REPLACE",
        ContentType="text/y",
    )
    new = s3.head_object(Bucket=bucket, Key="new")
    assert (new["ContentType"], new["Metadata"]) == ("text/y", {})
    itself = {"Bucket": bucket, "Key": "new", "CopySource": {"Bucket": bucket, "Key": "new"}}
    assert refused(s3.copy_object, **itself) == ("InvalidRequest", 400)
    s3.copy_object(**itself, MetadataDirective="REPLACE", Metadata={"n": "2"})
    assert s3.head_object(Bucket=bucket, Key="new")["Metadata"] == {"n": "2"}
    assert refused(
        s3.copy_object, Bucket=bucket, Key="c", CopySource=source, CopySourceIfMatch='"x"'
    ) == ("PreconditionFailed", 412)
    assert refused(s3.copy_object, Bucket=bucket, Key="c", CopySource=f"{bucket}/none") == (
        "NoSuchKey",
        404,
    )


def test_metadata_and_keys_have_limits(s3: Any, bucket: str) -> None:
    big = {"Bucket": bucket, "Key": "k", "Body": b"", "Metadata": {"m": "x" * 2048}}
    assert refused(s3.put_object, **big) == ("MetadataTooLarge", 400)
    assert refused(s3.put_object, Bucket=bucket, Key="k" * 1025, Body=b"") == (
        "KeyTooLongError",
        400,
    )
    assert refused(s3.put_object, Bucket=bucket, Key="k", Body=b"", Tagging="a=1&a=2") == (
        "InvalidTag",
        400,
    )
    assert refused(s3.put_object, Bucket=bucket, Key="k", Body=b"", ACL="public-read") == (
        "AccessControlListNotSupported",
        400,
    )


def test_missing_things_are_named_as_the_sdks_expect(s3: Any, bucket: str) -> None:
    assert refused(s3.get_object, Bucket=bucket, Key="none") == ("NoSuchKey", 404)
    assert refused(s3.head_object, Bucket=bucket, Key="none") == ("404", 404)
    assert refused(s3.get_object, Bucket="no-such-bucket", Key="k") == ("NoSuchBucket", 404)
    assert refused(s3.put_object, Bucket="no-such-bucket", Key="k", Body=b"") == (
        "NoSuchBucket",
        404,
    )
    assert refused(s3.head_bucket, Bucket="no-such-bucket") == ("404", 404)
    assert refused(s3.list_objects_v2, Bucket="no-such-bucket") == ("NoSuchBucket", 404)
    assert refused(s3.get_object_torrent, Bucket=bucket, Key="k") == ("NotImplemented", 501)
    with pytest.raises(s3.exceptions.NoSuchKey, match="The specified key does not exist"):
        s3.get_object(Bucket=bucket, Key="none")


def test_response_headers_may_be_overridden(s3: Any, bucket: str) -> None:
    s3.put_object(Bucket=bucket, Key="k", Body=b"1")
    got = s3.get_object(Bucket=bucket, Key="k", ResponseContentType="text/z", ResponseExpires="0")
    assert got["ContentType"] == "text/z"


def test_an_objects_own_file_is_named_to_who_asks_for_it(s3: Any, bucket: str) -> None:
    s3.put_object(Bucket=bucket, Key="a b/ü%", Body=b"1234")

    def ask(params: Any, **_: Any) -> None:
        params["headers"]["x-clary-file"] = "?"

    plain = s3.get_object(Bucket=bucket, Key="a b/ü%")["ResponseMetadata"]["HTTPHeaders"]
    s3.meta.events.register("before-call.s3.GetObject", ask)
    try:
        answer = s3.get_object(Bucket=bucket, Key="a b/ü%", Range="bytes=1-2")
    finally:
        s3.meta.events.unregister("before-call.s3.GetObject", ask)
    inode, changed, path = answer["ResponseMetadata"]["HTTPHeaders"]["x-clary-file"].split(" ")
    file = Path(unquote(path))
    assert (str(file.stat().st_ino), str(file.stat().st_mtime_ns)) == (inode, changed)
    assert (answer["Body"].read(), file.read_bytes()) == (b"23", b"1234")
    assert "x-clary-file" not in plain
