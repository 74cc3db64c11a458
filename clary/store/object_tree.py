"""A directory tree of files named by keys: find, place, remove, and walk in key order.

Entries are truth and nothing is remembered between calls, so that two processes may use one tree. The only cache
holds large directory listings and is checked against the directory's own time stamp.
"""

# Paths are strings here: a Path costs more than the system call it is for.
# ruff: noqa: PTH102, PTH104, PTH106, PTH108, PTH112, PTH116

from __future__ import annotations

import contextlib
import errno
import os
import stat
import threading
import time
from bisect import bisect_left
from collections import OrderedDict
from collections.abc import Iterator
from dataclasses import dataclass, field

from clary.store.object_names import (
    FILE_SUFFIX,
    MORE_SUFFIX,
    VERSIONS_SUFFIX,
    path_of_key,
    path_of_segment,
    segment_of_name,
)

LAST = "\U0010ffff"  # sorts after every character of a key
ATTEMPTS_MAX = 64
CACHED_ENTRIES_MIN = 128
CACHED_ENTRIES_MAX = 300_000
SETTLED_SECONDS = (
    0.05  # a directory that changed more recently may change again within one time stamp
)
OPEN_FLAGS = os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK  # a FIFO put there by hand must not block


class NeedsExclusive(Exception):
    """An object must move aside for a directory, which only the holder of the exclusive lock may do."""


@dataclass(slots=True)
class Listing:
    """One directory: names in key order, directories with a final "/"; `paths` names those not spelled plainly."""

    names: list[str]
    paths: dict[str, str] = field(default_factory=dict[str, str])


class Listings:
    """Recently read large directories, each valid as long as the directory's time stamp stands."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._found: OrderedDict[str, tuple[int, int, Listing]] = OrderedDict()
        self._entries = 0

    def read(self, directory: str) -> Listing:
        """Raise FileNotFoundError or NotADirectoryError when there is no such directory."""
        about = os.stat(directory)
        with self._lock:
            known = self._found.get(directory)
            if known and known[:2] == (about.st_mtime_ns, about.st_ino):
                self._found.move_to_end(directory)
                return known[2]
        listing = read_directory(directory)
        settled = time.time() - about.st_mtime > SETTLED_SECONDS
        if len(listing.names) >= CACHED_ENTRIES_MIN and settled and not listing.paths:
            self._keep(directory, about, listing)
        return listing

    def _keep(self, directory: str, about: os.stat_result, listing: Listing) -> None:
        with self._lock:
            previous = self._found.pop(directory, None)
            self._entries -= len(previous[2].names) if previous else 0
            self._found[directory] = (about.st_mtime_ns, about.st_ino, listing)
            self._entries += len(listing.names)
            while self._entries > CACHED_ENTRIES_MAX and self._found:
                _, (_, _, oldest) = self._found.popitem(last=False)
                self._entries -= len(oldest.names)


def read_directory(directory: str) -> Listing:
    """Names of one directory in key order; of names that stand for no key, none."""
    files: dict[str, str] = {}
    names: list[str] = []
    paths: dict[str, str] = {}
    _gather(directory, "", "", names, files, paths)
    names.extend(files)
    for name, path in files.items():
        if path != name:
            paths[name] = path
    names.sort()
    return Listing(names, paths)


def _gather(
    directory: str,
    prefix: str,
    within: str,
    names: list[str],
    files: dict[str, str],
    paths: dict[str, str],
) -> None:
    """Add one directory's entries; a segment too long for one name is put together again."""
    with os.scandir(directory) as entries:
        for entry in entries:
            name = entry.name
            if "%" not in name and name.isascii():
                segment: str | None = name
            elif name.endswith(MORE_SUFFIX):
                start = segment_of_name(name.removesuffix(MORE_SUFFIX))
                if start is not None and entry.is_dir():
                    _gather(entry.path, prefix + start, f"{within}{name}/", names, files, paths)
                continue
            elif name.endswith(FILE_SUFFIX):
                segment = segment_of_name(name.removesuffix(FILE_SUFFIX))
                if segment is not None and entry.is_file():
                    files.setdefault(prefix + segment, within + name)
                continue
            elif name.endswith(VERSIONS_SUFFIX):
                segment = segment_of_name(name.removesuffix(VERSIONS_SUFFIX))
                if segment is not None:
                    files[prefix + segment] = within + name
                continue
            else:
                segment = segment_of_name(name)
                if segment is None or (not prefix and path_of_segment(segment) != name):
                    continue
            if entry.is_dir():
                names.append(f"{prefix}{segment}/")
                if prefix or segment != name:
                    paths[f"{prefix}{segment}/"] = within + name
            elif entry.is_file():
                files[prefix + segment] = within + name


def _places(path: str, *, locked: bool = False) -> tuple[str, ...]:
    """Where an object may lie. It moves aside while objects below its name exist, and back after: a reader that looks
    at one place just before and at the other just after such a move must look again. Who holds the bucket's lock
    need not: objects move only under the exclusive one."""
    return (path, path + FILE_SUFFIX) * (1 if locked else 3)


class Tree:
    """Keys under one directory, which must exist. Callers hold the bucket's lock where they change it."""

    def __init__(self, root: str, listings: Listings) -> None:
        self.root = root
        self._listings = listings

    def open(self, key: str) -> tuple[int, os.stat_result, str] | None:
        """A descriptor of the key's regular file, its stat and its path; None when there is none."""
        path = f"{self.root}/{path_of_key(key)}"
        for candidate in _places(path):
            try:
                descriptor = os.open(candidate, OPEN_FLAGS)
            except (FileNotFoundError, IsADirectoryError):
                continue
            except OSError as problem:
                if problem.errno in (errno.ENOTDIR, errno.ENXIO, errno.ENAMETOOLONG, errno.ELOOP):
                    continue
                raise
            about = os.fstat(descriptor)
            if stat.S_ISREG(about.st_mode):
                return descriptor, about, candidate
            os.close(descriptor)
        return None

    def find(self, key: str, *, locked: bool = False) -> tuple[os.stat_result, str] | None:
        path = f"{self.root}/{path_of_key(key)}"
        for candidate in _places(path, locked=locked):
            try:
                about = os.stat(candidate)
            except OSError as problem:
                if problem.errno in (
                    errno.ENOENT,
                    errno.ENOTDIR,
                    errno.ENAMETOOLONG,
                    errno.ELOOP,
                ):
                    continue
                raise
            if stat.S_ISREG(about.st_mode):
                return about, candidate
        return None

    def place(self, source: str, key: str, *, exclusive: bool) -> str:
        """Rename `source` to the key's file, in place of the one before; return the path.

        Raise NeedsExclusive when an object must move aside first, FileNotFoundError when the root is gone."""
        path = f"{self.root}/{path_of_key(key)}"
        for _ in range(ATTEMPTS_MAX):
            try:
                os.rename(source, path)
            except IsADirectoryError:
                with contextlib.suppress(FileNotFoundError):
                    os.rename(source, path + FILE_SUFFIX)
                    return path + FILE_SUFFIX
            except (FileNotFoundError, NotADirectoryError):
                # Another writer may remove a directory that became empty between our two calls: try again.
                self._make_parents(path, exclusive=exclusive)
            else:
                _unlink(path + FILE_SUFFIX)
                return path
        raise OSError(errno.EBUSY, "the directory keeps disappearing", path)

    def _make_parents(self, path: str, *, exclusive: bool) -> None:
        os.stat(self.root)  # never bring back a bucket that was deleted
        parts = path[len(self.root) + 1 :].split("/")[:-1]
        parent = self.root
        for part in parts:
            parent = f"{parent}/{part}"
            try:
                os.mkdir(parent)
            except FileExistsError:
                if os.path.isdir(parent) or not os.path.lexists(parent):
                    continue
                if not exclusive:
                    raise NeedsExclusive(parent) from None
                os.rename(parent, parent + FILE_SUFFIX)
                os.mkdir(parent)
            except (FileNotFoundError, NotADirectoryError):
                return  # changed under our feet; the caller tries again

    def remove(self, key: str) -> bool:
        """Remove the key's file, and the directories that become empty."""
        path = f"{self.root}/{path_of_key(key)}"
        aside = _unlink(path + FILE_SUFFIX)
        removed = _unlink(path)
        if removed or aside:
            self.prune(path)
        return removed or aside

    def prune(self, path: str) -> None:
        """Remove the empty directories above a path, up to the root."""
        while True:
            path = path.rpartition("/")[0]
            if len(path) <= len(self.root):
                return
            try:
                os.rmdir(path)
            except OSError:
                return  # not empty, or gone already

    def walk(
        self, prefix: str = "", after: str = "", *, delimited: bool = False
    ) -> Iterator[tuple[str, str]]:
        """(key, path) of every key that has the prefix and sorts after `after`, in key order. `delimited` yields
        a key's directory, once, with an empty path, where the rest of the key has a "/"."""
        base = prefix[: prefix.rfind("/") + 1]
        segments = base[:-1].split("/") if base else []
        top = "/".join([self.root, *map(path_of_segment, segments)])
        yield from self._walk(top, base, prefix, after, delimited=delimited)

    def _walk(
        self, top: str, base: str, prefix: str, after: str, *, delimited: bool
    ) -> Iterator[tuple[str, str]]:
        """Walk below the directory `top`, which holds the keys that begin with `base`."""
        stack = [self._level(top, base, prefix, after)]
        while stack:
            directory, start, names, paths = stack[-1]
            name = next(names, None)
            if name is None or not (start + name).startswith(prefix):
                if name is None or start + name > prefix:
                    stack.pop()
                continue
            key = start + name
            if name[-1:] != "/":
                if key > after:
                    yield key, f"{directory}/{paths.get(name) or path_of_segment(name)}"
                continue
            if after > key and not after.startswith(key):
                continue
            below = f"{directory}/{paths.get(name) or path_of_segment(name[:-1])}"
            if not delimited:
                stack.append(self._level(below, key, prefix, after))
                continue
            if next(self._walk(below, key, key, after, delimited=False), None):
                yield key, ""

    def _level(
        self, directory: str, start: str, prefix: str, after: str
    ) -> tuple[str, str, Iterator[str], dict[str, str]]:
        try:
            listing = self._listings.read(directory)
        except (FileNotFoundError, NotADirectoryError):
            return directory, start, iter(()), {}
        names = listing.names
        index = bisect_left(names, prefix[len(start) :]) if len(prefix) > len(start) else 0
        if after.startswith(start):
            # The directory that `after` lies in sorts before it, but its later keys are still to come.
            head, slash, _ = after[len(start) :].partition("/")
            index = max(index, bisect_left(names, head + slash))
        return directory, start, iter(names[index:]), listing.paths


def _unlink(path: str) -> bool:
    try:
        os.unlink(path)
    except FileNotFoundError:
        return False
    except OSError as problem:
        if problem.errno in (errno.ENOTDIR, errno.EISDIR, errno.ENAMETOOLONG):
            return False
        raise
    return True
