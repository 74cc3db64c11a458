import base64
import hashlib
import io
import zlib
from typing import Any

import pytest
from boto3.s3.transfer import TransferConfig

from clary.dataplane.objects.checksums import ALGORITHMS, joined
from tests.dataplane.objects.asking import refused

FIVE = 5 * 1024 * 1024


def _upload(
    s3: Any, bucket: str, parts: list[bytes], **parameters: str
) -> tuple[str, list[dict[str, Any]]]:
    upload = s3.create_multipart_upload(Bucket=bucket, Key="k", **parameters)["UploadId"]
    done = []
    for number, body in enumerate(parts, 1):
        algorithm = (
            {"ChecksumAlgorithm": parameters["ChecksumAlgorithm"]}
            if "ChecksumAlgorithm" in parameters
            else {}
        )
        answer = s3.upload_part(
            Bucket=bucket, Key="k", UploadId=upload, PartNumber=number, Body=body, **algorithm
        )
        checksums = (
            {k: v for k, v in answer.items() if k.startswith("Checksum")} if algorithm else {}
        )
        done.append({"PartNumber": number, "ETag": answer["ETag"], **checksums})
    return upload, done


def test_parts_become_one_object_with_a_joined_etag(s3: Any, bucket: str) -> None:
    bodies = [b"a" * FIVE, b"b" * 10]
    upload, parts = _upload(s3, bucket, bodies, ContentType="text/plain", ChecksumAlgorithm="CRC32")
    listed = s3.list_parts(Bucket=bucket, Key="k", UploadId=upload, MaxParts=1)
    assert (listed["IsTruncated"], listed["Parts"][0]["Size"]) == (True, FIVE)
    assert [u["UploadId"] for u in s3.list_multipart_uploads(Bucket=bucket)["Uploads"]] == [upload]
    ask = {"Bucket": bucket, "Key": "k", "UploadId": upload, "MultipartUpload": {"Parts": parts}}
    done = s3.complete_multipart_upload(**ask)
    digest = hashlib.md5(b"".join(hashlib.md5(body).digest() for body in bodies)).hexdigest()
    assert done["ETag"] == f'"{digest}-2"' and done["ChecksumCRC32"].endswith("-2")
    got = s3.get_object(Bucket=bucket, Key="k", ChecksumMode="ENABLED")
    assert (got["ContentType"], got["ChecksumType"]) == ("text/plain", "COMPOSITE")
    assert got["Body"].read() == b"".join(bodies)
    second = s3.get_object(Bucket=bucket, Key="k", PartNumber=2, ChecksumMode="ENABLED")
    assert (second["Body"].read(), second["PartsCount"]) == (b"b" * 10, 2)
    assert refused(s3.head_object, Bucket=bucket, Key="k", PartNumber=3) == ("416", 416)
    assert s3.complete_multipart_upload(**ask)["ETag"] == done["ETag"]
    assert "Uploads" not in s3.list_multipart_uploads(Bucket=bucket)
    attributes = s3.get_object_attributes(Bucket=bucket, Key="k", ObjectAttributes=["ObjectParts"])
    assert attributes["ObjectParts"]["TotalPartsCount"] == 2


def test_a_full_object_checksum_is_joined_from_the_parts(s3: Any, bucket: str) -> None:
    bodies = [b"a" * FIVE, b"b" * 1000]
    upload, parts = _upload(
        s3, bucket, bodies, ChecksumAlgorithm="CRC32", ChecksumType="FULL_OBJECT"
    )
    done = s3.complete_multipart_upload(
        Bucket=bucket, Key="k", UploadId=upload, MultipartUpload={"Parts": parts}
    )
    value = base64.b64encode(zlib.crc32(b"".join(bodies)).to_bytes(4, "big")).decode()
    assert (done["ChecksumCRC32"], done["ChecksumType"]) == (value, "FULL_OBJECT")
    head = s3.head_object(Bucket=bucket, Key="k", ChecksumMode="ENABLED")
    assert head["ChecksumCRC32"] == value


@pytest.mark.parametrize("name", ["CRC32", "CRC32C", "CRC64NVME"])
def test_joining_checksums_equals_computing_them_at_once(name: str) -> None:
    algorithm = ALGORITHMS[name]
    parts = [b"first", b"", b"second part", b"3"]

    def of(body: bytes) -> str:
        digest = algorithm.start()
        digest.update(body)
        return base64.b64encode(digest.digest()).decode()

    pairs = [(len(part), of(part)) for part in parts]
    assert joined(name, "FULL_OBJECT", pairs) == of(b"".join(parts))


def test_wrong_completions_are_told_apart(s3: Any, bucket: str) -> None:
    upload, parts = _upload(s3, bucket, [b"a", b"b"])
    ask = {"Bucket": bucket, "Key": "k", "UploadId": upload}

    def complete(parts: list[dict[str, Any]], **change: str) -> tuple[str, int]:
        return refused(
            s3.complete_multipart_upload, **{**ask, **change}, MultipartUpload={"Parts": parts}
        )

    assert complete(parts) == ("EntityTooSmall", 400)
    assert complete(parts[::-1]) == ("InvalidPartOrder", 400)
    assert complete([{"PartNumber": 1, "ETag": '"x"'}]) == ("InvalidPart", 400)
    assert complete([{"PartNumber": 7, "ETag": parts[0]["ETag"]}]) == ("InvalidPart", 400)
    assert complete(parts, UploadId="0" * 48) == ("NoSuchUpload", 404)
    assert complete(parts, UploadId="../../x") == ("NoSuchUpload", 404)
    assert complete(parts, Key="other") == ("NoSuchUpload", 404)
    assert refused(s3.upload_part, **ask, PartNumber=10_001, Body=b"") == ("InvalidArgument", 400)
    s3.abort_multipart_upload(**ask)
    assert refused(s3.abort_multipart_upload, **ask) == ("NoSuchUpload", 404)
    assert refused(s3.upload_part, **ask, PartNumber=1, Body=b"") == ("NoSuchUpload", 404)


def test_parts_may_be_copied(s3: Any, bucket: str) -> None:
    s3.put_object(Bucket=bucket, Key="source", Body=b"0123456789")
    upload = s3.create_multipart_upload(Bucket=bucket, Key="k")["UploadId"]
    ask = {
        "Bucket": bucket,
        "Key": "k",
        "UploadId": upload,
        "PartNumber": 1,
        "CopySource": f"{bucket}/source",
    }
    assert refused(s3.upload_part_copy, **ask, CopySourceRange="bytes=5-10") == (
        "InvalidArgument",
        400,
    )
    etag = s3.upload_part_copy(**ask, CopySourceRange="bytes=2-5")["CopyPartResult"]["ETag"]
    parts = {"Parts": [{"PartNumber": 1, "ETag": etag}]}
    s3.complete_multipart_upload(Bucket=bucket, Key="k", UploadId=upload, MultipartUpload=parts)
    assert s3.get_object(Bucket=bucket, Key="k")["Body"].read() == b"2345"


def test_the_sdk_transfers_large_files_in_parts_both_ways(s3: Any, bucket: str) -> None:
    body = hashlib.sha256(b"seed").digest() * (17 * 1024 * 1024 // 32)
    config = TransferConfig(multipart_threshold=8 * 1024 * 1024, max_concurrency=4)
    s3.upload_fileobj(io.BytesIO(body), bucket, "big", Config=config)
    found = io.BytesIO()
    s3.download_fileobj(bucket, "big", found, Config=config)
    assert found.getvalue() == body
    s3.copy({"Bucket": bucket, "Key": "big"}, bucket, "copied", Config=config)
    assert s3.head_object(Bucket=bucket, Key="copied")["ContentLength"] == len(body)
