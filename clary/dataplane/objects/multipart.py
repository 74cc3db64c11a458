"""Multipart uploads: create, upload parts, complete, abort, and the two lists."""

from __future__ import annotations

from typing import Any
from xml.etree.ElementTree import Element

from clary.dataplane.objects.checksums import (
    ALGORITHMS,
    headers_of,
    joined,
    promised,
    upload_algorithm,
)
from clary.dataplane.objects.conditions import of_write
from clary.dataplane.objects.errors import invalid_argument
from clary.dataplane.objects.listing import canonical_id, owner_of
from clary.dataplane.objects.metadata_headers import metadata_of, version_header
from clary.dataplane.objects.receiving import document as receive_document
from clary.dataplane.objects.receiving import into_writer
from clary.dataplane.objects.request import Answer, S3Request
from clary.dataplane.objects.service import Service
from clary.dataplane.objects.xml import document, iso, malformed, read, text_of
from clary.model.errors import ApiError
from clary.store.object_multipart import PART_NUMBER_MAX, Part, Upload, WantedPart
from clary.store.objects import ObjectInfo

PAGE_MAX = 1000


def create_multipart_upload(service: Service, request: S3Request) -> Answer:
    bucket = service.objects.settings.get(request.bucket)
    metadata = metadata_of(request.headers, bucket)
    algorithm, kind = upload_algorithm(request.headers)
    upload = service.multipart.create(
        request.bucket,
        request.key,
        metadata,
        initiator=request.principal.arn,
        checksum_algorithm=algorithm,
        checksum_type=kind,
    )
    headers = dict(metadata.encryption)
    if algorithm:
        headers["x-amz-checksum-algorithm"] = algorithm
        headers["x-amz-checksum-type"] = kind
    content = {"Bucket": request.bucket, "Key": request.key, "UploadId": upload.upload_id}
    return Answer(200, headers, document("InitiateMultipartUploadResult", content))


def part_number(request: S3Request) -> int:
    text = request.query.get("partNumber", "")
    if not text.isascii() or not text.isdigit() or not 1 <= int(text[:9]) <= PART_NUMBER_MAX:
        message = "Part number must be an integer between 1 and 10000, inclusive"
        raise invalid_argument(message, "partNumber", text)
    return int(text)


def upload_of(service: Service, request: S3Request) -> Upload:
    return service.multipart.get(request.bucket, request.key, request.query.get("uploadId", ""))


async def upload_part(service: Service, request: S3Request) -> Answer:
    number = part_number(request)
    upload = upload_of(service, request)
    promise = promised(request.headers, upload.checksum_algorithm)
    if upload.checksum_algorithm and promise.algorithm != ALGORITHMS[upload.checksum_algorithm]:
        found = promise.algorithm.name.lower() if promise.algorithm else "null"
        message = (
            f"Checksum Type mismatch occurred, expected checksum Type: {upload.checksum_algorithm.lower()}, "
            f"actual checksum Type: {found}"
        )
        raise ApiError(message, code="InvalidRequest", status=400)
    with service.objects.writer(promise.digests) as writer:
        trailers = await into_writer(service, request, writer)
        checksums = promise.check(writer.md5, trailers)
        part = service.multipart.put_part(upload, number, writer, checksums)
    headers = {"etag": f'"{part.etag}"', **headers_of(checksums, "")}
    headers.pop("x-amz-checksum-type", None)
    return Answer(200, {**headers, **encryption(upload)})


def encryption(upload: Upload) -> dict[str, str]:
    found: Any = upload.metadata.get("encryption", {})
    return dict(found)


async def complete_multipart_upload(service: Service, request: S3Request) -> Answer:
    body = await receive_document_without_checksum(request)
    return await service.in_thread(_complete, service, request, body)


async def receive_document_without_checksum(request: S3Request) -> bytes:
    """x-amz-checksum-* of this request speak of the object, not of its own body."""
    headers = request.headers
    request.headers = {k: v for k, v in headers.items() if not k.startswith("x-amz-checksum-")}
    try:
        return await receive_document(request)
    finally:
        request.headers = headers


def _complete(service: Service, request: S3Request, body: bytes) -> Answer:
    condition = of_write(request.headers)
    wanted = [_wanted(element) for element in read(body, "CompleteMultipartUpload").findall("Part")]
    if not 0 < len(wanted) <= PART_NUMBER_MAX:
        raise malformed()
    try:
        upload = upload_of(service, request)
        chosen = service.multipart.choose(upload, wanted)
        checksums = _joined(upload, chosen)
        _check_promises(request, upload, chosen, checksums)
        info = service.multipart.complete(upload, chosen, checksums, condition)
    except ApiError as problem:
        known = service.objects.head(request.bucket, request.key)
        done = known and known.metadata.upload_id == request.query.get("uploadId")
        if problem.code != "NoSuchUpload" or not known or not done:
            raise
        info = known  # the client asks again because the first answer was lost
    return _completed(service, request, info)


def _completed(service: Service, request: S3Request, info: ObjectInfo) -> Answer:
    location = f"http://{request.header('host', 'localhost')}{request.wire.path}"
    content = {
        "Location": location,
        "Bucket": info.bucket,
        "Key": info.key,
        "ETag": f'"{info.etag}"',
        **{f"Checksum{name}": value for name, value in info.metadata.checksums.items()},
        "ChecksumType": info.metadata.checksum_type or None,
    }
    headers = {
        **info.metadata.encryption,
        **version_header(info, service.objects.bucket(info.bucket)),
    }
    return Answer(200, headers, document("CompleteMultipartUploadResult", content))


def _wanted(element: Element) -> WantedPart:
    text = text_of(element, "PartNumber").strip()
    if not text.isascii() or not text.isdigit() or len(text) > 5:
        raise malformed()
    checksums = {
        name: value for name in ALGORITHMS if (value := text_of(element, f"Checksum{name}"))
    }
    return WantedPart(int(text), text_of(element, "ETag").strip().strip('"'), checksums)


def _joined(upload: Upload, chosen: list[Part]) -> dict[str, str]:
    name = upload.checksum_algorithm
    if not name:
        return {}
    parts = [(part.size, part.checksums.get(name, "")) for part in chosen]
    value = joined(name, upload.checksum_type, parts)
    return {name: value} if value else {}


def _check_promises(
    request: S3Request, upload: Upload, chosen: list[Part], checksums: dict[str, str]
) -> None:
    """The whole object's size and checksum, where the client named them."""
    size = request.header("x-amz-mp-object-size")
    if size and size != str(sum(part.size for part in chosen)):
        message = (
            f"The provided 'x-amz-mp-object-size' header value {size} does not match what was computed: "
            f"{sum(part.size for part in chosen)}"
        )
        raise ApiError(message, code="InvalidRequest", status=400)
    promised_value = request.header(f"x-amz-checksum-{upload.checksum_algorithm.lower()}")
    if not upload.checksum_algorithm or not promised_value:
        return
    computed = checksums.get(upload.checksum_algorithm, "")
    if promised_value not in (computed, computed.partition("-")[0]):
        raise ApiError(
            f"The {upload.checksum_algorithm} you specified did not match the calculated checksum.",
            code="BadDigest",
            status=400,
        )


def abort_multipart_upload(service: Service, request: S3Request) -> Answer:
    upload_id = request.query.get("uploadId", "")
    service.multipart.abort(request.bucket, request.key, upload_id)
    return Answer(204)


def list_parts(service: Service, request: S3Request) -> Answer:
    upload = upload_of(service, request)
    limit = _number(request, "max-parts", PAGE_MAX)
    marker = _number(request, "part-number-marker", 0)
    later = [part for part in service.multipart.parts(upload) if part.number > marker]
    page = later[:limit]
    truncated = len(later) > len(page)
    content = {
        "Bucket": request.bucket,
        "Key": request.key,
        "UploadId": upload.upload_id,
        "Initiator": {"ID": upload.initiator, "DisplayName": upload.initiator},
        "Owner": owner_of(service),
        "StorageClass": upload.metadata.get("storage_class", "STANDARD"),
        "PartNumberMarker": marker,
        "NextPartNumberMarker": page[-1].number if page else marker,
        "MaxParts": limit,
        "IsTruncated": truncated,
        "ChecksumAlgorithm": upload.checksum_algorithm or None,
        "ChecksumType": upload.checksum_type or None,
        "Part": [
            {
                "PartNumber": part.number,
                "LastModified": iso(part.modified),
                "ETag": f'"{part.etag}"',
                "Size": part.size,
                **{f"Checksum{name}": value for name, value in part.checksums.items()},
            }
            for part in page
        ],
    }
    return Answer(200, {}, document("ListPartsResult", content))


def _number(request: S3Request, name: str, default: int) -> int:
    text = request.query.get(name, "") or str(default)
    if not text.isascii() or not text.isdigit() or len(text) > 9:
        raise invalid_argument(
            f"Provided {name} not an integer or within integer range", name, text
        )
    return min(int(text), PAGE_MAX) if default else int(text)


def list_multipart_uploads(service: Service, request: S3Request) -> Answer:
    query = request.query
    prefix, delimiter = query.get("prefix", ""), query.get("delimiter", "")
    marker = (query.get("key-marker", ""), query.get("upload-id-marker", ""))
    limit = _number(request, "max-uploads", PAGE_MAX)
    page: list[Upload] = []
    prefixes: list[str] = []
    truncated = False
    for upload in service.multipart.every(request.bucket):
        if not upload.key.startswith(prefix) or not _after(upload, marker):
            continue
        end = upload.key.find(delimiter, len(prefix)) if delimiter else -1
        rolled = upload.key[: end + len(delimiter)] if end >= 0 else ""
        if rolled and rolled in prefixes:
            continue
        if len(page) + len(prefixes) >= limit:
            truncated = True
            break
        if rolled:
            prefixes.append(rolled)
        else:
            page.append(upload)
    content = {
        "Bucket": request.bucket,
        "KeyMarker": marker[0],
        "UploadIdMarker": marker[1],
        "NextKeyMarker": page[-1].key if truncated and page else None,
        "NextUploadIdMarker": page[-1].upload_id if truncated and page else None,
        "Prefix": prefix,
        "Delimiter": delimiter or None,
        "MaxUploads": limit,
        "IsTruncated": truncated,
        "Upload": [_upload(service, upload) for upload in page],
        "CommonPrefixes": [{"Prefix": found} for found in prefixes],
    }
    return Answer(200, {}, document("ListMultipartUploadsResult", content))


def _after(upload: Upload, marker: tuple[str, str]) -> bool:
    key, upload_id = marker
    if upload.key == key and upload_id:
        return upload.upload_id > upload_id
    return upload.key > key


def _upload(service: Service, upload: Upload) -> dict[str, object]:
    return {
        "Key": upload.key,
        "UploadId": upload.upload_id,
        "Initiator": {"ID": canonical_id(service.account), "DisplayName": upload.initiator},
        "Owner": owner_of(service),
        "StorageClass": upload.metadata.get("storage_class", "STANDARD"),
        "Initiated": iso(upload.initiated),
        "ChecksumAlgorithm": upload.checksum_algorithm or None,
        "ChecksumType": upload.checksum_type or None,
    }
