"""Which objects make up a channel on this host, in which order, and where each one is placed."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple, TypeVar

from .faults import DOWNLOAD, ClientFault
from .s3 import S3, split_uri
from .spec import HostSpec, Input

MANIFEST_BYTES_MAX = 512 * 1024 * 1024
T = TypeVar("T")


class Item(NamedTuple):
    bucket: str
    key: str
    path: str  # relative to the channel's directory; empty for an archive that is unpacked there
    size: int | None  # None where only the server knows
    etag: str = ""  # where the listing told it

    @property
    def uri(self) -> str:
        return f"s3://{self.bucket}/{self.key}"


def items_of(spec: HostSpec, s3: S3, channel: Input, epoch: int = 0) -> list[Item]:
    """The objects of a channel for this host and epoch; raise ClientFault or S3Error."""
    bucket, key = _location(channel.uri)
    if channel.type == "S3Prefix":
        items = _under_prefix(spec, s3, channel.uri, bucket, key)
    elif channel.type == "ManifestFile":
        items = _in_manifest(s3, channel.uri, bucket, key)
    elif channel.type == "S3Object":
        path = "" if channel.unpack else checked_path(key.rpartition("/")[2], channel.uri)
        return [Item(bucket, key, path, None)]
    else:
        raise ClientFault(
            f"{DOWNLOAD}{channel.type} is only supported in Pipe input mode "
            f"(channel {channel.name})"
        )
    return share(spec, channel, items, epoch)


def lines_of(spec: HostSpec, s3: S3, channel: Input, epoch: int = 0) -> list[bytes]:
    """The lines of an augmented manifest for this host and epoch."""
    bucket, key = _location(channel.uri)
    body = s3.get(bucket, key, bound=MANIFEST_BYTES_MAX)
    return share(spec, channel, [line for line in body.split(b"\n") if line.strip()], epoch)


def share(spec: HostSpec, channel: Input, things: Sequence[T], epoch: int) -> list[T]:
    """This host's part: shuffled first where asked, so that parts differ from epoch to epoch."""
    chosen = list(things)
    if channel.shuffle_seed is not None:
        chosen = shuffled(chosen, channel.shuffle_seed, epoch)
    if channel.distribution == "ShardedByS3Key":
        members = channel.hosts or spec.hosts
        return chosen[members.index(spec.host) :: len(members)]
    return chosen


def shuffled(things: Sequence[T], seed: int, epoch: int) -> list[T]:
    """The same order on every host and every Python: by the digest of seed, epoch and position."""

    def rank(position: int) -> bytes:
        return hashlib.sha256(f"{seed}:{epoch}:{position}".encode()).digest()

    return [things[position] for position in sorted(range(len(things)), key=rank)]


def check_for_clashes(items: Iterable[Item], where: str) -> None:
    """Two objects cannot be one file, and no object can be both a file and a folder."""
    seen: dict[str, Item] = {}
    for item in items:
        if item.path in seen:
            raise ClientFault(
                f"{DOWNLOAD}Failed to download data. {seen[item.path].uri!r} and {item.uri!r} "
                f"would be the same file {item.path!r} of {where}"
            )
        seen[item.path] = item
    for item in seen.values():
        parent = item.path.rpartition("/")[0]
        while parent:
            if parent in seen:
                raise ClientFault(
                    f"{DOWNLOAD}Failed to download data. Please check your s3 objects and ensure "
                    "that there is no object that is both a folder as well as a file: "
                    f"{seen[parent].uri!r} and {item.uri!r}"
                )
            parent = parent.rpartition("/")[0]


def _location(uri: str) -> tuple[str, str]:
    try:
        return split_uri(uri)
    except ValueError as problem:
        raise ClientFault(f"{DOWNLOAD}{problem}") from problem


def _under_prefix(spec: HostSpec, s3: S3, uri: str, bucket: str, prefix: str) -> list[Item]:
    items = [
        Item(
            bucket, found.key, checked_path(_placed(found.key, prefix), uri), found.size, found.etag
        )
        for found in s3.objects(bucket, prefix)
        if not found.key.endswith("/")  # a folder marker, as consoles make them
    ]
    if not items:
        role = f'the role "{spec.role}"' if spec.role else "the role"
        raise ClientFault(
            f'{DOWNLOAD}No S3 objects found under S3 URL "{uri}" given in input data source. '
            f"Please ensure that the bucket exists in the selected region ({spec.region}), that "
            f'objects exist under that S3 prefix, and that {role} has "s3:ListBucket" permissions '
            f'on bucket "{bucket}".'
        )
    return items


def _placed(key: str, prefix: str) -> str:
    """An object's place: its key without the prefix, which is cut at its last `/`.

    A prefix that is a whole folder's name, `data/train` of `data/train/x`, places `x`, as if it
    ended in `/`: that is what `upload_data` of the SageMaker SDK returns and its scripts expect.
    """
    if key.startswith(prefix + "/"):
        return key[len(prefix) + 1 :]
    return key[prefix.rfind("/") + 1 :]


def checked_path(path: str, uri: str) -> str:
    """An object's path below its directory, refused where it could not be one."""
    parts = [part for part in path.split("/") if part]
    if not parts or "." in parts or ".." in parts or "\0" in path:
        raise ClientFault(
            f"{DOWNLOAD}Failed to download data. The object name {path!r} under {uri!r} cannot be "
            "a file name: it is empty, or holds a '.', '..' or NUL part"
        )
    return "/".join(parts)


def _in_manifest(s3: S3, uri: str, bucket: str, key: str) -> list[Item]:
    try:
        document = json.loads(s3.get(bucket, key, bound=MANIFEST_BYTES_MAX))
    except ValueError as problem:
        raise _bad_manifest(uri, f"it is not JSON ({problem})") from problem
    if not isinstance(document, list) or not document:
        raise _bad_manifest(uri, "it must be a list whose first element is an object with a prefix")
    prefix = document[0].get("prefix") if isinstance(document[0], dict) else None
    if not isinstance(prefix, str):
        raise _bad_manifest(uri, 'its first element must be {"prefix": "s3://bucket/..."}')
    try:
        target, start = split_uri(prefix)
    except ValueError as problem:
        raise _bad_manifest(uri, str(problem)) from problem
    names: list[Any] = document[1:]
    if not names:
        raise _bad_manifest(uri, "it lists no objects")
    for number, name in enumerate(names, 1):
        if not isinstance(name, str) or not name:
            raise _bad_manifest(uri, f"its element {number} is not a name")
    return [Item(target, start + name, checked_path(name, uri), None) for name in names]


def _bad_manifest(uri: str, why: str) -> ClientFault:
    return ClientFault(f"{DOWNLOAD}The manifest file {uri} cannot be used: {why}")
