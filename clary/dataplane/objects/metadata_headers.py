"""An object's metadata as request headers give it, and as answers show it."""

from __future__ import annotations

from collections.abc import Mapping
from urllib.parse import parse_qsl

from clary.dataplane.objects.checksums import headers_of
from clary.dataplane.objects.conditions import http_date
from clary.dataplane.objects.errors import invalid_argument, not_implemented
from clary.model.errors import ApiError
from clary.store.object_buckets import Bucket
from clary.store.object_metadata import DEFAULT_TYPE, ObjectMetadata
from clary.store.objects import ObjectInfo

USER = "x-amz-meta-"
USER_BYTES_MAX = 2048
TAGS_MAX = 10
STORED = (
    "cache-control",
    "content-disposition",
    "content-encoding",
    "content-language",
    "expires",
    "x-amz-website-redirect-location",
)
OVERRIDES = (
    "cache-control",
    "content-disposition",
    "content-encoding",
    "content-language",
    "content-type",
    "expires",
)
ENCRYPTION = "x-amz-server-side-encryption"
ENCRYPTIONS = ("AES256", "aws:kms", "aws:kms:dsse")
STORAGE_CLASSES = (
    "STANDARD",
    "REDUCED_REDUNDANCY",
    "STANDARD_IA",
    "ONEZONE_IA",
    "INTELLIGENT_TIERING",
    "GLACIER",
    "DEEP_ARCHIVE",
    "GLACIER_IR",
)
PRIVATE_ACLS = ("", "private", "bucket-owner-full-control", "bucket-owner-read")


def metadata_of(headers: Mapping[str, str], bucket: Bucket | None) -> ObjectMetadata:
    """What a PUT, a copy that replaces metadata or CreateMultipartUpload says of the object to be."""
    check_acl(headers)
    metadata = ObjectMetadata(
        content_type=headers.get("content-type") or DEFAULT_TYPE,
        headers={name: headers[name] for name in STORED if headers.get(name)},
        user={name[len(USER) :]: v for name, v in headers.items() if name.startswith(USER)},
        tags=tags_of_header(headers.get("x-amz-tagging", "")),
        storage_class=storage_class(headers),
        encryption=encryption_of(headers, bucket),
    )
    encodings = metadata.headers.get("content-encoding", "")
    if "aws-chunked" in encodings:
        # The transfer's own encoding is not the object's.
        kept = [word.strip() for word in encodings.split(",") if word.strip() != "aws-chunked"]
        metadata.headers.pop("content-encoding")
        if any(kept):
            metadata.headers["content-encoding"] = ",".join(filter(None, kept))
    size = sum(len(k) + len(v.encode("latin-1", "replace")) for k, v in metadata.user.items())
    if size > USER_BYTES_MAX:
        raise ApiError(
            "Your metadata headers exceed the maximum allowed metadata size",
            code="MetadataTooLarge",
            status=400,
            Size=str(size),
            MaxSizeAllowed=str(USER_BYTES_MAX),
        )
    return metadata


def check_acl(headers: Mapping[str, str]) -> None:
    grants = any(name.startswith("x-amz-grant-") for name in headers)
    if grants or headers.get("x-amz-acl", "") not in PRIVATE_ACLS:
        raise ApiError(
            "The bucket does not allow ACLs", code="AccessControlListNotSupported", status=400
        )


def storage_class(headers: Mapping[str, str]) -> str:
    found = headers.get("x-amz-storage-class", "STANDARD")
    if found not in STORAGE_CLASSES:
        message = "The storage class you specified is not valid"
        raise ApiError(message, code="InvalidStorageClass", status=400)
    return found


def encryption_of(headers: Mapping[str, str], bucket: Bucket | None) -> dict[str, str]:
    """The encryption that the request, or else the bucket's default, asks for; recorded, not performed."""
    if any(name.startswith(f"{ENCRYPTION}-customer") for name in headers):
        raise not_implemented("server-side encryption with customer keys (SSE-C)")
    algorithm = headers.get(ENCRYPTION, "")
    if algorithm and algorithm not in ENCRYPTIONS:
        raise invalid_argument("The encryption method specified is not supported", ENCRYPTION, algorithm)  # fmt: skip
    key = headers.get(f"{ENCRYPTION}-aws-kms-key-id", "")
    if key and not algorithm.startswith("aws:kms"):
        message = "Server Side Encryption with AWS KMS managed key requires HTTP header x-amz-server-side-encryption : aws:kms"  # fmt: skip  # noqa: E501
        raise invalid_argument(message)
    found = {ENCRYPTION: algorithm} if algorithm else {}
    for name in (f"{ENCRYPTION}-aws-kms-key-id", f"{ENCRYPTION}-bucket-key-enabled"):
        if headers.get(name):
            found[name] = headers[name]
    default = bucket.documents.get("encryption", "") if bucket else ""
    if not found and "<SSEAlgorithm>aws:kms" in default:
        found = {ENCRYPTION: "aws:kms"}
    return found


def tags_of_header(text: str) -> dict[str, str]:
    if not text:
        return {}
    return check_tags(parse_qsl(text, keep_blank_values=True))


def check_tags(pairs: list[tuple[str, str]], limit: int = TAGS_MAX) -> dict[str, str]:
    """Tags as a dictionary; raise what S3 says of too many, of doubles and of long ones."""
    tags = dict(pairs)
    if len(tags) != len(pairs):
        raise _invalid_tag("Cannot provide multiple Tags with the same key")
    if len(tags) > limit:
        name = "Object" if limit == TAGS_MAX else "Bucket"
        message = f"{name} tags cannot be greater than {limit}"
        raise ApiError(message, code="BadRequest", status=400)
    for key, value in tags.items():
        if not 0 < len(key) <= 128:
            raise _invalid_tag("The TagKey you have provided is invalid")
        if len(value) > 256:
            raise _invalid_tag("The TagValue you have provided is invalid")
    return tags


def _invalid_tag(message: str) -> ApiError:
    return ApiError(message, code="InvalidTag", status=400)


def version_header(info: ObjectInfo, bucket: Bucket | None) -> dict[str, str]:
    """x-amz-version-id, which exists once a bucket has had versions."""
    if info.metadata.version_id or (bucket and bucket.versioning):
        return {"x-amz-version-id": info.version_id}
    return {}


def answer_headers(info: ObjectInfo, *, checksums: bool) -> dict[str, str]:
    """The headers of a GET or HEAD answer, but for its length and range."""
    metadata = info.metadata
    headers = {
        "last-modified": http_date(info.modified_ns // 1_000_000_000),
        "etag": f'"{metadata.etag}"',
        "accept-ranges": "bytes",
        "content-type": metadata.content_type,
    }
    if metadata.headers:
        headers.update(metadata.headers)
    if metadata.encryption:
        headers.update(metadata.encryption)
    for name, value in metadata.user.items():
        headers[USER + name] = value
    if metadata.version_id:
        headers["x-amz-version-id"] = metadata.version_id
    if metadata.storage_class != "STANDARD":
        headers["x-amz-storage-class"] = metadata.storage_class
    if metadata.tags:
        headers["x-amz-tagging-count"] = str(len(metadata.tags))
    if checksums:
        headers.update(headers_of(metadata.checksums, metadata.checksum_type))
    return headers
