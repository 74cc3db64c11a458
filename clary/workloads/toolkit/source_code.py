"""The user's code: from S3, from an archive or from a directory, to /opt/ml/code."""

from __future__ import annotations

import os
import shutil
import tarfile
import tempfile
import zlib
from pathlib import Path, PurePosixPath

from clary.workloads.toolkit.downloads import download
from clary.workloads.toolkit.failures import UserError

MEMBERS_MAX = 100_000
BYTES_MAX = 10 << 30
DAMAGED = (tarfile.TarError, EOFError, OSError, zlib.error)


class CodeError(UserError):
    """The user's code cannot be had or unpacked."""


def stage(source: str, target: Path) -> None:
    """Fill `target` with the code; what is there already wins, as in the public toolkit."""
    target.mkdir(parents=True, exist_ok=True)
    if any(target.iterdir()):
        return
    if source.startswith("file://"):
        source = source[len("file://") :]
    if source.startswith("s3://"):
        with tempfile.TemporaryDirectory() as scratch:
            archive = Path(scratch) / "source"
            download(source, archive, os.environ)
            unpack(archive, target)
        return
    path = Path(source)
    if path.is_dir():
        if path.resolve() != target.resolve():
            shutil.copytree(path, target, dirs_exist_ok=True)
    elif path.is_file():
        if tarfile.is_tarfile(source):
            unpack(path, target)
        else:
            shutil.copy2(source, target)
    else:
        raise CodeError(f"The code {source} does not exist.")


def unpack(archive: Path, target: Path) -> None:
    """Unpack a tar archive; nothing it says can write outside `target`."""
    root = target.resolve()
    count = size = 0
    try:
        with tarfile.open(archive, "r:*") as tar:
            for member in tar:
                count, size = count + 1, size + max(member.size, 0)
                if count > MEMBERS_MAX or size > BYTES_MAX:
                    raise CodeError("The code archive is too large to unpack.")
                _unpack_member(tar, member, root)
    except DAMAGED as problem:
        raise CodeError(f"The code archive is damaged: {problem}") from problem


def _unpack_member(tar: tarfile.TarFile, member: tarfile.TarInfo, root: Path) -> None:
    name = PurePosixPath(member.name)
    path = _inside(root, root / name, member.name)
    if path == root:
        return
    if member.isdir():
        path.mkdir(parents=True, exist_ok=True)
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.is_symlink() or path.is_file():
        path.unlink()
    if member.issym():
        _inside(root, path.parent / member.linkname, member.name)
        path.symlink_to(member.linkname)
    elif member.islnk():
        shutil.copyfile(_inside(root, root / member.linkname, member.name), path)
    elif member.isfile():
        content = tar.extractfile(member)
        if content is None:
            raise CodeError(f"The code archive holds no content for {member.name!r}.")
        with content, path.open("wb") as out:
            shutil.copyfileobj(content, out, 1 << 20)
        path.chmod(0o755 if member.mode & 0o111 else 0o644)
    else:
        raise CodeError(f"The code archive holds a special file: {member.name!r}.")


def _inside(root: Path, path: Path, name: str) -> Path:
    """Return the path with its parents resolved; refuse one that leaves the root."""
    parent = path.parent.resolve()
    place = parent / path.name if path.name not in ("", "..") else path.resolve()
    if place != root and root not in place.parents:
        raise CodeError(f"The code archive would write outside its directory: {name!r}.")
    return place
