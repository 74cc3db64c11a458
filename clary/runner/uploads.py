"""Objects stored in parts: of a size known beforehand, or written as they are made."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence
from typing import Protocol

from .connections import Answer, FileSlice
from .s3_answers import S3Error, escape, raise_hidden_error, text_of, uri_of
from .transfers import Count

PART_BYTES_MIN = 16 * 1024 * 1024
PARTS_MAX = 10_000


class Calls(Protocol):
    """The part of the S3 client that streams and uploads need."""

    def call(
        self,
        method: str,
        bucket: str,
        key: str,
        *,
        query: Sequence[tuple[str, str]] = (),
        headers: Mapping[str, str] | None = None,
        body: bytes | FileSlice = b"",
    ) -> Answer: ...


class MultipartUpload:
    """The parts of one object; completed or aborted by its owner."""

    def __init__(
        self, s3: Calls, bucket: str, key: str, headers: Mapping[str, str] | None = None
    ) -> None:
        self._s3 = s3
        self._bucket = bucket
        self._key = key
        self._etags: dict[int, str] = {}
        answer = s3.call("POST", bucket, key, query=[("uploads", "")], headers=headers)
        self._upload_id = text_of(b"UploadId", answer.read())
        if not self._upload_id:
            raise S3Error(500, "InternalError", "No upload id was given.", uri_of(bucket, key))

    def sender(self, number: int, body: bytes | FileSlice, count: Count) -> Callable[[Count], None]:
        """A task that sends one part; `count` hears of it beside the crowd's own count."""

        def send(crowd_count: Count) -> None:
            query = [("partNumber", str(number)), ("uploadId", self._upload_id)]
            answer = self._s3.call("PUT", self._bucket, self._key, query=query, body=body)
            answer.read()
            self._etags[number] = answer.headers.get("etag", "")
            size = body.size if isinstance(body, FileSlice) else len(body)
            crowd_count(size)
            count(size)

        return send

    def complete(self) -> None:
        parts = "".join(
            [
                f"<Part><PartNumber>{number}</PartNumber><ETag>{escape(etag)}</ETag></Part>"
                for number, etag in sorted(self._etags.items())
            ]
        )
        body = (
            '<CompleteMultipartUpload xmlns="http://s3.amazonaws.com/doc/2006-03-01/">'
            f"{parts}</CompleteMultipartUpload>"
        ).encode()
        query = [("uploadId", self._upload_id)]
        answer = self._s3.call("POST", self._bucket, self._key, query=query, body=body)
        raise_hidden_error(answer.read(), self._bucket, self._key)

    def abort(self) -> None:
        """Free the parts; where that fails too they stay, which the first fault outweighs."""
        try:
            query = [("uploadId", self._upload_id)]
            self._s3.call("DELETE", self._bucket, self._key, query=query).read()
        except (S3Error, OSError):
            return


class UploadStream:
    """A file-like sink of unknown length: one PUT if it stays small, else parts sent meanwhile."""

    def __init__(
        self, s3: Calls, bucket: str, key: str, headers: Mapping[str, str] | None = None
    ) -> None:
        self._s3 = s3
        self._bucket = bucket
        self._key = key
        self._headers = headers
        self._held = bytearray()
        self._upload: MultipartUpload | None = None
        self._number = 0
        self._sending: threading.Thread | None = None
        self._fault: BaseException | None = None
        self.size = 0

    def write(self, data: bytes) -> int:
        self._held += data
        self.size += len(data)
        if len(self._held) >= self._part_size():
            self._send_part()
        return len(data)

    def close(self) -> None:
        """Store the object; it exists only once this returned."""
        try:
            if self._upload is None:
                self._s3.call(
                    "PUT", self._bucket, self._key, headers=self._headers, body=bytes(self._held)
                ).read()
                return
            if self._held:
                self._send_part()
            self._join()
            self._upload.complete()
        except BaseException:
            self.abort()
            raise

    def abort(self) -> None:
        """Leave no object and no parts."""
        if self._sending is not None:
            self._sending.join()
            self._sending = None
        if self._upload is not None:
            self._upload.abort()
            self._upload = None

    def _part_size(self) -> int:
        # Parts double every thousand, so that ten thousand of them hold what S3 allows (5 TiB).
        return PART_BYTES_MIN << (self._number // 1000)

    def _send_part(self) -> None:
        self._join()
        if self._upload is None:
            self._upload = MultipartUpload(self._s3, self._bucket, self._key, self._headers)
        self._number += 1
        send = self._upload.sender(self._number, bytes(self._held), lambda size: None)
        self._held = bytearray()

        def work() -> None:
            try:
                send(lambda size: None)
            except BaseException as fault:  # noqa: BLE001 - raised by the next call
                self._fault = fault

        self._sending = threading.Thread(target=work, name="upload-part", daemon=True)
        self._sending.start()

    def _join(self) -> None:
        if self._sending is not None:
            self._sending.join()
            self._sending = None
        if self._fault is not None:
            raise self._fault
