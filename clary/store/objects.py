"""The object store: plain files under `<root>/<bucket>/<key>`, with what S3 wants to know of them beside.

    <root>/<bucket>/<key>                    the current objects, readable without Clary
    <root>/.clary/tmp/                       objects on their way in
    <root>/.clary/locks/<bucket>             one lock a bucket
    <root>/.clary/buckets/<bucket>/          bucket.json, versions/, uploads/, metadata/

Several processes may use one root at once: all truth is in the files, and every change is one rename.
"""

# Paths are strings here: a Path costs more than the system call it is for.
# ruff: noqa: PTH103, PTH116, PTH120

from __future__ import annotations

import errno
import os
import stat
import time
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import BinaryIO

from clary.model.errors import ApiError
from clary.store.full_disk import object_store_full
from clary.store.object_buckets import HIDDEN, Bucket, Buckets, no_such_bucket
from clary.store.object_metadata import MetadataFiles, ObjectMetadata, TimeStamps, etag_of_file
from clary.store.object_names import is_bucket_name, is_key
from clary.store.object_tree import LAST, OPEN_FLAGS, Listings, NeedsExclusive, Tree
from clary.store.object_versions import NULL, Versions, new_version_id
from clary.store.object_writer import BLOCK_BYTES, Digest, ObjectWriter, remove_stale

PAGE_MAX = 1000


@dataclass(frozen=True, slots=True)
class ObjectInfo:
    bucket: str
    key: str
    size: int
    modified_ns: int
    metadata: ObjectMetadata
    path: str

    @property
    def etag(self) -> str:
        return self.metadata.etag

    @property
    def modified(self) -> float:
        return self.modified_ns / 1e9

    @property
    def content_type(self) -> str:
        return self.metadata.content_type

    @property
    def version_id(self) -> str:
        return self.metadata.version_id or NULL


@dataclass(frozen=True, slots=True)
class OpenObject:
    """An object open for reading: replaced or deleted meanwhile, it still reads as it was. Close it."""

    info: ObjectInfo
    descriptor: int

    def close(self) -> None:
        os.close(self.descriptor)


@dataclass(frozen=True, slots=True)
class Condition:
    """What must hold of the current object for a write or a deletion to happen."""

    match: tuple[str, ...] = ()  # ETags, or "*"
    none_match: tuple[str, ...] = ()
    size: int | None = None
    modified: int | None = None  # whole seconds


@dataclass(frozen=True, slots=True)
class Page:
    """A page of a listing, in key order; `next_after` continues it."""

    objects: list[ObjectInfo]
    prefixes: list[str]
    next_after: str = ""  # empty when this is the last page


@dataclass(frozen=True, slots=True)
class Deleted:
    version_id: str = ""
    delete_marker: bool = False


class Objects:
    def __init__(
        self, root: Path | str, *, region: str = "us-east-1", durable: bool = False
    ) -> None:
        """`durable` makes every write survive a power cut, at the price of a flush each; without it, a write
        survives any crash of Clary."""
        self.root = str(root)
        self.durable = durable
        os.makedirs(self.root, exist_ok=True)
        self.settings = Buckets(self.root, region)
        self.listings = Listings()
        self.stamps = TimeStamps()
        self.temporary = f"{self.root}/{HIDDEN}/tmp"
        remove_stale(self.temporary)

    # Buckets

    def buckets(self) -> list[Bucket]:
        return self.settings.every()

    def bucket(self, name: str) -> Bucket | None:
        return self.settings.find(name)

    def create_bucket(self, name: str, region: str = "us-east-1") -> bool:
        """False when it exists."""
        return self.settings.create(Bucket(name=name, region=region, created=time.time()))

    def delete_bucket(self, name: str) -> None:
        with self.settings.lock(name, exclusive=True):
            self.settings.get(name)
            versions = self.versions(name)
            if next(self.tree(name).walk(), None) or next(versions.tree.walk(), None):
                raise ApiError(
                    "The bucket you tried to delete is not empty",
                    code="BucketNotEmpty",
                    status=409,
                    BucketName=name,
                )
            self.settings.remove(name)

    def tree(self, bucket: str) -> Tree:
        return Tree(self.settings.path(bucket), self.listings)

    def versions(self, bucket: str) -> Versions:
        return Versions(f"{self.settings.hidden(bucket)}/versions", self.listings)

    def metadata(self, bucket: str) -> MetadataFiles:
        return MetadataFiles(f"{self.settings.hidden(bucket)}/metadata")

    # Reading

    def get(self, bucket: str, key: str, version_id: str = "") -> OpenObject | None:
        """Open the current version, or another one; a delete marker opens as an empty object."""
        if not is_key(key):
            return None
        found = self.tree(bucket).open(key) if is_bucket_name(bucket) else None
        if found is None and self.settings.find(bucket) is None:
            raise no_such_bucket(bucket)
        if found is None and not version_id:
            return None
        if found is not None:
            descriptor, about, path = found
            try:
                opened = OpenObject(
                    self._info(bucket, key, descriptor, about, path, descriptor), descriptor
                )
            except BaseException:
                os.close(descriptor)
                raise
            if version_id in ("", opened.info.version_id):
                return opened
            opened.close()
        path = self.versions(bucket).find(key, version_id)
        if path is None:
            return None
        try:
            descriptor = os.open(path, OPEN_FLAGS)
        except FileNotFoundError:
            return None
        return OpenObject(
            self._info(bucket, key, descriptor, os.fstat(descriptor), path, descriptor), descriptor
        )

    def head(self, bucket: str, key: str, version_id: str = "") -> ObjectInfo | None:
        opened = self.get(bucket, key, version_id)
        if opened is None:
            return None
        opened.close()
        return opened.info

    def open(self, bucket: str, key: str, version_id: str = "") -> BinaryIO:
        """A binary file; raise NoSuchKey."""
        opened = self.get(bucket, key, version_id)
        if opened is None or opened.info.metadata.delete_marker:
            if opened:
                opened.close()
            raise no_such_key(key)
        return os.fdopen(opened.descriptor, "rb")

    def read(self, bucket: str, key: str, limit: int = 64 * 1024 * 1024) -> bytes:
        """The whole object; raise EntityTooLarge if it has more than `limit` bytes."""
        with self.open(bucket, key) as file:
            data = file.read(limit + 1)
        if len(data) > limit:
            message = f"s3://{bucket}/{key} is larger than the {limit} bytes expected here."
            raise ApiError(message, code="EntityTooLarge", status=400)
        return data

    def path(self, bucket: str, key: str) -> Path | None:
        """The object's own file, for workloads of this machine to read in place."""
        found = self.tree(bucket).find(key) if self.settings.find(bucket) and is_key(key) else None
        return Path(found[1]) if found else None

    def _info(
        self,
        bucket: str,
        key: str,
        handle: int | str,
        about: os.stat_result,
        path: str,
        descriptor: int | None = None,
    ) -> ObjectInfo:
        files = self.metadata(bucket)
        metadata = files.read(handle, about)
        if not metadata.etag and not metadata.delete_marker:
            # Put there or edited by hand; remember the answer where the file system lets us.
            source = os.open(path, OPEN_FLAGS) if descriptor is None else descriptor
            try:
                metadata.etag = etag_of_file(source, about)
                with suppress(OSError):
                    files.write(source, metadata)
            finally:
                if descriptor is None:
                    os.close(source)
        return ObjectInfo(bucket, key, about.st_size, about.st_mtime_ns, metadata, path)

    def info_at(self, bucket: str, key: str, path: str) -> ObjectInfo | None:
        """Of a file met in a listing; None when it has gone since."""
        try:
            about = os.stat(path)
            if not stat.S_ISREG(about.st_mode):
                return None
            return self._info(bucket, key, path, about, path)
        except (FileNotFoundError, NotADirectoryError):
            return None

    # Writing

    def writer(self, digests: Iterable[Digest] = (), *, hashed: bool = True) -> ObjectWriter:
        try:
            return ObjectWriter(self.temporary, digests, hashed=hashed)
        except OSError as problem:
            raise object_store_full(problem) or problem from problem

    def put(
        self,
        bucket: str,
        key: str,
        data: bytes | BinaryIO,
        content_type: str = "binary/octet-stream",
        user: Mapping[str, str] | None = None,
    ) -> ObjectInfo:
        with self.writer() as writer:
            if isinstance(data, bytes):
                writer.write(data)
            else:
                while block := data.read(BLOCK_BYTES):
                    writer.write(block)
            metadata = ObjectMetadata(
                etag=writer.etag, content_type=content_type, user=dict(user or {})
            )
            return self.commit(bucket, key, writer, metadata)

    def commit(
        self,
        bucket: str,
        key: str,
        writer: ObjectWriter,
        metadata: ObjectMetadata,
        condition: Condition | None = None,
    ) -> ObjectInfo:
        """Give a written file its name, in one rename: readers see the old object or the new one, whole."""
        check_key(key)
        if self.durable:
            writer.flush()
        exclusive = bool(condition)
        for _ in range(3):
            with self.settings.lock(bucket, exclusive=exclusive):
                versioning = self.settings.get(bucket).versioning
                if versioning and not exclusive:
                    exclusive = True
                    continue
                try:
                    return self._commit(
                        bucket, key, writer, metadata, condition, versioning, exclusive
                    )
                except NeedsExclusive:
                    exclusive = True
                except OSError as problem:
                    raise _placing(problem, bucket) from problem
        raise AssertionError("an exclusive commit neither ended nor failed")

    def _commit(
        self,
        bucket: str,
        key: str,
        writer: ObjectWriter,
        metadata: ObjectMetadata,
        condition: Condition | None,
        versioning: str,
        exclusive: bool,
    ) -> ObjectInfo:
        tree, files = self.tree(bucket), self.metadata(bucket)
        before = tree.find(key, locked=True)
        if condition:
            self._require(bucket, key, before, condition)
        stamp = self.stamps.next()
        metadata.version_id = new_version_id(stamp) if versioning == "Enabled" else ""
        os.utime(writer.descriptor, ns=(stamp, stamp))
        about = files.write(writer.descriptor, metadata, is_new=True)
        if self.durable:
            writer.flush()
        kept = versioning != "" and self._keep_current(bucket, key, before, versioning)
        path = tree.place(writer.path, key, exclusive=exclusive)
        writer.placed()
        if self.durable:
            _flush_folder(path)
        if before and not kept:
            files.forget(before[0])
        if versioning == "Suspended":
            self.versions(bucket).remove(key, NULL)
        return ObjectInfo(bucket, key, about.st_size, about.st_mtime_ns, metadata, path)

    def _keep_current(
        self, bucket: str, key: str, before: tuple[os.stat_result, str] | None, versioning: str
    ) -> bool:
        """Keep the current object as a version; with versioning suspended a null version is replaced instead."""
        if before is None:
            return False
        version_id = self.metadata(bucket).read(before[1], before[0]).version_id
        if versioning == "Suspended" and not version_id:
            return False
        self.versions(bucket).keep(before[1], key, version_id)
        return True

    def _require(
        self, bucket: str, key: str, found: tuple[os.stat_result, str] | None, condition: Condition
    ) -> None:
        info = self.info_at(bucket, key, found[1]) if found else None
        if info is None:
            if condition.match:
                raise no_such_key(key)
            return
        if condition.match and not {"*", info.etag} & set(condition.match):
            raise _precondition_failed("If-Match")
        if {"*", info.etag} & set(condition.none_match):
            raise _precondition_failed("If-None-Match")
        if condition.size is not None and condition.size != info.size:
            raise _precondition_failed("x-amz-if-match-size")
        if condition.modified is not None and condition.modified != int(info.modified):
            raise _precondition_failed("x-amz-if-match-last-modified-time")

    def change_metadata(
        self, bucket: str, key: str, version_id: str, tags: dict[str, str]
    ) -> ObjectInfo:
        """Replace the tags of an object in place; its bytes, ETag and time stand."""
        with self.settings.lock(bucket, exclusive=True):
            opened = self.get(bucket, key, version_id)
            if opened is None or opened.info.metadata.delete_marker:
                if opened:
                    opened.close()
                raise no_such_version(key, version_id) if version_id else no_such_key(key)
            try:
                metadata = replace(opened.info.metadata, tags=tags)
                self.metadata(bucket).write(opened.descriptor, metadata)
            except OSError as problem:
                raise object_store_full(problem) or problem from problem
            finally:
                opened.close()
            return replace(opened.info, metadata=metadata)

    # Deleting

    def delete(
        self, bucket: str, key: str, version_id: str = "", condition: Condition | None = None
    ) -> Deleted:
        """Delete the current object, or add a delete marker, or delete one version for good."""
        check_key(key)
        versioning = self.settings.get(bucket).versioning
        exclusive = bool(versioning or version_id or condition)
        with self.settings.lock(bucket, exclusive=exclusive):
            versioning = self.settings.get(bucket).versioning if exclusive else ""
            tree, files = self.tree(bucket), self.metadata(bucket)
            found = tree.find(key)
            if condition:
                self._require(bucket, key, found, condition)
            if version_id:
                return self._delete_version(bucket, key, version_id, found)
            if versioning:
                return self._add_marker(bucket, key, found, versioning)
            if found and tree.remove(key):
                files.forget(found[0])
            return Deleted()

    def _add_marker(
        self, bucket: str, key: str, found: tuple[os.stat_result, str] | None, versioning: str
    ) -> Deleted:
        kept = self._keep_current(bucket, key, found, versioning)
        versions = self.versions(bucket)
        stamp = self.stamps.next()
        version_id = new_version_id(stamp) if versioning == "Enabled" else NULL
        with self.writer() as writer:
            os.utime(writer.descriptor, ns=(stamp, stamp))
            marker = ObjectMetadata(
                version_id="" if version_id == NULL else version_id, delete_marker=True
            )
            self.metadata(bucket).write(writer.descriptor, marker)
            versions.add(writer.path, key, version_id)
            writer.placed()
        if found:
            self.tree(bucket).remove(key)
            if not kept:
                self.metadata(bucket).forget(found[0])
        return Deleted(version_id, delete_marker=True)

    def _delete_version(
        self, bucket: str, key: str, version_id: str, found: tuple[os.stat_result, str] | None
    ) -> Deleted:
        versions, files = self.versions(bucket), self.metadata(bucket)
        current = files.read(found[1], found[0]).version_id or NULL if found else ""
        if found and current == version_id:
            versions.remove(key, version_id)  # a second link that a crash left
            self._promote(bucket, key)
            files.forget(found[0])
            return Deleted(version_id)
        path = versions.find(key, version_id)
        if path is None:
            return Deleted(version_id)
        about = os.stat(path)
        marker = files.read(path, about).delete_marker
        versions.remove(key, version_id)
        files.forget(about)
        if not found:
            self._promote(bucket, key)
        return Deleted(version_id, marker)

    def _promote(self, bucket: str, key: str) -> None:
        """Make the newest kept version the current one, unless it is a delete marker or there is none."""
        versions, tree = self.versions(bucket), self.tree(bucket)
        newest = next(iter(versions.every(key)), None)
        files = self.metadata(bucket)
        if newest is None or files.read(newest.path, newest.about).delete_marker:
            tree.remove(key)
            return
        tree.place(newest.path, key, exclusive=True)
        versions.prune(key)

    def latest_marker(self, bucket: str, key: str) -> ObjectInfo | None:
        """The delete marker that hides a key, if one does."""
        newest = next(iter(self.versions(bucket).every(key)), None)
        info = self.info_at(bucket, key, newest.path) if newest else None
        return info if info and info.metadata.delete_marker else None

    # Listing

    def list(
        self,
        bucket: str,
        prefix: str = "",
        start_after: str = "",
        limit: int = PAGE_MAX,
        delimiter: str = "",
    ) -> Page:
        """One page of the objects whose keys begin with the prefix and sort after `start_after`."""
        self.settings.get(bucket)
        objects: list[ObjectInfo] = []
        prefixes: list[str] = []
        last = start_after
        walk = self.tree(bucket).walk(prefix, start_after, delimited=delimiter == "/")
        for key, path in walk:
            rolled = rolled_up(key, prefix, delimiter)
            if rolled and (start_after >= rolled + LAST or (prefixes and prefixes[-1] == rolled)):
                continue
            if len(objects) + len(prefixes) >= limit:
                return Page(objects, prefixes, last)
            if rolled:
                prefixes.append(rolled)
                last = rolled + LAST
            elif info := self.info_at(bucket, key, path):
                objects.append(info)
                last = key
        return Page(objects, prefixes)


def rolled_up(key: str, prefix: str, delimiter: str) -> str:
    """The common prefix that stands for the key in a delimited listing; empty if the key stands for itself."""
    if not delimiter:
        return ""
    found = key.find(delimiter, len(prefix))
    return key[: found + len(delimiter)] if found >= 0 else ""


def check_key(key: str) -> None:
    if not key:
        raise ApiError("A key must not be empty.", code="InvalidArgument", status=400)
    if not is_key(key):
        raise ApiError(
            "Your key is too long",
            code="KeyTooLongError",
            status=400,
            Size=str(len(key.encode("utf-8", "replace"))),
            MaxSizeAllowed="1024",
        )


def no_such_key(key: str) -> ApiError:
    return ApiError("The specified key does not exist.", code="NoSuchKey", status=404, Key=key)


def no_such_version(key: str, version_id: str) -> ApiError:
    return ApiError(
        "The specified version does not exist.",
        code="NoSuchVersion",
        status=404,
        Key=key,
        VersionId=version_id,
    )


def _precondition_failed(condition: str) -> ApiError:
    return ApiError(
        "At least one of the pre-conditions you specified did not hold",
        code="PreconditionFailed",
        status=412,
        Condition=condition,
    )


def _placing(problem: OSError, bucket: str) -> Exception:
    """What a failure to give a file its name means to the client."""
    full = object_store_full(problem)
    if full:
        return full
    if problem.errno == errno.ENOENT:
        return no_such_bucket(bucket)
    if problem.errno == errno.ENAMETOOLONG:
        message = "Your key is too long for the file system that holds the object store."
        return ApiError(message, code="KeyTooLongError", status=400)
    if problem.errno == errno.EXDEV:
        message = (
            "The bucket's folder leads to another file system, so that objects cannot be moved into it at once. "
            "Mount that file system at the store's root instead."
        )
        return ApiError(message, code="InvalidBucketState", status=409)
    return problem


def _flush_folder(path: str) -> None:
    descriptor = os.open(os.path.dirname(path), os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
