"""The tags of objects and of buckets."""

from __future__ import annotations

from clary.dataplane.objects.metadata_headers import check_tags, version_header
from clary.dataplane.objects.reading import open_object
from clary.dataplane.objects.receiving import document as receive_document
from clary.dataplane.objects.request import Answer, S3Request
from clary.dataplane.objects.service import Service
from clary.dataplane.objects.xml import document, malformed, read, text_of
from clary.model.errors import ApiError
from clary.store.objects import ObjectInfo

BUCKET_TAGS_MAX = 50


def get_object_tagging(service: Service, request: S3Request) -> Answer:
    opened = open_object(service, request, request.bucket, request.key, request.version_id)
    opened.close()
    return Answer(200, _version(service, opened.info), _tagging(opened.info.metadata.tags))


async def put_object_tagging(service: Service, request: S3Request) -> Answer:
    tags = check_tags(_pairs(await receive_document(request)))
    info = service.objects.change_metadata(request.bucket, request.key, request.version_id, tags)
    return Answer(200, _version(service, info))


def delete_object_tagging(service: Service, request: S3Request) -> Answer:
    info = service.objects.change_metadata(request.bucket, request.key, request.version_id, {})
    return Answer(204, _version(service, info))


def get_bucket_tagging(service: Service, request: S3Request) -> Answer:
    tags = service.objects.settings.get(request.bucket).tags
    if not tags:
        raise ApiError(
            "The TagSet does not exist",
            code="NoSuchTagSet",
            status=404,
            BucketName=request.bucket,
        )
    return Answer(200, {}, _tagging(tags))


async def put_bucket_tagging(service: Service, request: S3Request) -> Answer:
    tags = check_tags(_pairs(await receive_document(request)), BUCKET_TAGS_MAX)
    service.objects.settings.change(request.bucket, tags=tags)
    return Answer(204)


def delete_bucket_tagging(service: Service, request: S3Request) -> Answer:
    service.objects.settings.change(request.bucket, tags={})
    return Answer(204)


def _version(service: Service, info: ObjectInfo) -> dict[str, str]:
    return version_header(info, service.objects.bucket(info.bucket))


def _tagging(tags: dict[str, str]) -> bytes:
    pairs = [{"Key": key, "Value": value} for key, value in tags.items()]
    return document("Tagging", {"TagSet": {"Tag": pairs}})


def _pairs(body: bytes) -> list[tuple[str, str]]:
    tag_set = read(body, "Tagging").find("TagSet")
    if tag_set is None:
        raise malformed()
    return [(text_of(tag, "Key"), text_of(tag, "Value")) for tag in tag_set.findall("Tag")]
