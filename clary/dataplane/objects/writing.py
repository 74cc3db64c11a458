"""PutObject: receive, verify, and give the object its name in one step."""

from __future__ import annotations

from clary.dataplane.objects.checksums import FULL_OBJECT, headers_of, promised
from clary.dataplane.objects.conditions import of_write
from clary.dataplane.objects.metadata_headers import metadata_of, version_header
from clary.dataplane.objects.receiving import INLINE_BYTES_MAX, into_writer
from clary.dataplane.objects.request import Answer, S3Request
from clary.dataplane.objects.service import Service
from clary.store.objects import check_key


async def put_object(service: Service, request: S3Request) -> Answer:
    objects = service.objects
    bucket = request.found or objects.settings.get(request.bucket)
    check_key(request.key)
    metadata = metadata_of(request.headers, bucket)
    condition = of_write(request.headers)
    promise = promised(request.headers)
    with objects.writer(promise.digests) as writer:
        trailers = await into_writer(service, request, writer)
        metadata.checksums = promise.check(writer.md5, trailers)
        metadata.checksum_type = FULL_OBJECT if metadata.checksums else ""
        metadata.etag = writer.etag
        arguments = (request.bucket, request.key, writer, metadata, condition)
        if objects.durable or writer.size > INLINE_BYTES_MAX:
            # A flush, or a rename over a large file, may take the disk's time.
            info = await service.in_thread(objects.commit, *arguments)
        else:
            info = objects.commit(*arguments)
    headers = {
        "etag": f'"{info.etag}"',
        **metadata.encryption,
        **headers_of(metadata.checksums, metadata.checksum_type),
        **version_header(info, bucket),
    }
    return Answer(200, headers)
