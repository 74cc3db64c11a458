"""The earlier versions of a bucket's objects, and its delete markers, kept out of the way of the current ones.

The current version of a key is always the plain file; everything else is a file in `<key>%v/`, named by version id.
A hard link is made before the plain file is replaced, so a crash leaves at worst a version listed twice, which
readers drop. All methods that change something need the bucket's exclusive lock.
"""

# Paths are strings here: a Path costs more than the system call it is for.
# ruff: noqa: PTH103, PTH104, PTH108, PTH112, PTH113, PTH121

from __future__ import annotations

import contextlib
import os
import re
import secrets
from dataclasses import dataclass

from clary.store.object_names import VERSIONS_SUFFIX, path_of_key
from clary.store.object_tree import Listings, Tree

NULL = "null"
_ID = re.compile(r"[0-9A-Za-z._-]{1,64}")


@dataclass(frozen=True, slots=True)
class Kept:
    """One version that is not current."""

    version_id: str
    path: str
    about: os.stat_result


def new_version_id(stamp: int) -> str:
    return f"{stamp:016x}{secrets.token_hex(8)}"


class Versions:
    def __init__(self, root: str, listings: Listings) -> None:
        self.root = root
        self.tree = Tree(root, listings)

    def folder(self, key: str) -> str:
        return f"{self.root}/{path_of_key(key)}{VERSIONS_SUFFIX}"

    def exist(self) -> bool:
        return os.path.isdir(self.root)

    def keep(self, path: str, key: str, version_id: str) -> None:
        """Keep the file at `path`, the current version, under its id."""
        target = self._target(key, version_id or NULL)
        try:
            os.link(path, target)
        except FileExistsError:
            if not os.path.samefile(path, target):
                os.unlink(target)
                os.link(path, target)

    def add(self, source: str, key: str, version_id: str) -> None:
        """Move a finished file, a delete marker, among the versions."""
        os.rename(source, self._target(key, version_id))

    def _target(self, key: str, version_id: str) -> str:
        folder = self.folder(key)
        os.makedirs(folder, exist_ok=True)
        return f"{folder}/{version_id}"

    def find(self, key: str, version_id: str) -> str | None:
        if not _ID.fullmatch(version_id) or version_id in (".", ".."):
            return None
        path = f"{self.folder(key)}/{version_id}"
        return path if os.path.isfile(path) else None

    def every(self, key: str) -> list[Kept]:
        """Newest first."""
        return self.in_folder(self.folder(key))

    def in_folder(self, folder: str) -> list[Kept]:
        found: list[Kept] = []
        try:
            with os.scandir(folder) as entries:
                found = [Kept(e.name, e.path, e.stat()) for e in entries if e.is_file()]
        except (FileNotFoundError, NotADirectoryError):
            return found
        return sorted(found, key=lambda kept: kept.about.st_mtime_ns, reverse=True)

    def remove(self, key: str, version_id: str) -> None:
        folder = self.folder(key)
        with contextlib.suppress(FileNotFoundError):
            os.unlink(f"{folder}/{version_id}")
        self.prune(key)

    def prune(self, key: str) -> None:
        self.tree.prune(f"{self.folder(key)}/x")
