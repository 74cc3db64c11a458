"""Multipart uploads: a folder each, with a file a part, until they become one object.

<root>/.clary/buckets/<bucket>/uploads/<upload id>/upload.json, 00001, 00002, ...
"""

# Paths are strings here: a Path costs more than the system call it is for.
# ruff: noqa: PTH103, PTH104, PTH105, PTH108, PTH110, PTH208

from __future__ import annotations

import fcntl
import hashlib
import os
import re
import secrets
import shutil
import threading
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field

import orjson

from clary.model.errors import ApiError
from clary.store.full_disk import object_store_full
from clary.store.object_metadata import ObjectMetadata
from clary.store.object_writer import ObjectWriter
from clary.store.objects import Condition, ObjectInfo, Objects, check_key

PART_BYTES_MIN = 5 * 1024 * 1024
PART_NUMBER_MAX = 10_000
_ID = re.compile(r"[0-9a-f]{48}")
_PART = re.compile(r"\d{5}")


@dataclass(frozen=True, slots=True)
class Upload:
    upload_id: str
    bucket: str
    key: str
    initiated: float
    initiator: str = ""
    checksum_algorithm: str = ""
    checksum_type: str = ""
    metadata: dict[str, object] = field(default_factory=dict[str, object])  # of the object to be


@dataclass(frozen=True, slots=True)
class Part:
    number: int
    size: int
    modified: float
    etag: str
    checksums: dict[str, str]
    path: str


@dataclass(frozen=True, slots=True)
class WantedPart:
    """A part as CompleteMultipartUpload names it."""

    number: int
    etag: str
    checksums: dict[str, str]


class Multipart:
    def __init__(self, objects: Objects) -> None:
        self._objects = objects

    def _uploads(self, bucket: str) -> str:
        return f"{self._objects.settings.hidden(bucket)}/uploads"

    def _folder(self, bucket: str, upload_id: str) -> str:
        if not _ID.fullmatch(upload_id):
            raise no_such_upload(upload_id)
        return f"{self._uploads(bucket)}/{upload_id}"

    def create(
        self,
        bucket: str,
        key: str,
        metadata: ObjectMetadata,
        *,
        initiator: str = "",
        checksum_algorithm: str = "",
        checksum_type: str = "",
    ) -> Upload:
        check_key(key)
        self._objects.settings.get(bucket)
        upload = Upload(
            secrets.token_hex(24),
            bucket,
            key,
            time.time(),
            initiator,
            checksum_algorithm,
            checksum_type,
            asdict(metadata),
        )
        folder = self._folder(bucket, upload.upload_id)
        try:
            os.makedirs(folder)
            temporary = f"{folder}/upload.json.{threading.get_ident()}"
            with open(temporary, "wb") as file:
                file.write(orjson.dumps(asdict(upload)))
            os.replace(temporary, f"{folder}/upload.json")
        except OSError as problem:
            raise object_store_full(problem) or problem from problem
        return upload

    def get(self, bucket: str, key: str, upload_id: str) -> Upload:
        """Raise NoSuchUpload; an upload is of one key."""
        self._objects.settings.get(bucket)
        upload = self._read(self._folder(bucket, upload_id))
        if upload is None or upload.key != key:
            raise no_such_upload(upload_id)
        return upload

    def _read(self, folder: str) -> Upload | None:
        try:
            with open(f"{folder}/upload.json", "rb") as file:
                return Upload(**orjson.loads(file.read()))
        except FileNotFoundError:
            return None

    def put_part(
        self, upload: Upload, number: int, writer: ObjectWriter, checksums: dict[str, str]
    ) -> Part:
        """Give a written file its place as a part; one sent again replaces the earlier."""
        if self._objects.durable:
            writer.flush()
        stamp = self._objects.stamps.next()
        os.utime(writer.descriptor, ns=(stamp, stamp))
        etag = writer.etag
        files = self._objects.metadata(upload.bucket)
        files.write(writer.descriptor, ObjectMetadata(etag=etag, checksums=checksums))
        path = f"{self._folder(upload.bucket, upload.upload_id)}/{number:05d}"
        try:
            os.rename(writer.path, path)
        except FileNotFoundError:
            raise no_such_upload(upload.upload_id) from None
        writer.placed()
        return Part(number, writer.size, stamp / 1e9, etag, checksums, path)

    def parts(self, upload: Upload) -> list[Part]:
        files = self._objects.metadata(upload.bucket)
        found: list[Part] = []
        try:
            with os.scandir(self._folder(upload.bucket, upload.upload_id)) as entries:
                for entry in entries:
                    if _PART.fullmatch(entry.name):
                        about = entry.stat()
                        kept = files.read(entry.path, about)
                        found.append(
                            Part(
                                int(entry.name),
                                about.st_size,
                                about.st_mtime,
                                kept.etag,
                                kept.checksums,
                                entry.path,
                            )
                        )
        except FileNotFoundError:
            raise no_such_upload(upload.upload_id) from None
        return sorted(found, key=lambda part: part.number)

    def every(self, bucket: str) -> list[Upload]:
        """The uploads under way, by key and then by id, so that a page can go on after a pair of them."""
        self._objects.settings.get(bucket)
        try:
            names = os.listdir(self._uploads(bucket))
        except FileNotFoundError:
            return []
        found = [self._read(f"{self._uploads(bucket)}/{name}") for name in names]
        return sorted((u for u in found if u), key=lambda u: (u.key, u.upload_id))

    def abort(self, bucket: str, key: str, upload_id: str) -> None:
        self._remove(self.get(bucket, key, upload_id))

    def _remove(self, upload: Upload) -> None:
        folder = self._folder(upload.bucket, upload.upload_id)
        files = self._objects.metadata(upload.bucket)
        try:
            os.unlink(f"{folder}/upload.json")  # from here on the upload is no more
        except FileNotFoundError:
            return
        with os.scandir(folder) as entries:
            for entry in entries:
                files.forget(entry.stat())
        shutil.rmtree(folder, ignore_errors=True)

    def choose(self, upload: Upload, wanted: Sequence[WantedPart]) -> list[Part]:
        """The parts to be joined; raise what S3 says of an order, a part or a size that is wrong."""
        known = {part.number: part for part in self.parts(upload)}
        numbers = [part.number for part in wanted]
        if numbers != sorted(set(numbers)):
            raise ApiError(
                "The list of parts was not in ascending order. Parts must be ordered by part number.",
                code="InvalidPartOrder",
                status=400,
                UploadId=upload.upload_id,
            )
        chosen: list[Part] = []
        for want in wanted:
            part = known.get(want.number)
            wrong = part is None or part.etag != want.etag
            if wrong or any(part.checksums.get(k) != v for k, v in want.checksums.items()):  # type: ignore[union-attr]
                raise _invalid_part(upload, want)
            assert part is not None
            chosen.append(part)
        for part in chosen[:-1]:
            if part.size < PART_BYTES_MIN:
                raise ApiError(
                    "Your proposed upload is smaller than the minimum allowed size",
                    code="EntityTooSmall",
                    status=400,
                    ProposedSize=str(part.size),
                    MinSizeAllowed=str(PART_BYTES_MIN),
                    PartNumber=str(part.number),
                    ETag=part.etag,
                )
        return chosen

    def complete(
        self,
        upload: Upload,
        chosen: Sequence[Part],
        checksums: dict[str, str],
        condition: Condition | None,
    ) -> ObjectInfo:
        """Join the parts into the object. Killed in the middle, the upload is as it was."""
        folder = self._folder(upload.bucket, upload.upload_id)
        try:
            lock = os.open(f"{folder}/upload.json", os.O_RDONLY | os.O_CLOEXEC)
        except FileNotFoundError:
            raise no_such_upload(upload.upload_id) from None
        try:
            fcntl.flock(lock, fcntl.LOCK_EX)  # a client that lost patience may ask again meanwhile
            if not os.path.exists(f"{folder}/upload.json"):
                raise no_such_upload(upload.upload_id)
            metadata = ObjectMetadata(**upload.metadata)  # type: ignore[arg-type]
            metadata.etag = joined_etag([part.etag for part in chosen])
            metadata.checksums = checksums
            metadata.checksum_type = upload.checksum_type if checksums else ""
            metadata.parts = [(part.size, part.checksums) for part in chosen]
            metadata.upload_id = upload.upload_id
            with self._objects.writer(hashed=False) as writer:
                for part in chosen:
                    _append(writer, part)
                info = self._objects.commit(upload.bucket, upload.key, writer, metadata, condition)
            self._remove(upload)
            return info
        finally:
            os.close(lock)


def _append(writer: ObjectWriter, part: Part) -> None:
    source = os.open(part.path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        writer.copy_from(source, 0, part.size)
    finally:
        os.close(source)


def joined_etag(etags: Sequence[str]) -> str:
    """The ETag of a multipart object: the MD5 of its parts' MD5s, and their number."""
    digest = hashlib.md5(b"".join(bytes.fromhex(etag) for etag in etags), usedforsecurity=False)
    return f"{digest.hexdigest()}-{len(etags)}"


def no_such_upload(upload_id: str) -> ApiError:
    return ApiError(
        "The specified upload does not exist. The upload ID may be invalid, or the upload may have been aborted or "
        "completed.",
        code="NoSuchUpload",
        status=404,
        UploadId=upload_id,
    )


def _invalid_part(upload: Upload, want: WantedPart) -> ApiError:
    return ApiError(
        "One or more of the specified parts could not be found.  The part may not have been uploaded, or the specified "
        "entity tag may not match the part's entity tag.",
        code="InvalidPart",
        status=400,
        UploadId=upload.upload_id,
        PartNumber=str(want.number),
        ETag=want.etag,
    )
