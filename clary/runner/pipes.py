"""Pipe channels: one FIFO per epoch, filled with the channel's objects while the program reads.

    <channel>_0   made before the program starts
    reader opens it ──▶ <channel>_1 is made, the objects follow one another, end of file

A reader may close early; the next epoch then begins. The program owns the directory of the FIFOs,
so they are made and opened from a descriptor that was taken before it started.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import json
import os
import select
import stat
import struct
import threading
import zlib
from collections.abc import Iterator

from .faults import DOWNLOAD, ClientFault, blame
from .gzips import GunzipSource
from .manifests import items_of, lines_of
from .s3 import S3, split_uri
from .s3_answers import S3Error
from .spec import HostSpec, Input

RECORD_MAGIC = 0xCED7230A
RECORD_BYTES_MAX = (1 << 29) - 1
PIPE_BYTES = 1024 * 1024
POLL_SECONDS = 0.02
_SET_PIPE_SIZE = 1031  # F_SETPIPE_SZ, which fcntl names only from Python 3.10 on


class _Stopped(Exception):
    """The job is over."""


class Pipes:
    """The Pipe channels of one host, each fed by a thread of its own."""

    def __init__(self, spec: HostSpec, s3: S3) -> None:
        self._stop = threading.Event()
        self._feeders = [
            _Feeder(spec, s3, channel, self._stop)
            for channel in spec.inputs
            if channel.mode == "Pipe"
        ]
        self._threads: list[threading.Thread] = []

    def start(self) -> None:
        """Make every channel's first FIFO, and begin; call it before the program starts."""
        for feeder in self._feeders:
            feeder.prepare()
            thread = threading.Thread(target=feeder.work, name="pipe", daemon=True)
            self._threads.append(thread)
            thread.start()

    def stop(self, seconds: float = 5.0) -> None:
        """End the threads once the program is over."""
        self._stop.set()
        for thread in self._threads:
            thread.join(seconds)

    @property
    def fault(self) -> Exception | None:
        """What ended a channel early: ClientFault where the user can mend it."""
        return next((feeder.fault for feeder in self._feeders if feeder.fault is not None), None)


class _Feeder:
    def __init__(self, spec: HostSpec, s3: S3, channel: Input, stop: threading.Event) -> None:
        self._spec = spec
        self._s3 = s3
        self._channel = channel
        self._stop = stop
        self._folder = -1
        self._name = channel.target.rpartition("/")[2]
        self.fault: Exception | None = None

    def prepare(self) -> None:
        directory = (self._spec.ml / self._channel.target).parent
        directory.mkdir(parents=True, exist_ok=True)
        self._folder = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        self._make(0)

    def work(self) -> None:
        epoch = 0
        try:
            while True:
                self._feed(epoch)
                epoch += 1
        except _Stopped:
            return
        finally:
            os.close(self._folder)

    def _feed(self, epoch: int) -> None:
        with self._noting_faults():
            writer = self._open(epoch)
        try:
            with self._noting_faults():
                self._make(epoch + 1)
                with contextlib.suppress(BrokenPipeError):
                    for data in contents(self._spec, self._s3, self._channel, epoch):
                        self._write(writer, data)
        finally:
            # Whatever went wrong is noted by now: the reader may end as soon as this end is closed.
            # Unlinked first, so that a reader that opens this epoch again fails instead of waiting.
            with contextlib.suppress(FileNotFoundError):
                os.unlink(f"{self._name}_{epoch}", dir_fd=self._folder)
            os.close(writer)

    @contextlib.contextmanager
    def _noting_faults(self) -> Iterator[None]:
        """A channel never ends early without a word: what comes after a fault is nobody's to read."""
        try:
            yield
        except _Stopped:
            raise
        except (S3Error, OSError, zlib.error, EOFError) as problem:
            self.fault = blame(DOWNLOAD, problem)
            raise _Stopped from problem
        except Exception as problem:
            self.fault = problem
            raise _Stopped from problem

    def _make(self, epoch: int) -> None:
        with contextlib.suppress(FileExistsError):
            os.mkfifo(f"{self._name}_{epoch}", 0o644, dir_fd=self._folder)

    def _open(self, epoch: int) -> int:
        """Wait for a reader; opening for writing fails until there is one."""
        flags = os.O_WRONLY | os.O_NONBLOCK | os.O_NOFOLLOW | os.O_CLOEXEC
        while True:
            try:
                writer = os.open(f"{self._name}_{epoch}", flags, dir_fd=self._folder)
                break
            except OSError as problem:
                if problem.errno == errno.ENOENT:
                    self._make(epoch)  # the program tidied up what it had not yet read
                elif problem.errno != errno.ENXIO:
                    raise
            if self._stop.wait(POLL_SECONDS):
                raise _Stopped
        if not stat.S_ISFIFO(os.fstat(writer).st_mode):
            os.close(writer)
            raise ClientFault(f"{DOWNLOAD}{self._name}_{epoch} is no longer a pipe")
        with contextlib.suppress(OSError):
            # A larger pipe means fewer turns between two processes; the system may refuse.
            fcntl.fcntl(writer, _SET_PIPE_SIZE, PIPE_BYTES)
        return writer

    def _write(self, writer: int, data: bytes) -> None:
        view = memoryview(data)
        poller = select.poll()
        poller.register(writer, select.POLLOUT)
        while len(view):
            if self._stop.is_set():
                raise _Stopped
            try:
                view = view[os.write(writer, view) :]
            except BlockingIOError:
                poller.poll(200)


def contents(spec: HostSpec, s3: S3, channel: Input, epoch: int) -> Iterator[bytes]:
    """The bytes of one epoch of a channel."""
    framed = channel.record_wrapper == "RecordIO"
    if channel.type == "AugmentedManifestFile":
        for line in lines_of(spec, s3, channel, epoch):
            for value in _attributes(s3, channel, line):
                yield record(value) if framed else value
        return
    for item in items_of(spec, s3, channel, epoch):
        pieces = _object(s3, item.bucket, item.key, unzip=channel.compression == "Gzip")
        if framed:
            yield record(_joined(pieces, item.uri))
        else:
            yield from pieces


def record(data: bytes) -> bytes:
    """One RecordIO record: magic, length, the data, and zeros up to a multiple of four."""
    if len(data) > RECORD_BYTES_MAX:
        raise ClientFault(
            f"{DOWNLOAD}A record of {len(data)} bytes is longer than RecordIO allows "
            f"({RECORD_BYTES_MAX})"
        )
    return struct.pack("<II", RECORD_MAGIC, len(data)) + data + bytes(-len(data) % 4)


def _object(s3: S3, bucket: str, key: str, *, unzip: bool) -> Iterator[bytes]:
    stream = s3.open(bucket, key)
    try:
        source = GunzipSource(stream) if unzip else stream
        while True:
            data = source.read(PIPE_BYTES)
            if not data:
                return
            yield data
    except (zlib.error, EOFError) as problem:
        where = f"s3://{bucket}/{key}"
        raise ClientFault(f"{DOWNLOAD}{where} is not whole gzip data: {problem}") from problem
    finally:
        stream.close()


def _joined(pieces: Iterator[bytes], uri: str) -> bytes:
    whole = bytearray()
    for piece in pieces:
        whole += piece
        if len(whole) > RECORD_BYTES_MAX:
            raise ClientFault(f"{DOWNLOAD}{uri} is too long for one RecordIO record")
    return bytes(whole)


def _attributes(s3: S3, channel: Input, line: bytes) -> Iterator[bytes]:
    try:
        document = json.loads(line)
    except ValueError as problem:
        raise ClientFault(
            f"{DOWNLOAD}The augmented manifest {channel.uri} holds a line that is not "
            f"JSON: {problem}"
        ) from problem
    for name in channel.attributes:
        if not isinstance(document, dict) or name not in document:
            raise ClientFault(
                f"{DOWNLOAD}The augmented manifest {channel.uri} holds a line without the "
                f"attribute {name!r}"
            )
        value = document[name]
        if not name.endswith("-ref"):
            text = value if isinstance(value, str) else json.dumps(value)
            yield text.encode("utf-8")
            continue
        try:
            bucket, key = split_uri(str(value))
        except ValueError as problem:
            raise ClientFault(f"{DOWNLOAD}{name}: {problem}") from problem
        yield _joined(_object(s3, bucket, key, unzip=False), str(value))
