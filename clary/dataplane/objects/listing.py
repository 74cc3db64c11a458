"""ListObjects, ListObjectsV2 and ListObjectVersions."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Callable
from urllib.parse import quote

from clary.dataplane.objects.errors import invalid_argument
from clary.dataplane.objects.request import Answer, S3Request
from clary.dataplane.objects.service import Service
from clary.dataplane.objects.xml import document, iso
from clary.store.object_history import HistoryEntry, list_versions
from clary.store.object_tree import LAST
from clary.store.objects import PAGE_MAX, ObjectInfo, Page

Encode = Callable[[str], str]


def list_objects(service: Service, request: S3Request) -> Answer:
    query = request.query
    prefix, delimiter, limit = _parameters(request)
    marker = query.get("marker", "")
    # A marker that is a common prefix, as NextMarker may be, stands for all keys under it.
    after = marker + LAST if delimiter and marker.endswith(delimiter) else marker
    page = _page(service, request, prefix, after, limit, delimiter)
    encode, encoding = _encoding(query)
    content: dict[str, object] = {
        "Name": request.bucket,
        "Prefix": encode(prefix),
        "Marker": encode(marker),
        "NextMarker": encode(page.next_after.removesuffix(LAST)) if page.next_after else None,
        "MaxKeys": limit,
        "Delimiter": encode(delimiter) if delimiter else None,
        "EncodingType": encoding,
        "IsTruncated": bool(page.next_after),
        **_contents(service, page, encode, owner=True),
    }
    return Answer(200, {"x-amz-bucket-region": _region(service, request)}, document("ListBucketResult", content))  # fmt: skip  # noqa: E501


def list_objects_v2(service: Service, request: S3Request) -> Answer:
    query = request.query
    prefix, delimiter, limit = _parameters(request)
    start_after, token = query.get("start-after", ""), query.get("continuation-token")
    after = start_after if token is None else _from_token(token)
    page = _page(service, request, prefix, after, limit, delimiter)
    encode, encoding = _encoding(query)
    content: dict[str, object] = {
        "Name": request.bucket,
        "Prefix": encode(prefix),
        "StartAfter": encode(start_after) if start_after else None,
        "ContinuationToken": token,
        "NextContinuationToken": _token(page.next_after) if page.next_after else None,
        "KeyCount": len(page.objects) + len(page.prefixes),
        "MaxKeys": limit,
        "Delimiter": encode(delimiter) if delimiter else None,
        "EncodingType": encoding,
        "IsTruncated": bool(page.next_after),
        **_contents(service, page, encode, owner=query.get("fetch-owner") == "true"),
    }
    return Answer(200, {"x-amz-bucket-region": _region(service, request)}, document("ListBucketResult", content))  # fmt: skip  # noqa: E501


def _page(
    service: Service, request: S3Request, prefix: str, after: str, limit: int, delimiter: str
) -> Page:
    if limit == 0:
        service.objects.settings.get(request.bucket)
        return Page([], [])
    return service.objects.list(request.bucket, prefix, after, limit, delimiter)


def _region(service: Service, request: S3Request) -> str:
    return service.objects.settings.get(request.bucket).region


def _parameters(request: S3Request) -> tuple[str, str, int]:
    text = request.query.get("max-keys", str(PAGE_MAX))
    if not text.isascii() or not text.isdigit() or int(text) > 2**31 - 1:
        message = "Argument maxKeys must be an integer between 0 and 2147483647"
        raise invalid_argument(message, "maxKeys", text)
    limit = min(int(text), PAGE_MAX)
    return request.query.get("prefix", ""), request.query.get("delimiter", ""), limit


def _encoding(query: dict[str, str]) -> tuple[Encode, str | None]:
    encoding = query.get("encoding-type")
    if encoding is None:
        return str, None
    if encoding != "url":
        message = "Invalid Encoding Method specified in Request"
        raise invalid_argument(message, "encoding-type", encoding)
    return _url, "url"


def _url(text: str) -> str:
    return quote(text, safe="/-_.~*")


def _token(after: str) -> str:
    return base64.urlsafe_b64encode(after.encode()).decode()


def _from_token(token: str) -> str:
    try:
        found = base64.urlsafe_b64decode(token).decode()
    except (binascii.Error, ValueError):
        found = ""
    if not found:
        message = "The continuation token provided is incorrect"
        raise invalid_argument(message, "continuation-token", token)
    return found


def _contents(service: Service, page: Page, encode: Encode, *, owner: bool) -> dict[str, object]:
    who = owner_of(service) if owner else None
    return {
        "Contents": [
            {**_described(info, encode(info.key)), **({"Owner": who} if who else {})}
            for info in page.objects
        ],
        "CommonPrefixes": [{"Prefix": encode(prefix)} for prefix in page.prefixes],
    }


def owner_of(service: Service) -> dict[str, str]:
    return {"ID": canonical_id(service.account), "DisplayName": service.account}


def canonical_id(account: str) -> str:
    """A canonical user id, in form: 64 hexadecimal digits that stand for the account."""
    return account.encode().hex().ljust(64, "0")[:64]


def _described(info: ObjectInfo, key: str) -> dict[str, object]:
    found: dict[str, object] = {
        "Key": key,
        "LastModified": iso(info.modified),
        "ETag": f'"{info.etag}"',
        "Size": info.size,
        "StorageClass": info.metadata.storage_class,
    }
    if info.metadata.checksums:
        found["ChecksumAlgorithm"] = list(info.metadata.checksums)
        found["ChecksumType"] = info.metadata.checksum_type or "FULL_OBJECT"
    return found


def list_object_versions(service: Service, request: S3Request) -> Answer:
    query = request.query
    prefix, delimiter, limit = _parameters(request)
    marker, version_marker = query.get("key-marker", ""), query.get("version-id-marker", "")
    if version_marker and not marker:
        message = "A version-id marker cannot be specified without a key marker."
        raise invalid_argument(message, "version-id-marker", version_marker)
    after = marker + LAST if delimiter and marker.endswith(delimiter) else marker
    page = list_versions(
        service.objects, request.bucket, prefix, after, version_marker, max(limit, 1), delimiter
    )
    encode, encoding = _encoding(query)
    truncated = bool(page.next_key)
    content = {
        "Name": request.bucket,
        "Prefix": encode(prefix),
        "KeyMarker": encode(marker),
        "VersionIdMarker": version_marker,
        "NextKeyMarker": encode(page.next_key.removesuffix(LAST)) if truncated else None,
        "NextVersionIdMarker": page.next_version or None,
        "MaxKeys": limit,
        "Delimiter": encode(delimiter) if delimiter else None,
        "EncodingType": encoding,
        "IsTruncated": truncated,
        "Version": [_version(service, e, encode) for e in page.entries if not _marks(e)],
        "DeleteMarker": [_version(service, e, encode) for e in page.entries if _marks(e)],
        "CommonPrefixes": [{"Prefix": encode(found)} for found in page.prefixes],
    }
    return Answer(200, {}, document("ListVersionsResult", content))


def _marks(entry: HistoryEntry) -> bool:
    return entry.info.metadata.delete_marker


def _version(service: Service, entry: HistoryEntry, encode: Encode) -> dict[str, object]:
    info = entry.info
    if _marks(entry):
        found: dict[str, object] = {"Key": encode(info.key), "LastModified": iso(info.modified)}
    else:
        found = _described(info, encode(info.key))
    return {
        **found,
        "VersionId": info.version_id,
        "IsLatest": entry.latest,
        "Owner": owner_of(service),
    }
