"""CopyObject and UploadPartCopy."""

from __future__ import annotations

import base64
import re
from dataclasses import dataclass, replace
from urllib.parse import unquote

from clary.dataplane.objects.checksums import (
    ALGORITHMS,
    FULL_OBJECT,
    Algorithm,
    Digest,
)
from clary.dataplane.objects.conditions import check_read, of_write
from clary.dataplane.objects.errors import access_denied, invalid_argument
from clary.dataplane.objects.metadata_headers import metadata_of, tags_of_header, version_header
from clary.dataplane.objects.multipart import part_number, upload_of
from clary.dataplane.objects.reading import open_object
from clary.dataplane.objects.receiving import OBJECT_BYTES_MAX
from clary.dataplane.objects.request import Answer, S3Request
from clary.dataplane.objects.service import Service
from clary.dataplane.objects.xml import document, iso
from clary.model.errors import ApiError
from clary.store.object_metadata import ObjectMetadata
from clary.store.objects import ObjectInfo, OpenObject, check_key

SOURCE_CONDITIONS = "x-amz-copy-source-"
_RANGE = re.compile(r"bytes=(\d{1,19})-(\d{1,19})")


@dataclass(frozen=True, slots=True)
class Source:
    bucket: str
    key: str
    version_id: str


def source_of(request: S3Request) -> Source:
    """What x-amz-copy-source names: [/]bucket/key[?versionId=...], percent-encoded."""
    text = request.headers["x-amz-copy-source"]
    path, _, version_id = text.partition("?versionId=")
    bucket, _, key = unquote(path).removeprefix("/").partition("/")
    if bucket.startswith("arn:") or not bucket or not key:
        message = "Copy Source must mention the source bucket and key: sourcebucket/sourcekey"
        raise invalid_argument(message, "x-amz-copy-source", text)
    return Source(bucket, key, unquote(version_id))


def open_source(service: Service, request: S3Request) -> OpenObject:
    """The source, after its reader's rights and the copy's conditions were checked."""
    source = source_of(request)
    owner = request.header("x-amz-source-expected-bucket-owner")
    if owner and owner != service.account:
        raise access_denied()
    action = "s3:GetObjectVersion" if source.version_id else "s3:GetObject"
    service.authorise(request, action, source.bucket, source.key)
    try:
        opened = open_object(service, request, source.bucket, source.key, source.version_id)
    except ApiError as problem:
        if problem.code != "MethodNotAllowed":
            raise
        message = "The source of a copy request may not specifically refer to a delete marker by version id."
        raise ApiError(message, code="InvalidRequest", status=400) from problem
    try:
        check_read(opened.info, request.headers, SOURCE_CONDITIONS)
    except ApiError:
        opened.close()
        raise
    return opened


async def copy_object(service: Service, request: S3Request) -> Answer:
    return await service.in_thread(_copy_object, service, request)


def _copy_object(service: Service, request: S3Request) -> Answer:
    objects = service.objects
    bucket = objects.settings.get(request.bucket)
    check_key(request.key)
    condition = of_write(request.headers)
    opened = open_source(service, request)
    try:
        source = opened.info
        if source.size > OBJECT_BYTES_MAX:
            message = "The specified copy source is larger than the maximum allowable size for a copy source: 5368709120"  # fmt: skip  # noqa: E501
            raise ApiError(message, code="InvalidRequest", status=400)
        metadata = _metadata(service, request, source)
        algorithm = _algorithm(request, source)
        # The digests of the source are those of the copy; only a multipart source must be hashed anew.
        kept = algorithm is None or algorithm.name in source.metadata.checksums
        hashed = "-" in source.etag or not kept or source.metadata.checksum_type == "COMPOSITE"
        digest = algorithm.start() if algorithm and hashed else None
        with objects.writer([digest] if digest else [], hashed=hashed) as writer:
            writer.copy_from(opened.descriptor, 0, source.size)
            metadata.etag = writer.etag if hashed else source.etag
            metadata.checksums = _checksums(algorithm, digest, source)
            metadata.checksum_type = FULL_OBJECT if metadata.checksums else ""
            info = objects.commit(request.bucket, request.key, writer, metadata, condition)
    finally:
        opened.close()
    headers = {**version_header(info, bucket), **metadata.encryption}
    if source.metadata.version_id:
        headers["x-amz-copy-source-version-id"] = source.version_id
    content = {
        "LastModified": iso(info.modified),
        "ETag": f'"{info.etag}"',
        **{f"Checksum{name}": value for name, value in metadata.checksums.items()},
        "ChecksumType": metadata.checksum_type or None,
    }
    return Answer(200, headers, document("CopyObjectResult", content))


def _algorithm(request: S3Request, source: ObjectInfo) -> Algorithm | None:
    """The checksum that the copy is to have: the one asked for, or the source's."""
    name = request.header("x-amz-checksum-algorithm").upper()
    if name and name not in ALGORITHMS:
        raise invalid_argument("Checksum algorithm provided is unsupported.")
    name = name or next(iter(source.metadata.checksums), "")
    return ALGORITHMS.get(name)


def _checksums(
    algorithm: Algorithm | None, digest: Digest | None, source: ObjectInfo
) -> dict[str, str]:
    if algorithm is None:
        return {}
    if digest is None:
        return dict(source.metadata.checksums)
    return {algorithm.name: base64.b64encode(digest.digest()).decode()}


def _metadata(service: Service, request: S3Request, source: ObjectInfo) -> ObjectMetadata:
    """The copy's metadata: the source's, or the request's where a directive says REPLACE."""
    directive = request.header("x-amz-metadata-directive", "COPY").upper()
    tagging = request.header("x-amz-tagging-directive", "COPY").upper()
    for name, value in (("metadata", directive), ("tagging", tagging)):
        if value not in ("COPY", "REPLACE"):
            raise invalid_argument(f"Unknown {name} directive.", f"x-amz-{name}-directive", value)
    asked = metadata_of(request.headers, service.objects.bucket(request.bucket))
    same = (request.bucket, request.key) == (source.bucket, source.key)
    changed = directive == "REPLACE" or asked.encryption or "x-amz-storage-class" in request.headers
    if same and not changed and not source_of(request).version_id:
        message = (
            "This copy request is illegal because it is trying to copy an object to itself without changing the "
            "object's metadata, storage class, website redirect location or encryption attributes."
        )
        raise ApiError(message, code="InvalidRequest", status=400)
    found = asked
    if directive == "COPY":
        found = replace(
            source.metadata,
            encryption=asked.encryption,
            storage_class=asked.storage_class,
            parts=[],
            upload_id="",
            checksums={},
            checksum_type="",
        )
    tags = tags_of_header(request.header("x-amz-tagging"))
    found.tags = tags if tagging == "REPLACE" else dict(source.metadata.tags)
    return found


async def upload_part_copy(service: Service, request: S3Request) -> Answer:
    return await service.in_thread(_upload_part_copy, service, request)


def _upload_part_copy(service: Service, request: S3Request) -> Answer:
    number = part_number(request)
    upload = upload_of(service, request)
    opened = open_source(service, request)
    try:
        start, length = _source_range(request, opened.info.size)
        algorithm = ALGORITHMS.get(upload.checksum_algorithm)
        digest = algorithm.start() if algorithm else None
        with service.objects.writer([digest] if digest else []) as writer:
            writer.copy_from(opened.descriptor, start, length)
            checksums = _checksums(algorithm, digest, opened.info) if digest else {}
            part = service.multipart.put_part(upload, number, writer, checksums)
    finally:
        opened.close()
    headers: dict[str, str] = {}
    if opened.info.metadata.version_id:
        headers["x-amz-copy-source-version-id"] = opened.info.version_id
    content = {
        "LastModified": iso(part.modified),
        "ETag": f'"{part.etag}"',
        **{f"Checksum{name}": value for name, value in checksums.items()},
    }
    return Answer(200, headers, document("CopyPartResult", content))


def _source_range(request: S3Request, size: int) -> tuple[int, int]:
    text = request.header("x-amz-copy-source-range")
    if not text:
        return 0, size
    found = _RANGE.fullmatch(text)
    if not found or int(found[1]) > int(found[2]):
        message = (
            "The x-amz-copy-source-range value must be of the form bytes=first-last where first and last are the "
            "zero-based offsets of the first and last bytes to copy"
        )
        raise invalid_argument(message, "x-amz-copy-source-range", text)
    start, end = int(found[1]), int(found[2])
    if end >= size:
        message = f"Range specified is not valid for source object of size: {size}"
        raise invalid_argument(message, "x-amz-copy-source-range", text)
    if end + 1 - start > OBJECT_BYTES_MAX:
        message = "The specified copy range is larger than the maximum allowable size"
        raise ApiError(message, code="InvalidRequest", status=400)
    return start, end + 1 - start
