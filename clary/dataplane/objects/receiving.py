"""Receiving the body of an upload: into a writer, a few MiB at a time, or a small document into memory."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Mapping

from clary.dataplane.bodies import ClientGone
from clary.dataplane.objects.checksums import Promise, promised
from clary.dataplane.objects.request import S3Request
from clary.dataplane.objects.service import Service
from clary.model.errors import ApiError
from clary.store.object_writer import ObjectWriter
from clary.wire.chunked import Body, body_of
from clary.wire.sigv4 import UNSIGNED_PAYLOAD

DOCUMENT_BYTES_MAX = 2 * 1024 * 1024
OBJECT_BYTES_MAX = 5 * 1024**3  # of one PUT or one part
INLINE_BYTES_MAX = 256 * 1024  # smaller bodies are written at once: a thread would cost more
BATCH_BYTES = 1024 * 1024  # handed to the writing thread at a time, while the next is received


def decoder(request: S3Request) -> Body:
    caller = request.caller
    encoding = request.header("content-encoding")
    return body_of(
        caller.payload if caller else UNSIGNED_PAYLOAD,
        request.header("x-amz-decoded-content-length"),
        caller.signer if caller else None,
        chunked="aws-chunked" in encoding,
    )


def declared_length(request: S3Request) -> int | None:
    """How many bytes the object has, as far as the head tells; raise EntityTooLarge at once."""
    text = request.header("x-amz-decoded-content-length") or request.header("content-length")
    if not text.isdigit():
        if request.header("transfer-encoding"):
            return None
        message = "You must provide the Content-Length HTTP header."
        raise ApiError(message, code="MissingContentLength", status=411)
    if int(text) > OBJECT_BYTES_MAX:
        raise _too_large(int(text))
    return int(text)


def _too_large(size: int) -> ApiError:
    return ApiError(
        "Your proposed upload exceeds the maximum allowed size",
        code="EntityTooLarge",
        status=400,
        ProposedSize=str(size),
        MaxSizeAllowed=str(OBJECT_BYTES_MAX),
    )


async def into_writer(
    service: Service, request: S3Request, writer: ObjectWriter
) -> Mapping[str, str]:
    """Write the whole body; return its trailers. Raises when the client goes, or signed something else."""
    length = declared_length(request)
    body = decoder(request)
    if length is not None and length <= INLINE_BYTES_MAX:
        await _inline(request, body, writer)
    else:
        await _overlapped(service, request, body, writer)
    trailers = body.finish()
    if length is not None and writer.size != length:
        raise ApiError(
            "You did not provide the number of bytes specified by the Content-Length HTTP header",
            code="IncompleteBody",
            status=400,
        )
    return trailers


async def chunk(request: S3Request) -> tuple[bytes, bool]:
    """The next piece of the body as it arrives, and whether there is more; ClientGone if it breaks off."""
    request.received = True
    message = await request.receive()
    if message["type"] != "http.request":
        raise ClientGone
    return message.get("body", b""), bool(message.get("more_body"))


async def _inline(request: S3Request, body: Body, writer: ObjectWriter) -> None:
    more = True
    while more:
        data, more = await chunk(request)
        _feed([data], body, writer)


def _feed(batch: list[bytes], body: Body, writer: ObjectWriter) -> None:
    for data in batch:
        for piece in body.feed(data):
            writer.write(piece)
    if writer.size > OBJECT_BYTES_MAX:
        raise _too_large(writer.size)


async def _overlapped(
    service: Service, request: S3Request, body: Body, writer: ObjectWriter
) -> None:
    """Hash and write one batch in a thread while the next arrives; never more than two are held."""
    loop = asyncio.get_running_loop()
    writing: asyncio.Future[None] | None = None
    batch: list[bytes] = []
    size, more = 0, True
    try:
        while more:
            data, more = await chunk(request)
            batch.append(data)
            size += len(data)
            if size < BATCH_BYTES and more:
                continue
            if writing:
                await writing
            writing = loop.run_in_executor(service.pool, _feed, batch, body, writer)
            batch, size = [], 0
    finally:
        # Whatever happens here, the thread must be done with the file before it is removed.
        if writing:
            await asyncio.wait([writing])
    if writing:
        writing.result()


async def document(request: S3Request) -> bytes:
    """A small body, verified by all that its head promises."""
    body = decoder(request)
    promise: Promise = promised(request.headers)
    found = bytearray()
    more = True
    while more:
        data, more = await chunk(request)
        for piece in body.feed(data):
            found += piece
        if len(found) > DOCUMENT_BYTES_MAX:
            raise ApiError("Your request was too big.", code="MaxMessageLengthExceeded", status=400)
    trailers = body.finish()
    content = bytes(found)
    for digest in promise.digests:
        digest.update(content)
    promise.check(hashlib.md5(content, usedforsecurity=False).digest(), trailers)
    return content
