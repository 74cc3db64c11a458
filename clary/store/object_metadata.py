"""What S3 remembers of an object beside its bytes, kept in the file's own extended attribute.

Data and metadata so appear in one rename, follow a file that is moved, and need no second lookup. The attribute
names the size and time stamp that it describes: a file edited by hand, or put there by hand, is served as well, its
ETag computed when first asked for. Where a file system has no attributes, or they are too large for one, a side file
named after the file's identity (inode, time stamp, size) holds them; it is written before the object appears.
"""

# Paths are strings here: a Path costs more than the system call it is for.
# ruff: noqa: PTH103, PTH105, PTH108, PTH116, PTH120

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
import threading
import time
from dataclasses import asdict, dataclass, field, fields
from typing import Any

import orjson

ATTRIBUTE = "user.clary"
ATTRIBUTE_BYTES_MAX = 3500  # ext4 gives all attributes of a file one block of 4096 bytes
HASHED_BYTES_MAX = (
    8 * 1024 * 1024
)  # clients send larger ones in parts, whose ETag is no digest of the bytes
DEFAULT_TYPE = "binary/octet-stream"


@dataclass(slots=True)
class ObjectMetadata:
    etag: str = ""
    content_type: str = DEFAULT_TYPE
    headers: dict[str, str] = field(default_factory=dict[str, str])  # Cache-Control and the like
    user: dict[str, str] = field(default_factory=dict[str, str])  # x-amz-meta-*
    checksums: dict[str, str] = field(default_factory=dict[str, str])  # {"CRC32": base64}
    checksum_type: str = ""  # FULL_OBJECT | COMPOSITE
    tags: dict[str, str] = field(default_factory=dict[str, str])
    version_id: str = ""  # empty for an object written while its bucket had no versions: "null"
    storage_class: str = "STANDARD"
    encryption: dict[str, str] = field(default_factory=dict[str, str])
    parts: list[tuple[int, dict[str, str]]] = field(
        default_factory=list[tuple[int, dict[str, str]]]
    )
    upload_id: str = (
        ""  # the multipart upload that made it, so that completing twice succeeds twice
    )
    delete_marker: bool = False


_NAMES = frozenset(found.name for found in fields(ObjectMetadata))
_DEFAULTS = asdict(ObjectMetadata())


class TimeStamps:
    """Time stamps for files, in nanoseconds: no two of one process are the same, and they never go back."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._last = 0

    def next(self) -> int:
        with self._lock:
            self._last = max(self._last + 1, time.time_ns())
            return self._last


class MetadataFiles:
    """Reads and writes metadata of files; `side` is the folder for what attributes cannot hold."""

    def __init__(self, side: str) -> None:
        self._side = side

    def write(
        self, path: int | str, metadata: ObjectMetadata, *, is_new: bool = False
    ) -> os.stat_result:
        """Attach metadata to a complete file, by descriptor or path; its time stamp must be the final one.

        A new file, whose time stamp is its own, has no older metadata to forget. Return what was found of it."""
        about = os.stat(path)
        packed = _pack(metadata, about)
        side = self._side_path(about)
        if len(packed) <= ATTRIBUTE_BYTES_MAX:
            try:
                os.setxattr(path, ATTRIBUTE, packed)
            except OSError as problem:
                # A file system that has no room left in its attribute block says ENOSPC, as a full disk does;
                # on a full disk the side file then fails in its turn.
                if problem.errno not in (errno.ENOTSUP, errno.ENOSPC, errno.E2BIG, errno.EPERM):
                    raise
            else:
                if not is_new:
                    self._forget_side(side)
                return about
        os.makedirs(os.path.dirname(side), exist_ok=True)
        temporary = f"{side}.{os.getpid()}.{threading.get_ident()}"
        with open(temporary, "wb") as file:
            file.write(packed)
        os.replace(temporary, side)
        with contextlib.suppress(OSError):
            os.removexattr(path, ATTRIBUTE)  # an older one would be preferred
        return about

    def read(self, path: int | str, about: os.stat_result) -> ObjectMetadata:
        """Metadata of a file; the ETag is empty when nobody knows it yet."""
        try:
            packed = os.getxattr(path, ATTRIBUTE)
        except OSError as problem:
            if problem.errno not in (errno.ENODATA, errno.ENOTSUP):
                raise
            packed = self._read_side(about)
        return _unpack(packed, about) if packed else ObjectMetadata()

    def forget(self, about: os.stat_result) -> None:
        """Drop the side file of a file that is no more."""
        self._forget_side(self._side_path(about))

    def _side_path(self, about: os.stat_result) -> str:
        name = f"{about.st_ino:x}-{about.st_mtime_ns:x}-{about.st_size:x}"
        return f"{self._side}/{about.st_ino & 255:02x}/{name}"

    def _read_side(self, about: os.stat_result) -> bytes:
        try:
            with open(self._side_path(about), "rb") as file:
                return file.read()
        except FileNotFoundError:
            return b""

    def _forget_side(self, side: str) -> None:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(side)


def _pack(metadata: ObjectMetadata, about: os.stat_result) -> bytes:
    document: dict[str, Any] = {"size": about.st_size, "mtime": about.st_mtime_ns}
    for name, default in _DEFAULTS.items():
        value = getattr(metadata, name)
        if value != default:
            document[name] = value
    return orjson.dumps(document)


def _unpack(packed: bytes, about: os.stat_result) -> ObjectMetadata:
    try:
        document = orjson.loads(packed)
        size, mtime = document.pop("size"), document.pop("mtime")
        metadata = ObjectMetadata(**{k: v for k, v in document.items() if k in _NAMES})
    except (ValueError, KeyError, TypeError, AttributeError):
        return ObjectMetadata()  # not ours, or damaged: the bytes are still an object
    if (size, mtime) != (about.st_size, about.st_mtime_ns):
        metadata.etag = metadata.checksum_type = ""  # edited by hand since
        metadata.checksums, metadata.parts = {}, []
    return metadata


def etag_of_file(descriptor: int, about: os.stat_result) -> str:
    """The ETag of a file that Clary did not write. Of a large one it stands for its identity, with the dash that
    tells clients it is no digest, for nobody should wait until a data set has been read to have it listed."""
    if about.st_size > HASHED_BYTES_MAX:
        identity = f"{about.st_size}-{about.st_mtime_ns}".encode()
        return hashlib.md5(identity, usedforsecurity=False).hexdigest() + "-1"
    digest = hashlib.md5(usedforsecurity=False)
    position = 0
    while block := os.pread(descriptor, 1 << 20, position):
        digest.update(block)
        position += len(block)
    return digest.hexdigest()
