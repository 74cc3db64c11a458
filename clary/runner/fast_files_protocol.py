"""What a read-only file system says to the kernel over /dev/fuse: requests taken apart, answers put together."""

from __future__ import annotations

import struct
from typing import NamedTuple

LOOKUP, FORGET, GETATTR, OPEN, READ, STATFS, RELEASE = 1, 2, 3, 14, 15, 17, 18
INIT, OPENDIR, READDIR, RELEASEDIR, DESTROY = 26, 27, 28, 29, 38
BATCH_FORGET, READDIRPLUS = 42, 44

REQUEST_BYTES_MAX = 64 * 1024
ROOT = 1
NAME_BYTES_MAX = 255

# What is asked for at INIT, of what the kernel offers.
_ASYNC_READ, _DO_READDIRPLUS, _ASYNC_DIO = 1 << 0, 1 << 13, 1 << 15
_NO_OPEN, _PARALLEL_FOLDERS, _MAX_PAGES, _NO_OPENDIR = 1 << 17, 1 << 18, 1 << 22, 1 << 24
_WANTED = _ASYNC_READ | _DO_READDIRPLUS | _ASYNC_DIO | _NO_OPEN | _PARALLEL_FOLDERS
_WANTED |= _MAX_PAGES | _NO_OPENDIR
_MAJOR, _MINOR = 7, 31
_MINOR_MIN = 26  # Linux 4.18, the first that mounts for an ordinary user
_BACKGROUND_MAX, _CONGESTED_FROM = 64, 48
READ_BYTES_MAX = 1024 * 1024
AHEAD_BYTES_MAX = 2 * READ_BYTES_MAX  # one read is answered while the next one is asked for
_KEEP_CACHE, _CACHE_FOLDER = 1 << 1, 1 << 3

_IN = struct.Struct("=IIQQIIIHH")
_OUT = struct.Struct("=IiQ")
_INIT_IN = struct.Struct("=IIII")
_INIT_OUT = struct.Struct("=IIIIHHIIHHI28x")
_READ_IN = struct.Struct("=QQI")
_OPEN_OUT = struct.Struct("=QI4x")
_STATFS_OUT = struct.Struct("=5Q3I28x")
_ATTRIBUTES = struct.Struct("=6Q10I")
_ATTRIBUTES_OUT = struct.Struct("=QII")
_ENTRY_OUT = struct.Struct("=QQQQII")
_FOLDER_ENTRY = struct.Struct("=QQII")

_FOREVER = 1 << 32  # seconds: what was listed at the beginning is what the job sees to its end
_BLOCK_BYTES = 4096
_FILE_MODE, _FOLDER_MODE = 0o100444, 0o040555


class Request(NamedTuple):
    operation: int
    unique: int  # what the answer is matched by
    node: int
    body: bytes


class Shown(NamedTuple):
    """What `stat` tells of a node."""

    node: int
    folder: bool
    size: int
    moment: int


class ProtocolRefusal(Exception):
    """This kernel speaks a FUSE that is too old."""


def parse(message: bytes) -> Request:
    _, operation, unique, node, *_ = _IN.unpack_from(message)
    return Request(operation, unique, node, message[_IN.size :])


def head(unique: int, length: int) -> bytes:
    """What goes before `length` bytes of answer."""
    return _OUT.pack(_OUT.size + length, 0, unique)


def answer(unique: int, payload: bytes = b"") -> bytes:
    return head(unique, len(payload)) + payload


def refusal(unique: int, number: int) -> bytes:
    """`number` is an errno."""
    return _OUT.pack(_OUT.size, -number, unique)


def greeting(body: bytes) -> tuple[bytes, bool]:
    """The answer to INIT; also whether open and opendir need never be sent to us."""
    major, minor, _, offered = _INIT_IN.unpack_from(body)
    if (major, minor) < (_MAJOR, _MINOR_MIN):
        raise ProtocolRefusal(f"the kernel speaks FUSE {major}.{minor}, at least 7.26 is needed")
    flags = offered & _WANTED
    packed = _INIT_OUT.pack(
        _MAJOR,
        min(minor, _MINOR),
        AHEAD_BYTES_MAX,
        flags,
        _BACKGROUND_MAX,
        _CONGESTED_FROM,
        _BLOCK_BYTES,  # the longest write; there is none
        1,
        READ_BYTES_MAX // _BLOCK_BYTES,
        0,
        0,
    )
    return packed, flags & (_NO_OPEN | _NO_OPENDIR) == _NO_OPEN | _NO_OPENDIR


def opened(*, folder: bool) -> bytes:
    return _OPEN_OUT.pack(0, _KEEP_CACHE | (_CACHE_FOLDER if folder else 0))


def range_of(body: bytes) -> tuple[int, int]:
    """Offset and size of a READ or READDIR."""
    _, offset, size = _READ_IN.unpack_from(body)
    return offset, size


def name_of(body: bytes) -> bytes:
    return body.split(b"\0", 1)[0]


def attributes(shown: Shown) -> bytes:
    return _ATTRIBUTES_OUT.pack(_FOREVER, 0, 0) + _attributes(shown)


def entry(shown: Shown) -> bytes:
    """A name that was found."""
    return _ENTRY_OUT.pack(shown.node, 0, _FOREVER, _FOREVER, 0, 0) + _attributes(shown)


def absent() -> bytes:
    """A name that is not there, and never will be."""
    return _ENTRY_OUT.pack(0, 0, _FOREVER, 0, 0, 0) + bytes(_ATTRIBUTES.size)


def folder_entry(name: bytes, shown: Shown, following: int, *, known: bool) -> bytes:
    """One line of a folder's listing with what `stat` would tell; the links to folders tell nothing."""
    kind = 4 if shown.folder else 8
    told = entry(shown) if known else absent()
    line = told + _FOLDER_ENTRY.pack(shown.node, following, len(name), kind) + name
    return line + bytes(-len(line) % 8)


def statistics(files: int, size: int) -> bytes:
    blocks = -(-size // _BLOCK_BYTES)
    return _STATFS_OUT.pack(blocks, 0, 0, files, 0, _BLOCK_BYTES, NAME_BYTES_MAX, _BLOCK_BYTES)


def _attributes(shown: Shown) -> bytes:
    mode, links = (_FOLDER_MODE, 2) if shown.folder else (_FILE_MODE, 1)
    blocks = -(-shown.size // 512)
    moment = shown.moment
    return _ATTRIBUTES.pack(
        *(shown.node, shown.size, blocks, moment, moment, moment),
        *(0, 0, 0, mode, links, 0, 0, 0, READ_BYTES_MAX, 0),
    )
