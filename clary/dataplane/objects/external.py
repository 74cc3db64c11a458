"""S3 passed through: requests that Clary authenticated and authorised, signed anew for an external store.

The body is verified on its way (signed chunks, payload hash, promised checksum); its last piece is held back until
it was found right, so that the external store never completes an upload that we would have refused.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import hashlib
import ssl
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote, unquote, urlsplit

from clary.dataplane.answers import Receive, Scope, Send
from clary.dataplane.bodies import ClientGone
from clary.dataplane.objects.app import admit
from clary.dataplane.objects.checksums import PREFIX, promised
from clary.dataplane.objects.copying import source_of
from clary.dataplane.objects.errors import as_api_error, error_answer, not_implemented
from clary.dataplane.objects.receiving import chunk, decoder, document
from clary.dataplane.objects.request import Answer, S3Request, parse
from clary.dataplane.objects.service import Authenticator, Authoriser, Service
from clary.dataplane.objects.upstream_http import Exchange, NoAnswer, exchange
from clary.dataplane.objects.xml import read, text_of
from clary.model.errors import ApiError, ServiceUnavailable
from clary.store.external_objects import ExternalEndpoint
from clary.store.object_buckets import Bucket
from clary.wire.http import Request
from clary.wire.sigv4 import UNSIGNED_PAYLOAD, sign

# Of the client's request: its signature, its framing, and what is about our account.
DROPPED = frozenset(
    {
        "authorization",
        "host",
        "connection",
        "keep-alive",
        "proxy-connection",
        "te",
        "upgrade",
        "expect",
        "transfer-encoding",
        "content-length",
        "content-encoding",
        "content-md5",
        "x-amz-date",
        "date",
        "x-amz-security-token",
        "x-amz-content-sha256",
        "x-amz-decoded-content-length",
        "x-amz-trailer",
        "x-amz-sdk-checksum-algorithm",
        "x-amz-expected-bucket-owner",
        "x-amz-source-expected-bucket-owner",
    }
)
SIGNING_PARAMETERS = frozenset(
    {
        "X-Amz-Algorithm",
        "X-Amz-Credential",
        "X-Amz-Date",
        "X-Amz-Expires",
        "X-Amz-SignedHeaders",
        "X-Amz-Signature",
        "X-Amz-Security-Token",
        "AWSAccessKeyId",
        "Signature",
        "Expires",
    }
)
HOP_BY_HOP = frozenset(
    {b"connection", b"keep-alive", b"transfer-encoding", b"server", b"date", b"upgrade"}
)


@dataclass(frozen=True, slots=True)
class _NoBuckets:
    """An external store keeps its bucket policies to itself; ours are those of the callers."""

    def bucket(self, name: str) -> Bucket | None:
        return None


class ExternalApp:
    """Serves S3 from an external store; `close` it when the door stops."""

    def __init__(
        self,
        endpoint: ExternalEndpoint,
        *,
        account: str,
        region: str,
        authenticator: Authenticator,
        authoriser: Authoriser,
    ) -> None:
        objects: Any = _NoBuckets()
        self._service = Service(objects, account, region, authenticator, authoriser)
        self._endpoint = endpoint
        parts = urlsplit(endpoint.url)
        self._tls = ssl.create_default_context() if parts.scheme == "https" else None
        self._host = parts.hostname or ""
        self._port = parts.port or (443 if self._tls else 80)
        self._base = parts.path.rstrip("/")
        self._authority = parts.netloc.rpartition("@")[2]

    def close(self) -> None:
        self._service.pool.shutdown(wait=True)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        request = S3Request(scope["method"], "", "", {}, {}, None, receive)  # type: ignore[arg-type]
        answer: Answer | None = None
        try:
            request = parse(scope, receive)
            operation = admit(self._service, request)
            if operation is None or operation.name == "PostObject":
                raise not_implemented("browser uploads to an external object store")
            whole = await self._authorise_rest(operation.name, request)
            async with self._ask(request, whole) as found:
                await _relay(request, found, send)
        except ClientGone:
            raise
        except NoAnswer as problem:
            if problem.begun:
                raise
            message = f"The external object store did not answer: {problem}"
            answer = error_answer(ServiceUnavailable(message), request)
        except Exception as problem:  # noqa: BLE001  the one place where failures become answers
            answer = error_answer(as_api_error(problem, request), request)
        if answer is not None:
            await _refuse(request, answer, send)

    async def _authorise_rest(self, operation: str, request: S3Request) -> bytes | None:
        """The rights that only the copy's source or the document of keys tell; return a document that was read."""
        if "x-amz-copy-source" in request.headers and request.method == "PUT":
            source = source_of(request)
            action = "s3:GetObjectVersion" if source.version_id else "s3:GetObject"
            self._service.authorise(request, action, source.bucket, source.key)
        if operation != "DeleteObjects":
            return None
        body = await document(request)
        for element in read(body, "Delete").findall("Object"):
            version = "Version" if text_of(element, "VersionId") else ""
            key = text_of(element, "Key")
            self._service.authorise(request, f"s3:DeleteObject{version}", request.bucket, key)
        return body

    @contextlib.asynccontextmanager
    async def _ask(self, request: S3Request, whole: bytes | None) -> AsyncIterator[Exchange]:
        wire = self._signed(request, whole)
        target = f"{wire.path}?{wire.query}" if wire.query else wire.path
        head = f"{wire.method} {target} HTTP/1.1\r\n" + "".join(
            f"{name}: {value}\r\n" for name, value in wire.headers.items()
        )
        async with exchange(self._host, self._port, self._tls) as found:
            await found.send(head.encode("latin-1") + b"\r\n")
            if whole is not None:
                await found.send(whole)
            elif wire.headers["content-length"] != "0":
                await self._pass_body(request, found)
            await found.read_head(request.method)
            yield found

    def _signed(self, request: S3Request, whole: bytes | None) -> Request:
        headers = {
            name: value
            for name, value in request.headers.items()
            if name not in DROPPED and (whole is None or not name.startswith(PREFIX))
        }
        encodings = request.header("content-encoding").split(",")
        kept = [word.strip() for word in encodings if word.strip() not in ("", "aws-chunked")]
        if kept:
            headers["content-encoding"] = ",".join(kept)
        headers["host"] = self._authority
        headers["connection"] = "close"
        headers["content-length"] = str(len(whole)) if whole is not None else _length(request)
        if whole is not None:
            digest = hashlib.sha256(whole).digest()
            headers["x-amz-checksum-sha256"] = base64.b64encode(digest).decode()
        query = "&".join(
            pair
            for pair in request.wire.query.split("&")
            if pair and unquote(pair.partition("=")[0]) not in SIGNING_PARAMETERS
        )
        path = f"{self._base}/{request.bucket}" if request.bucket else f"{self._base}/"
        if request.key:
            path += "/" + quote(request.key, safe="/-_.~")
        wire = Request(request.method, path, query, headers)
        endpoint = self._endpoint
        headers.update(
            sign(
                wire,
                access_key=endpoint.access_key,
                secret=endpoint.secret,
                region=endpoint.region,
                service="s3",
                now=time.time(),
                token=endpoint.token,
                payload=UNSIGNED_PAYLOAD,
            )
        )
        return wire

    async def _pass_body(self, request: S3Request, found: Exchange) -> None:
        """Stream the body on, one piece behind, so that nothing is whole before it is verified."""
        body, promise = decoder(request), promised(request.headers)
        md5 = hashlib.md5(usedforsecurity=False)
        held, more = b"", True
        while more:
            data, more = await chunk(request)
            piece = b"".join(body.feed(data))
            if not piece:
                continue
            md5.update(piece)
            for digest in promise.digests:
                digest.update(piece)
            if held:
                await found.send(held)
            held = piece
        promise.check(md5.digest(), body.finish())
        await found.send(held)


def _length(request: S3Request) -> str:
    text = request.header("x-amz-decoded-content-length") or request.header("content-length")
    if text.isascii() and text.isdigit():
        return text
    if request.header("transfer-encoding"):
        message = "You must provide the Content-Length HTTP header."
        raise ApiError(message, code="MissingContentLength", status=411)
    return "0"


async def _relay(request: S3Request, found: Exchange, send: Send) -> None:
    """Give the external store's answer on, as it arrives."""
    headers = [(name, value) for name, value in found.headers if name not in HOP_BY_HOP]
    if request.leaves_body_unread:
        headers.append((b"connection", b"close"))
    await send({"type": "http.response.start", "status": found.status, "headers": headers})
    found.begun = True
    async for piece in found.body():
        await send({"type": "http.response.body", "body": piece, "more_body": True})
    await send({"type": "http.response.body", "body": b""})


async def _refuse(request: S3Request, answer: Answer, send: Send) -> None:
    headers = {**answer.headers, "content-length": str(len(answer.body))}
    if request.leaves_body_unread:
        headers["connection"] = "close"
    pairs = [(name.encode("latin-1"), value.encode("latin-1")) for name, value in headers.items()]
    pairs.append((b"x-amz-request-id", request.request_id.encode()))
    with contextlib.suppress(asyncio.CancelledError):
        await send({"type": "http.response.start", "status": answer.status, "headers": pairs})
        await send({"type": "http.response.body", "body": answer.body})
