"""The S3 that a runner needs: list, get, put, copy, delete; retried while the door is away."""

from __future__ import annotations

import base64
import os
import threading
import time
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from .connections import ANSWER_SECONDS, Answer, FileShrank, FileSlice, Pool, jittered
from .s3_answers import (
    EXPIRED_CODES,
    UNFIT_FOR_XML,
    Listed,
    S3Error,
    escape,
    parse_page,
    raise_hidden_error,
    read_error,
    uri_of,
)
from .signing import UNSIGNED, Credentials, Signer, encode_path, encode_query, payload_hash
from .streams import BUFFER_BYTES, ObjectStream
from .transfers import Count, run_all
from .uploads import PART_BYTES_MIN, PARTS_MAX, MultipartUpload

HASHED_BYTES_MAX = 256 * 1024
INLINE_BYTES_MAX = 64 * 1024
SINGLE_PUT_BYTES_MAX = 64 * 1024 * 1024
PART_THREADS = 4
ATTEMPTS_AFTER_ERROR = 6
RESTARTS_MAX = 3
PATIENCE_SECONDS = 60.0
DELETE_MANY_MAX = 1000


class Head(NamedTuple):
    size: int
    etag: str
    headers: Mapping[str, str]


def split_uri(uri: str) -> tuple[str, str]:
    """`s3://bucket/key` as its two parts; raise ValueError for anything else."""
    if not uri.startswith("s3://"):
        raise ValueError(f"{uri!r} is not an s3:// URI")
    bucket, _, key = uri[5:].partition("/")
    if not bucket:
        raise ValueError(f"{uri!r} names no bucket")
    return bucket, key


def encryption(kms_key_id: str) -> dict[str, str]:
    """The headers that ask for server-side encryption under a key; none without a key."""
    if not kms_key_id:
        return {}
    return {
        "x-amz-server-side-encryption": "aws:kms",
        "x-amz-server-side-encryption-aws-kms-key-id": kms_key_id,
    }


def _uncounted(size: int) -> None:
    """For callers that do not care how many bytes have moved."""


class S3:
    """A client of one endpoint, safe for several threads.

    Every call may raise S3Error (the server said no) or OSError (it could not be reached in
    `patience_seconds`, or the disk said no).
    """

    def __init__(
        self,
        endpoint_url: str,
        region: str,
        provider: Callable[[], Credentials],
        *,
        patience_seconds: float = PATIENCE_SECONDS,
        answer_seconds: float = ANSWER_SECONDS,
    ) -> None:
        self._pool = Pool(endpoint_url, answer_seconds=answer_seconds)
        self._signer = Signer(region, "s3")
        self._provider = provider
        self._patience_seconds = patience_seconds
        self._closed = threading.Event()
        self.region = region

    def close(self) -> None:
        """Cut the waits between attempts short; what is under way then fails."""
        self._closed.set()
        self._pool.close()

    def objects(self, bucket: str, prefix: str) -> Iterator[Listed]:
        """Every object under a prefix in S3's order (of UTF-8 bytes), page by page."""
        token = ""
        while True:
            query = [("list-type", "2"), ("prefix", prefix), ("encoding-type", "url")]
            if token:
                query.append(("continuation-token", token))
            page, token = parse_page(self.call("GET", bucket, "", query=query).read())
            yield from page
            if not token:
                return

    def open(self, bucket: str, key: str) -> ObjectStream:
        """An object's bytes as a stream that resumes where a broken connection left it."""
        return ObjectStream(self, bucket, key)

    def get(self, bucket: str, key: str, *, bound: int = 64 * 1024 * 1024) -> bytes:
        """A small object's bytes; one longer than `bound` raises S3Error EntityTooLarge."""
        stream = self.open(bucket, key)
        try:
            if stream.size > bound:
                message = f"The object is longer than {bound} bytes."
                raise S3Error(413, "EntityTooLarge", message, uri_of(bucket, key))
            return stream.read_all()
        finally:
            stream.close()

    def get_file(self, bucket: str, key: str, path: Path, count: Count = _uncounted) -> int:
        """Download to `path`, complete or not at all; return the size."""
        part = path.parent / f".clary-{os.urandom(8).hex()}.part"
        restarts = 0
        try:
            while True:
                try:
                    size = self._download(bucket, key, part, count)
                    break
                except S3Error as error:
                    # The object was replaced while it was read: take the new one, from its start.
                    if error.code != "PreconditionFailed" or restarts == RESTARTS_MAX:
                        raise
                    restarts += 1
            part.rename(path)
        except BaseException:
            part.unlink(missing_ok=True)
            raise
        return size

    def put_bytes(
        self, bucket: str, key: str, body: bytes, headers: Mapping[str, str] | None = None
    ) -> None:
        self.call("PUT", bucket, key, headers=headers, body=body).read()

    def put_file(
        self,
        bucket: str,
        key: str,
        path: Path,
        headers: Mapping[str, str] | None = None,
        count: Count = _uncounted,
    ) -> int:
        """Store a file; return its size. Use put_descriptor where the path is not to be trusted."""
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        try:
            return self.put_descriptor(bucket, key, descriptor, headers, count)
        finally:
            os.close(descriptor)

    def put_descriptor(
        self,
        bucket: str,
        key: str,
        descriptor: int,
        headers: Mapping[str, str] | None = None,
        count: Count = _uncounted,
    ) -> int:
        """Store what an open file holds now; raise FileShrank if it becomes shorter meanwhile."""
        size = os.fstat(descriptor).st_size
        if size <= SINGLE_PUT_BYTES_MAX:
            body = _contents(descriptor, size)
            self.call("PUT", bucket, key, headers=headers, body=body).read()
            count(size)
            return size
        part_size = max(PART_BYTES_MIN, -(-size // PARTS_MAX))
        upload = MultipartUpload(self, bucket, key, headers)
        try:
            senders = [
                upload.sender(number, FileSlice(descriptor, at, min(part_size, size - at)), count)
                for number, at in enumerate(range(0, size, part_size), 1)
            ]
            run_all(senders, threads=PART_THREADS)
            upload.complete()
        except BaseException:
            upload.abort()
            raise
        return size

    def head(self, bucket: str, key: str) -> Head | None:
        """An object's size and headers, or None where there is none."""
        try:
            headers = self.call("HEAD", bucket, key).headers
        except S3Error as error:
            if error.status == 404:
                return None
            raise
        return Head(int(headers.get("content-length", 0)), headers.get("etag", ""), headers)

    def copy(self, source: tuple[str, str], bucket: str, key: str) -> None:
        origin = encode_path(f"/{source[0]}/{source[1]}")
        answer = self.call("PUT", bucket, key, headers={"x-amz-copy-source": origin})
        raise_hidden_error(answer.read(), bucket, key)

    def delete(self, bucket: str, key: str) -> None:
        self.call("DELETE", bucket, key).read()

    def delete_many(self, bucket: str, keys: Iterable[str]) -> None:
        """Delete keys a thousand at a time; a key that XML cannot hold goes on its own."""
        batch: list[str] = []
        for key in keys:
            if UNFIT_FOR_XML.search(key):
                self.delete(bucket, key)
                continue
            batch.append(key)
            if len(batch) == DELETE_MANY_MAX:
                self._delete_batch(bucket, batch)
                batch = []
        if batch:
            self._delete_batch(bucket, batch)

    def _delete_batch(self, bucket: str, keys: Sequence[str]) -> None:
        items = "".join([f"<Object><Key>{escape(key)}</Key></Object>" for key in keys])
        body = (
            '<Delete xmlns="http://s3.amazonaws.com/doc/2006-03-01/">'
            f"<Quiet>true</Quiet>{items}</Delete>"
        ).encode()
        checksum = base64.b64encode(zlib.crc32(body).to_bytes(4, "big")).decode()
        headers = {"x-amz-checksum-crc32": checksum}
        answer = self.call("POST", bucket, "", query=[("delete", "")], headers=headers, body=body)
        raise_hidden_error(answer.read(), bucket, keys[0])

    def _download(self, bucket: str, key: str, part: Path, count: Count) -> int:
        stream = self.open(bucket, key)
        try:
            flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC
            descriptor = os.open(part, flags, 0o644)
            try:
                buffer = memoryview(bytearray(max(1, min(stream.size, BUFFER_BYTES))))
                while True:
                    received = stream.readinto(buffer)
                    if not received:
                        return stream.position
                    written = 0
                    while written < received:
                        written += os.write(descriptor, buffer[written:received])
                    count(received)
            finally:
                os.close(descriptor)
        finally:
            stream.close()

    def call(
        self,
        method: str,
        bucket: str,
        key: str,
        *,
        query: Sequence[tuple[str, str]] = (),
        headers: Mapping[str, str] | None = None,
        body: bytes | FileSlice = b"",
    ) -> Answer:
        """One request, repeated while that may help; the answer's body is the caller's to read."""
        attempt = errors = 0
        deadline = 0.0
        while True:
            try:
                return self._attempt(method, bucket, key, query, headers, body)
            except S3Error as error:
                errors += 1
                if not error.may_pass or errors >= ATTEMPTS_AFTER_ERROR:
                    raise
                failure: Exception = error
            except OSError as problem:
                failure = problem
            deadline = deadline or time.monotonic() + self._patience_seconds
            pause = jittered(attempt)
            if time.monotonic() + pause > deadline or self._closed.wait(pause):
                raise failure
            attempt += 1

    def _attempt(
        self,
        method: str,
        bucket: str,
        key: str,
        query: Sequence[tuple[str, str]],
        headers: Mapping[str, str] | None,
        body: bytes | FileSlice,
    ) -> Answer:
        path = encode_path(f"/{bucket}/{key}" if key else f"/{bucket}")
        encoded = encode_query(query)
        credentials = self._provider()
        signed = self._signer.sign(
            credentials,
            method,
            path,
            encoded,
            {"host": self._pool.authority, **(headers or {})},
            content_hash=_content_hash(body),
        )
        del signed["host"]
        target = f"{path}?{encoded}" if encoded else path
        answer = self._pool.exchange(method, target, signed, body)
        if answer.status < 300:
            return answer
        error = read_error(answer, bucket, key)
        forget = getattr(self._provider, "forget", None)
        if error.code in EXPIRED_CODES and forget is not None:
            forget(credentials)
        raise error


def _content_hash(body: bytes | FileSlice) -> str:
    """Hashing a large body would cost more than sending it does; over loopback S3 lets it be."""
    if isinstance(body, FileSlice) or len(body) > HASHED_BYTES_MAX:
        return UNSIGNED
    return payload_hash(body)


def _contents(descriptor: int, size: int) -> bytes | FileSlice:
    """Small files travel in the same packet as their request's head."""
    if size > INLINE_BYTES_MAX:
        return FileSlice(descriptor, 0, size)
    body = os.pread(descriptor, size, 0)
    if len(body) < size:
        raise FileShrank(f"{size - len(body)} of {size} bytes are gone")
    return body
