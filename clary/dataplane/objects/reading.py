"""GetObject, HeadObject and GetObjectAttributes."""

from __future__ import annotations

import os
import re
from urllib.parse import quote

from clary.dataplane.objects.checksums import FULL_OBJECT, headers_of
from clary.dataplane.objects.conditions import check_read, http_date
from clary.dataplane.objects.errors import HEADERS, access_denied, invalid_argument
from clary.dataplane.objects.metadata_headers import OVERRIDES, answer_headers, version_header
from clary.dataplane.objects.request import Answer, S3Request
from clary.dataplane.objects.service import Service
from clary.dataplane.objects.xml import document
from clary.model.errors import ApiError
from clary.store.objects import ObjectInfo, OpenObject, no_such_key, no_such_version

INLINE_BYTES_MAX = 256 * 1024
# Asked for by the runner of a job on this machine, which then reads on from the object's own file.
FILE_HEADER = "x-clary-file"
_RANGE = re.compile(r"bytes=(\d{0,19})-(\d{0,19})")


def open_object(
    service: Service, request: S3Request, bucket: str, key: str, version_id: str
) -> OpenObject:
    """The object that a reader asks for; raise NoSuchKey, NoSuchVersion or MethodNotAllowed."""
    opened = service.objects.get(bucket, key, version_id)
    if opened is None:
        raise _missing(service, request, bucket, key, version_id)
    if opened.info.metadata.delete_marker:
        opened.close()
        headers = {
            "x-amz-delete-marker": "true",
            "x-amz-version-id": opened.info.version_id,
            "allow": "DELETE",
            "last-modified": http_date(int(opened.info.modified)),
        }
        raise ApiError(
            "The specified method is not allowed against this resource.",
            code="MethodNotAllowed",
            status=405,
            Method=request.method,
            ResourceType="DeleteMarker",
            **{HEADERS: headers},
        )
    return opened


def _missing(
    service: Service, request: S3Request, bucket: str, key: str, version_id: str
) -> ApiError:
    """Only who may list the bucket learns that a key is not there."""
    if not service.may(request, "s3:ListBucket", bucket):
        return access_denied()
    if version_id:
        return no_such_version(key, version_id)
    problem = no_such_key(key)
    found = service.objects.bucket(bucket)
    marker = service.objects.latest_marker(bucket, key) if found and found.versioning else None
    if marker:
        problem.members[HEADERS] = {
            "x-amz-delete-marker": "true",
            "x-amz-version-id": marker.version_id,
        }
    return problem


def get_object(service: Service, request: S3Request) -> Answer:
    opened = open_object(service, request, request.bucket, request.key, request.version_id)
    try:
        answer = head_of(request, opened.info)
        if FILE_HEADER in request.headers and request.wire.peer.startswith("127."):
            answer.headers[FILE_HEADER] = _file_of(opened)
        if request.method == "HEAD" or answer.length == 0:
            opened.close()
        elif answer.length <= INLINE_BYTES_MAX:
            answer.body = os.pread(opened.descriptor, answer.length, answer.start)
            opened.close()
        else:
            answer.descriptor = opened.descriptor
        return answer
    except BaseException:
        opened.close()
        raise


def _file_of(opened: OpenObject) -> str:
    """The object's file, with what proves that it is still the one that was opened."""
    about = os.fstat(opened.descriptor)
    return f"{about.st_ino} {about.st_mtime_ns} {quote(os.fsencode(opened.info.path))}"


def head_of(request: S3Request, info: ObjectInfo) -> Answer:
    """Status, headers and the range of bytes, for GET and HEAD alike."""
    check_read(info, request.headers)
    whole = "range" not in request.headers and "partNumber" not in request.query
    checksums = request.header("x-amz-checksum-mode").upper() == "ENABLED"
    headers = answer_headers(info, checksums=checksums and whole)
    if not info.metadata.version_id:
        headers.update(version_header(info, request.found))
    answer = Answer(200, headers, start=0, length=info.size)
    if "partNumber" in request.query:
        _narrow_to_part(answer, request, info, checksums=checksums)
    elif not whole:
        _narrow_to_range(answer, request.headers["range"], info.size)
    if request.query:
        _override(answer, request)
    headers["content-length"] = str(answer.length)
    return answer


def _narrow_to_range(answer: Answer, text: str, size: int) -> None:
    found = _RANGE.fullmatch(text.replace(" ", ""))
    if not found or found.groups() == ("", ""):
        return  # what is not one byte range is ignored
    first, last = found.groups()
    if first:
        start, end = int(first), min(int(last) if last else size - 1, size - 1)
        if last and int(last) < start:
            return
    else:
        start, end = max(size - int(last), 0), size - 1
    if start >= size or (not first and int(last) == 0):
        raise ApiError(
            "The requested range is not satisfiable",
            code="InvalidRange",
            status=416,
            RangeRequested=text,
            ActualObjectSize=str(size),
            **{HEADERS: {"content-range": f"bytes */{size}"}},
        )
    _partial(answer, start, end + 1 - start, size)


def _partial(answer: Answer, start: int, length: int, size: int) -> None:
    answer.status = 206
    answer.start, answer.length = start, length
    if length:
        answer.headers["content-range"] = f"bytes {start}-{start + length - 1}/{size}"


def _narrow_to_part(
    answer: Answer, request: S3Request, info: ObjectInfo, *, checksums: bool
) -> None:
    text = request.query["partNumber"]
    if "range" in request.headers:
        message = "Cannot specify both Range header and partNumber query parameter"
        raise ApiError(message, code="InvalidRequest", status=400)
    if not text.isdigit() or not 1 <= int(text) <= 10_000:
        message = "Part number must be an integer between 1 and 10000, inclusive"
        raise invalid_argument(message, "partNumber", text)
    number, parts = int(text), info.metadata.parts or [(info.size, info.metadata.checksums)]
    if number > len(parts):
        raise ApiError(
            "The requested partnumber is not satisfiable",
            code="InvalidPartNumber",
            status=416,
            ActualPartCount=str(len(parts)),
            PartNumberRequested=text,
        )
    start = sum(size for size, _ in parts[: number - 1])
    size, kept = parts[number - 1]
    _partial(answer, start, size, info.size)
    if info.metadata.parts:
        answer.headers["x-amz-mp-parts-count"] = str(len(parts))
    if checksums:
        answer.headers.update(headers_of(kept, FULL_OBJECT))


def _override(answer: Answer, request: S3Request) -> None:
    for name in OVERRIDES:
        value = request.query.get(f"response-{name}")
        if value is None:
            continue
        if request.caller is None:
            message = "Request specific response headers cannot be used for anonymous GET requests."
            raise ApiError(message, code="InvalidRequest", status=400)
        if "\r" in value or "\n" in value or not value.isprintable():
            raise invalid_argument("The header value is not valid.", f"response-{name}", value)
        answer.headers[name] = value


def get_object_attributes(service: Service, request: S3Request) -> Answer:
    wanted = [word.strip() for word in request.header("x-amz-object-attributes").split(",")]
    known = {"ETag", "Checksum", "ObjectParts", "StorageClass", "ObjectSize"}
    if not set(wanted) <= known:
        raise invalid_argument("Invalid attribute name specified.", "x-amz-object-attributes")
    opened = open_object(service, request, request.bucket, request.key, request.version_id)
    opened.close()
    info = opened.info
    metadata = info.metadata
    content: dict[str, object] = {}
    if "ETag" in wanted:
        content["ETag"] = info.etag
    if "Checksum" in wanted and metadata.checksums:
        content["Checksum"] = {
            **{f"Checksum{name}": value for name, value in metadata.checksums.items()},
            "ChecksumType": metadata.checksum_type or FULL_OBJECT,
        }
    if "ObjectParts" in wanted and metadata.parts:
        content["ObjectParts"] = _object_parts(request, info)
    if "StorageClass" in wanted:
        content["StorageClass"] = metadata.storage_class
    if "ObjectSize" in wanted:
        content["ObjectSize"] = info.size
    headers = {
        "last-modified": http_date(int(info.modified)),
        **version_header(info, request.found),
    }
    return Answer(200, headers, document("GetObjectAttributesResponse", content))


def _object_parts(request: S3Request, info: ObjectInfo) -> dict[str, object]:
    marker = int(request.header("x-amz-part-number-marker") or 0)
    limit = min(int(request.header("x-amz-max-parts") or 1000), 1000)
    parts = list(enumerate(info.metadata.parts, 1))
    page = [(number, part) for number, part in parts if number > marker][:limit]
    last = page[-1][0] if page else marker
    return {
        "PartsCount": len(parts),
        "PartNumberMarker": marker,
        "NextPartNumberMarker": last,
        "MaxParts": limit,
        "IsTruncated": last < len(parts),
        "Part": [
            {
                "PartNumber": number,
                "Size": size,
                **{f"Checksum{name}": value for name, value in kept.items()},
            }
            for number, (size, kept) in page
            if kept
        ],
    }
