"""Listing every version of a bucket's objects: the plain files and the kept versions, merged by key."""

from __future__ import annotations

import heapq
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import groupby

from clary.store.object_tree import LAST
from clary.store.objects import PAGE_MAX, ObjectInfo, Objects, rolled_up


@dataclass(frozen=True, slots=True)
class HistoryEntry:
    info: ObjectInfo
    latest: bool


@dataclass(frozen=True, slots=True)
class HistoryPage:
    entries: list[HistoryEntry]
    prefixes: list[str]
    next_key: str = ""  # empty when this is the last page
    next_version: str = ""


def list_versions(
    objects: Objects,
    bucket: str,
    prefix: str = "",
    key_marker: str = "",
    version_marker: str = "",
    limit: int = PAGE_MAX,
    delimiter: str = "",
) -> HistoryPage:
    """One page of versions and delete markers, by key and then newest first, after the markers."""
    objects.settings.get(bucket)
    page = HistoryPage([], [])
    # The marker's own key is looked at again, for its versions after the version marker.
    after = key_marker if not version_marker else key_marker[:-1]
    last = (key_marker, version_marker)
    for key, current, folder in _keys(objects, bucket, prefix, after):
        if key < key_marker or (key == key_marker and not version_marker):
            continue
        rolled = rolled_up(key, prefix, delimiter)
        if rolled:
            if rolled in page.prefixes[-1:] or key_marker >= rolled + LAST:
                continue
            if len(page.entries) + len(page.prefixes) >= limit:
                return HistoryPage(page.entries, page.prefixes, *last)
            page.prefixes.append(rolled)
            last = (rolled + LAST, "")
            continue
        skipping = key == key_marker
        for entry in _history(objects, bucket, key, current, folder):
            if skipping:
                skipping = entry.info.version_id != version_marker
                continue
            if len(page.entries) + len(page.prefixes) >= limit:
                return HistoryPage(page.entries, page.prefixes, *last)
            page.entries.append(entry)
            last = (key, entry.info.version_id)
    return page


def _keys(objects: Objects, bucket: str, prefix: str, after: str) -> Iterator[tuple[str, str, str]]:
    """(key, path of the current object, folder of the versions) in key order; either may be empty."""
    current = ((key, 0, path) for key, path in objects.tree(bucket).walk(prefix, after))
    versions = objects.versions(bucket)
    kept = ((key, 1, folder) for key, folder in versions.tree.walk(prefix, after))
    for key, group in groupby(heapq.merge(current, kept), key=lambda found: found[0]):
        paths = {which: path for _, which, path in group}
        yield key, paths.get(0, ""), paths.get(1, "")


def _history(
    objects: Objects, bucket: str, key: str, current: str, folder: str
) -> Iterator[HistoryEntry]:
    info = objects.info_at(bucket, key, current) if current else None
    if info:
        yield HistoryEntry(info, latest=True)
    latest = info is None
    for kept in objects.versions(bucket).in_folder(folder) if folder else ():
        found = objects.info_at(bucket, key, kept.path)
        if found is None or (info and found.version_id == info.version_id):
            continue  # gone meanwhile, or a second link to the current version
        yield HistoryEntry(found, latest=latest)
        latest = False
