"""Before the program starts: the layout of /opt/ml, its configuration files, its File channels."""

from __future__ import annotations

import contextlib
import errno
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

from . import archives, fast_files_mount
from .archives import ArchiveFault
from .faults import DOWNLOAD, ClientFault, blame
from .manifests import Item, check_for_clashes, items_of
from .s3 import S3
from .spec import HostSpec, Input
from .streams import ObjectStream
from .transfers import Abandoned, Count, Task, run_all

STANDARD_DIRECTORIES = (
    "input/config",
    "input/data",
    "model",
    "output/data",
    "output",
    "code",
)


class _Placed(NamedTuple):
    item: Item
    directory: Path
    unpack: bool


def lay_out(spec: HostSpec) -> None:
    """Make the standard directories and write the files of the spec."""
    for name in STANDARD_DIRECTORIES:
        (spec.ml / name).mkdir(parents=True, exist_ok=True)
    for output in spec.outputs:
        (spec.ml / output.source).mkdir(parents=True, exist_ok=True)
    for channel in spec.inputs:
        directory = spec.ml / channel.target
        is_made_later = channel.mode == "Pipe" or channel.type == "FileSystem"
        (directory.parent if is_made_later else directory).mkdir(parents=True, exist_ok=True)
        if channel.type == "FileSystem":
            # The folder is mounted in the sandbox under its own name.
            with contextlib.suppress(FileExistsError):
                directory.symlink_to(channel.uri)
    if spec.checkpoint_directory is not None:
        spec.checkpoint_directory.mkdir(parents=True, exist_ok=True)
    for name, text in spec.files.items():
        path = spec.ml / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(text.encode("utf-8"))


def stage(spec: HostSpec, s3: S3, progress: Callable[[int], None] | None = None) -> int:
    """Lay out /opt/ml and download every channel that is no pipe and not mounted; return the bytes moved.

    `progress` hears of the bytes so far a few times a second; what it raises ends the staging.
    Raise ClientFault where the data cannot be had as the user described it.
    """
    placed: list[_Placed] = []
    streamed = fast_files_mount.streamed(spec)
    with told_to_the_user():
        try:
            lay_out(spec)
            placed += [
                entry
                for channel in spec.inputs
                if channel.mode != "Pipe" and channel.type != "FileSystem"
                if channel.name not in streamed
                for entry in _plan(spec, s3, channel)
            ]
            _check_space(spec, placed)
            _make_directories(placed)
            return run_all([_task(s3, entry) for entry in placed], progress)
        except OSError as problem:
            if problem.errno in (errno.ENOSPC, errno.EDQUOT):
                raise _no_space(spec, placed) from problem
            raise


@contextlib.contextmanager
def told_to_the_user() -> Iterator[None]:
    """Within it, what the user can mend is raised as a ClientFault."""
    try:
        yield
    except (ClientFault, Abandoned):
        raise
    except Exception as problem:
        fault = blame(DOWNLOAD, problem)
        if fault is problem:
            raise
        raise fault from problem


def _plan(spec: HostSpec, s3: S3, channel: Input) -> list[_Placed]:
    items = items_of(spec, s3, channel)
    check_for_clashes(items, f"channel {channel.name}")
    directory = spec.ml / channel.target
    return [_Placed(item, directory, channel.unpack and not item.path) for item in items]


def _check_space(spec: HostSpec, placed: list[_Placed]) -> None:
    needed = sum(entry.item.size or 0 for entry in placed)
    if needed and needed > archives.free_bytes(spec.ml):
        raise _no_space(spec, placed)


def _no_space(spec: HostSpec, placed: list[_Placed]) -> ClientFault:
    needed = sum(entry.item.size or 0 for entry in placed)
    free = archives.free_bytes(spec.ml)
    return ClientFault(
        f"{DOWNLOAD}No space left on device: the input data needs {needed} bytes, and {free} bytes "
        "are free. Please use a larger volume, or reduce the size of the input data."
    )


def _make_directories(placed: list[_Placed]) -> None:
    made: set[Path] = set()
    for entry in placed:
        parent = (entry.directory / entry.item.path).parent
        if not entry.unpack and parent not in made:
            parent.mkdir(parents=True, exist_ok=True)
            made.add(parent)


def _task(s3: S3, entry: _Placed) -> Task:
    item = entry.item

    def download(count: Count) -> None:
        s3.get_file(item.bucket, item.key, entry.directory / item.path, count)

    def unpack(count: Count) -> None:
        stream = s3.open(item.bucket, item.key)
        try:
            archives.unpack(_Counted(stream, count), entry.directory)
        except ArchiveFault as problem:
            raise ClientFault(
                f"{DOWNLOAD}The archive {item.uri} cannot be unpacked: {problem}"
            ) from problem
        finally:
            stream.close()

    return unpack if entry.unpack else download


class _Counted:
    def __init__(self, stream: ObjectStream, count: Count) -> None:
        self._stream = stream
        self._count = count

    def read(self, size: int) -> bytes:
        data = self._stream.read(size)
        self._count(len(data))
        return data
