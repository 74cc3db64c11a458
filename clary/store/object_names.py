"""How a bucket's keys become file names, and back: every key has one path, and no path leaves its bucket.

A key is split at "/", and nearly every segment is its own file name. The few that a file system cannot hold, or
that would be ambiguous, are escaped; all escapes begin with "%":

    %_      an empty segment, as in "a//b" or "folder/"        %2E   the dot of the segments "." and ".."
    %25     a "%" that would read as an escape                 %00   NUL
    %more   ends a directory that holds the rest of a segment longer than a file name may be
    %file   ends an object's file when a directory has its name: keys "x" and "x/y" together
    %v      ends a directory that holds the versions of one key
"""

from __future__ import annotations

import ipaddress
import re
from functools import lru_cache

KEY_BYTES_MAX = 1024
NAME_BYTES_MAX = 240  # of one file name, so that every suffix above still fits into 255
CHUNK_BYTES = 200
FILE_SUFFIX = "%file"
MORE_SUFFIX = "%more"
VERSIONS_SUFFIX = "%v"

_RESERVED = re.compile(r"%(?=00|25|2E|_|file|more|v)")
_ESCAPE = re.compile(r"%(?:00|25|2E|_)")
_UNIT = re.compile(r"%(?:00|25|2E)|.", re.DOTALL)
_BUCKET = re.compile(r"[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]")
_PLAIN_BYTES = NAME_BYTES_MAX // 4  # a segment of so few characters fits whatever they are


@lru_cache(4096)
def is_bucket_name(name: str) -> bool:
    """Whether S3 would take the name for a new general purpose bucket."""
    if not _BUCKET.fullmatch(name) or ".." in name or ".-" in name or "-." in name:
        return False
    if name.startswith("xn--") or name.endswith(("-s3alias", "--ol-s3")):
        return False
    try:
        ipaddress.IPv4Address(name)
    except ValueError:
        return True
    return False


def is_key(key: str) -> bool:
    try:
        return 0 < len(key.encode()) <= KEY_BYTES_MAX
    except UnicodeEncodeError:
        return False


def path_of_key(key: str) -> str:
    """The path of a key's file, relative to its bucket's directory."""
    if (
        "%" not in key
        and "//" not in key
        and "./" not in key
        and "\0" not in key
        and len(key) <= _PLAIN_BYTES
        and key[0] != "/"
        and key[-1] not in "/."
    ):
        return key
    return "/".join([path_of_segment(segment) for segment in key.split("/")])


def path_of_segment(segment: str) -> str:
    """The file name of one segment, or a short path when the segment is too long for one."""
    if not segment:
        return "%_"
    name = _RESERVED.sub("%25", segment) if "%" in segment else segment
    if "\0" in name:
        name = name.replace("\0", "%00")
    if segment in (".", ".."):
        name = "%2E" + segment[1:]
    if len(name) <= _PLAIN_BYTES or len(name.encode()) <= NAME_BYTES_MAX:
        return name
    return f"{MORE_SUFFIX}/".join(_chunks(name))


def _chunks(name: str) -> list[str]:
    """Cut a long name between characters, never inside an escape."""
    found: list[str] = []
    chunk, size = "", 0
    for unit in _UNIT.findall(name):
        width = len(unit.encode())
        if size + width > CHUNK_BYTES:
            found.append(chunk)
            chunk, size = "", 0
        chunk += unit
        size += width
    return [*found, chunk]


def segment_of_name(name: str) -> str | None:
    """The segment that a file name (without its suffix) stands for; None if no key is stored under it."""
    try:
        name.encode()
    except UnicodeEncodeError:
        return None  # a name that is not UTF-8, put there by hand
    if "%" not in name:
        return name
    return _ESCAPE.sub(_unescape, name)


def _unescape(found: re.Match[str]) -> str:
    return {"%00": "\0", "%25": "%", "%2E": ".", "%_": ""}[found.group()]
