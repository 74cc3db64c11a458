"""Tar archives: unpacked without trust, packed so that the same files give the same bytes."""

from __future__ import annotations

import os
import posixpath
import tarfile
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple, Protocol

from . import trees
from .gzips import GunzipSource, GzipSink

ENTRIES_MAX = 1_000_000
HEADER_BYTES_MAX = 1024 * 1024
CHUNK_BYTES = 256 * 1024
_EXTENDED = (
    tarfile.XHDTYPE,
    tarfile.XGLTYPE,
    tarfile.SOLARIS_XHDTYPE,
    tarfile.GNUTYPE_LONGNAME,
    tarfile.GNUTYPE_LONGLINK,
)


class ArchiveFault(Exception):
    """An archive that is broken, hostile, or too large; the text says which."""


class Readable(Protocol):
    def read(self, size: int, /) -> bytes: ...


class Writable(Protocol):
    def write(self, data: bytes, /) -> int: ...


class Contents(NamedTuple):
    bytes: int
    files: int


class Tree(NamedTuple):
    """A directory to pack, named so that no link of the program's making is followed."""

    root: Path
    relative: str


def free_bytes(directory: Path) -> int:
    status = os.statvfs(directory)
    return status.f_bavail * status.f_frsize


def unpack(
    source: Readable,
    directory: Path,
    *,
    bytes_max: int | None = None,
    entries_max: int = ENTRIES_MAX,
) -> Contents:
    """Unpack a tar, plain or compressed, from a stream; raise ArchiveFault, leaving what is there.

    Nothing is written outside `directory`: links are made last, after every file, and checked
    where they really lead, since a chain of links that each stay inside can still lead out.
    """
    directory.mkdir(parents=True, exist_ok=True)
    allowed = free_bytes(directory) if bytes_max is None else bytes_max
    unpacking = _Unpacking(directory, allowed, entries_max)
    stream = _opened(source)
    try:
        with tarfile.open(
            fileobj=stream,  # type: ignore[arg-type]
            mode="r|" if isinstance(stream, (GunzipSource, _Peeked)) and stream.plain else "r|*",
            bufsize=64 * 1024,
            tarinfo=_BoundedTarInfo,
        ) as archive:
            while True:
                member = archive.next()
                if member is None:
                    break
                unpacking.add(archive, member)
                # tarfile remembers every member; a million of them is a gigabyte.
                archive.members = []  # type: ignore[attr-defined]
        stream.drain()
    except (tarfile.TarError, EOFError, zlib.error) as problem:
        raise ArchiveFault(f"it is not a whole tar archive ({problem})") from problem
    except (ValueError, OverflowError) as problem:
        raise ArchiveFault(f"it holds a name that cannot be used ({problem})") from problem
    unpacking.make_links()
    return Contents(unpacking.bytes, unpacking.files)


def pack(sources: Sequence[Tree], sink: Writable, *, level: int = 1) -> Contents:
    """Write a tar.gz of what the sources hold, without a top directory; later sources win.

    Owners are dropped and modification times kept. Links that stay inside are kept, others are not.
    """
    chosen = _merged(sources)
    squeezed = GzipSink(sink, level)
    try:
        contents = _write_all(chosen, squeezed)
        squeezed.close()
    except BaseException:
        squeezed.abandon()
        raise
    return contents


def _write_all(chosen: dict[str, tuple[Tree, trees.Entry]], squeezed: GzipSink) -> Contents:
    total = files = 0
    with tarfile.open(
        fileobj=squeezed,  # type: ignore[arg-type]
        mode="w",
        format=tarfile.PAX_FORMAT,
        copybufsize=CHUNK_BYTES,  # type: ignore[call-arg]
    ) as archive:
        for path in sorted(chosen):
            tree, entry = chosen[path]
            info = tarfile.TarInfo(path)
            info.mode = entry.mode & 0o777
            info.mtime = entry.mtime_ns // 1_000_000_000
            if entry.kind == "directory":
                info.type = tarfile.DIRTYPE
                archive.addfile(info)
            elif entry.kind == "link":
                info.type = tarfile.SYMTYPE
                info.linkname = entry.target
                archive.addfile(info)
            else:
                total += _add_file(archive, info, tree)
                files += 1
    return Contents(total, files)


def _add_file(archive: tarfile.TarFile, info: tarfile.TarInfo, tree: Tree) -> int:
    descriptor = trees.open_file(tree.root, f"{tree.relative}/{info.name}")
    with os.fdopen(descriptor, "rb", buffering=0) as opened:
        info.size = os.fstat(descriptor).st_size
        archive.addfile(info, opened)
    return info.size


def _merged(sources: Sequence[Tree]) -> dict[str, tuple[Tree, trees.Entry]]:
    chosen: dict[str, tuple[Tree, trees.Entry]] = {}
    for tree in sources:
        for entry in trees.walk(tree.root, tree.relative):
            if entry.kind == "link":
                target = _inner_target(entry, tree)
                if target is None:
                    continue
                entry = entry._replace(target=target)
            chosen[entry.path] = (tree, entry)
    if len(sources) > 1:
        # One host's file may be another's directory: the file, being there, hides what lies below.
        barred = {path for path, (_, entry) in chosen.items() if entry.kind != "directory"}
        for path in [path for path in chosen if _below(path, barred)]:
            del chosen[path]
    return chosen


def _below(path: str, barred: set[str]) -> bool:
    parent = posixpath.dirname(path)
    while parent:
        if parent in barred:
            return True
        parent = posixpath.dirname(parent)
    return False


def _inner_target(entry: trees.Entry, tree: Tree) -> str | None:
    """Where a link leads, as a relative path that stays inside the packed directory, or None."""
    target = entry.target
    top = f"/opt/ml/{tree.relative.strip('/')}"
    folder = posixpath.dirname(entry.path)
    if target == top or target.startswith(top + "/"):
        target = posixpath.relpath(target, posixpath.join(top, folder))
    if target.startswith("/"):
        return None
    landing = posixpath.normpath(posixpath.join(folder, target))
    return None if landing == ".." or landing.startswith("../") else target


class _BoundedTarInfo(tarfile.TarInfo):
    """Long names are read into memory whole; no honest one needs a megabyte."""

    def _proc_member(self, tar: Any) -> Any:
        if self.type in _EXTENDED and self.size > HEADER_BYTES_MAX:
            raise tarfile.ReadError(f"a header of {self.size} bytes")
        return super()._proc_member(tar)  # type: ignore[misc]


class _Peeked:
    """A stream whose first bytes were looked at and are given again."""

    def __init__(self, source: Readable, first: bytes) -> None:
        self._source = source
        self._first = first
        # A compression other than gzip is left to tarfile, which also reads bzip2 and xz.
        self.plain = not first.startswith((b"BZh", b"\xfd7zXZ"))

    def read(self, size: int) -> bytes:
        if self._first:
            data, self._first = self._first[:size], self._first[size:]
            return data
        return self._source.read(size)

    def drain(self) -> None:
        """Read to the end, so that a stream that checks itself there has done so."""
        while self.read(CHUNK_BYTES):
            continue


def _opened(source: Readable) -> GunzipSource | _Peeked:
    first = source.read(512)
    if not first:
        raise ArchiveFault("it is empty")
    peeked = _Peeked(source, first)
    return GunzipSource(peeked) if first.startswith(b"\x1f\x8b") else peeked


class _Unpacking:
    """What one archive has put down so far, and how much more it may."""

    def __init__(self, directory: Path, bytes_max: int, entries_max: int) -> None:
        self._directory = directory
        self._bytes_max = bytes_max
        self._entries_max = entries_max
        self._links: list[tuple[str, str]] = []
        self._made: set[str] = {""}
        self._entries = 0
        self.bytes = 0
        self.files = 0

    def add(self, archive: tarfile.TarFile, member: tarfile.TarInfo) -> None:
        self._entries += 1
        if self._entries > self._entries_max:
            raise ArchiveFault(f"it holds more than {self._entries_max} entries")
        name = _inner_name(member.name)
        if member.isdir():
            self._make_directory(name)
            return
        if not name:
            raise ArchiveFault(f"its entry {member.name!r} names the directory itself")
        self._make_directory(posixpath.dirname(name))
        if member.issym():
            self._links.append((name, member.linkname))
        elif member.islnk():
            self._link_again(name, member.linkname)
        elif member.isreg():
            self._write(archive, member, name)
        else:
            raise ArchiveFault(f"its entry {member.name!r} is a device or a pipe")

    def make_links(self) -> None:
        """Make the links, then see where each one leads; one that leads out removes them all."""
        made: list[Path] = []
        for name, target in self._links:
            path = self._directory / name
            if path.is_symlink() or path.is_file():
                path.unlink()
            try:
                path.symlink_to(target)
            except (FileExistsError, IsADirectoryError) as problem:
                raise ArchiveFault(f"its entries {name!r} and {name + '/'!r} clash") from problem
            made.append(path)
        top = os.path.realpath(self._directory)
        for path in made:
            real = os.path.realpath(path)
            if real != top and not real.startswith(top + os.sep):
                for link in made:
                    link.unlink()
                name = path.relative_to(self._directory)
                raise ArchiveFault(f"its link {str(name)!r} leads out of the archive")

    def _make_directory(self, name: str) -> None:
        if name in self._made:
            return
        try:
            (self._directory / name).mkdir(parents=True, exist_ok=True)
        except (FileExistsError, NotADirectoryError) as problem:
            raise ArchiveFault(f"its entry {name!r} is both a file and a directory") from problem
        self._made.add(name)

    def _write(self, archive: tarfile.TarFile, member: tarfile.TarInfo, name: str) -> None:
        if self.bytes + member.size > self._bytes_max:
            raise ArchiveFault(
                f"it needs more than the {self._bytes_max} bytes that are free on the disk"
            )
        path = self._directory / name
        opened = archive.extractfile(member)
        assert opened is not None, "a regular member has contents"
        with opened, self._create(path, member.mode) as written:
            left = member.size
            while left:
                data = opened.read(min(left, CHUNK_BYTES))
                if not data:
                    raise ArchiveFault(f"it is not a whole tar archive ({name!r} is cut short)")
                written.write(data)
                left -= len(data)
        if member.mtime >= 0:
            os.utime(path, (member.mtime, member.mtime))
        self.bytes += member.size
        self.files += 1

    def _create(self, path: Path, mode: int) -> Any:
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
        try:
            descriptor = os.open(path, flags, 0o600)
        except FileExistsError:
            if path.is_dir() and not path.is_symlink():
                raise ArchiveFault(
                    f"its entry {path.name!r} is both a file and a directory"
                ) from None
            path.unlink()
            descriptor = os.open(path, flags, 0o600)
        os.fchmod(descriptor, (mode & 0o777) | 0o600)
        return os.fdopen(descriptor, "wb", buffering=0)

    def _link_again(self, name: str, target: str) -> None:
        inner = _inner_name(target)
        source, path = self._directory / inner, self._directory / name
        if any(link == inner for link, _ in self._links):
            up = posixpath.relpath(inner, posixpath.dirname(name) or ".")
            self._links.append((name, up))
            return
        if source.is_symlink() or not source.is_file():
            raise ArchiveFault(f"its link {name!r} names {target!r}, which it does not hold")
        if path == source:
            return
        path.unlink(missing_ok=True)
        os.link(source, path)
        self.files += 1


def _inner_name(name: str) -> str:
    parts = [part for part in name.split("/") if part not in ("", ".")]
    if name.startswith("/") or ".." in parts:
        raise ArchiveFault(f"its entry {name!r} leads out of the archive")
    return "/".join(parts)
