"""Buckets: a directory each, with a small document for what S3 remembers of them, and a lock."""

# Paths are strings here: a Path costs more than the system call it is for.
# ruff: noqa: PTH102, PTH103, PTH104, PTH105, PTH108, PTH112, PTH116

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
import threading
from collections import OrderedDict
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field, fields, replace

import orjson

from clary.model.errors import ApiError
from clary.store.object_names import is_bucket_name

HIDDEN = ".clary"
CACHED_BUCKETS_MAX = 1024


@dataclass(frozen=True, slots=True)
class Bucket:
    name: str
    region: str = "us-east-1"
    created: float = 0.0
    versioning: str = ""  # "" | Enabled | Suspended
    # Documents as the client sent them, by the word of their sub-resource: "policy", "cors", "lifecycle", ...
    documents: dict[str, str] = field(default_factory=dict[str, str])
    tags: dict[str, str] = field(default_factory=dict[str, str])


_NAMES = frozenset(found.name for found in fields(Bucket))


def no_such_bucket(name: str) -> ApiError:
    return ApiError(
        "The specified bucket does not exist", code="NoSuchBucket", status=404, BucketName=name
    )


class Buckets:
    """The buckets under one root. A directory made by hand is a bucket too, with default settings."""

    def __init__(self, root: str, default_region: str) -> None:
        self.root = root
        self._region = default_region
        self._guard = threading.Lock()
        self._cache: OrderedDict[str, tuple[tuple[int, int], Bucket]] = OrderedDict()
        for folder in ("tmp", "locks", "buckets"):
            os.makedirs(f"{root}/{HIDDEN}/{folder}", exist_ok=True)

    def path(self, name: str) -> str:
        return f"{self.root}/{name}"

    def hidden(self, name: str) -> str:
        """The folder for a bucket's settings, versions and uploads."""
        return f"{self.root}/{HIDDEN}/buckets/{name}"

    def every(self) -> list[Bucket]:
        with os.scandir(self.root) as entries:
            names = sorted(e.name for e in entries if is_bucket_name(e.name) and e.is_dir())
        return [bucket for name in names if (bucket := self.find(name))]

    def get(self, name: str) -> Bucket:
        bucket = self.find(name)
        if bucket is None:
            raise no_such_bucket(name)
        return bucket

    def find(self, name: str) -> Bucket | None:
        if not is_bucket_name(name):
            return None
        try:
            directory = os.stat(self.path(name))
        except (FileNotFoundError, NotADirectoryError):
            return None
        settings = f"{self.hidden(name)}/bucket.json"
        try:
            about = os.stat(settings)
            stamp = (about.st_mtime_ns, about.st_ino)
        except FileNotFoundError:
            return Bucket(name, self._region, directory.st_ctime)
        known = self._cache.get(name)
        if known and known[0] == stamp:
            return known[1]
        bucket = _read(name, settings)
        with self._guard:
            self._cache[name] = (stamp, bucket)
            while len(self._cache) > CACHED_BUCKETS_MAX:
                self._cache.popitem(last=False)
        return bucket

    def create(self, bucket: Bucket) -> bool:
        """Make the bucket; False when it exists."""
        if not is_bucket_name(bucket.name):
            raise ApiError(
                "The specified bucket is not valid.",
                code="InvalidBucketName",
                status=400,
                BucketName=bucket.name,
            )
        with self.lock(bucket.name, exclusive=True):
            if os.path.isdir(self.path(bucket.name)):
                return False
            self._write(bucket)
            os.mkdir(self.path(bucket.name))
            return True

    def change(self, name: str, **members: object) -> Bucket:
        with self.lock(name, exclusive=True):
            bucket = replace(self.get(name), **members)  # type: ignore[arg-type]
            self._write(bucket)
            return bucket

    def set_document(self, name: str, word: str, text: str) -> None:
        """Keep one sub-resource of a bucket; an empty text removes it."""
        with self.lock(name, exclusive=True):
            bucket = self.get(name)
            documents = {k: v for k, v in bucket.documents.items() if k != word}
            if text:
                documents[word] = text
            self._write(replace(bucket, documents=documents))

    def remove(self, name: str) -> None:
        """Remove an empty bucket; the caller holds its exclusive lock."""
        grave = f"{self.root}/{HIDDEN}/tmp/removed-{name}-{os.getpid()}-{threading.get_ident()}"
        os.rename(self.path(name), grave)
        shutil.rmtree(grave)
        with contextlib.suppress(FileNotFoundError):
            os.unlink(f"{self.hidden(name)}/bucket.json")
        shutil.rmtree(self.hidden(name), ignore_errors=True)

    @contextlib.contextmanager
    def lock(self, name: str, *, exclusive: bool = False) -> Iterator[None]:
        """Hold the bucket's lock, among threads and processes. Shared suffices to add or remove one object;
        exclusive is for what must see the bucket at rest. Held for the time of a few renames."""
        if not is_bucket_name(name):
            raise no_such_bucket(name)
        descriptor = os.open(
            f"{self.root}/{HIDDEN}/locks/{name}", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600
        )
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX if exclusive else fcntl.LOCK_SH)
            yield
        finally:
            os.close(descriptor)

    def _write(self, bucket: Bucket) -> None:
        folder = self.hidden(bucket.name)
        os.makedirs(folder, exist_ok=True)
        temporary = f"{folder}/bucket.json.{os.getpid()}.{threading.get_ident()}"
        with open(temporary, "wb") as file:
            file.write(orjson.dumps(asdict(bucket), option=orjson.OPT_INDENT_2))
        os.replace(temporary, f"{folder}/bucket.json")


def _read(name: str, path: str) -> Bucket:
    with open(path, "rb") as file:
        document = orjson.loads(file.read())
    known = {key: value for key, value in document.items() if key in _NAMES}
    return Bucket(**{**known, "name": name})
