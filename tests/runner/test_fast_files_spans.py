"""Ranges of objects as a FastFile channel fetches them, from a server that counts and fails as told."""

from __future__ import annotations

import errno
import math
import os
import re
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest

from clary.runner import fast_files_spans
from clary.runner.fast_files_spans import Object, Spans
from clary.runner.manifests import Item
from clary.runner.s3 import S3
from clary.runner.signing import Credentials

from .conftest import KEYS, Received, Scripted

KIB, MIB = 1024, 1024 * 1024
WHOLE = b"".join(number.to_bytes(4, "big") for number in range(4 * MIB))  # 16 MiB


def of_size(size: int = len(WHOLE), key: str = "p/x") -> Object:
    return Object("train", Item("b", key, "x", size, '"tag"'))


def range_of(request: Received) -> tuple[int, int]:
    found = re.fullmatch(r"bytes=(\d+)-(\d+)", request.headers["range"])
    assert found, request.headers["range"]
    return int(found[1]), int(found[2]) + 1


class Readers:
    """Spans over one server, read as a kernel reads: asked for, and delivered some time later."""

    def __init__(self, server: Scripted, **options: Any) -> None:
        self.said: list[str] = []
        options.setdefault("patience_seconds", 0.3)
        provider = options.pop("provider", lambda: KEYS)
        self.spans = Spans(S3(server.url, "us-east-1", provider, **options), self.said.append)

    def read(self, whole: Object, start: int, size: int) -> bytes:
        done = threading.Event()
        found: list[Any] = []

        def deliver(pieces: list[memoryview], number: int) -> None:
            found.extend([b"".join(pieces), number])
            done.set()

        self.spans.read(whole, start, size, deliver)
        assert done.wait(20), "a read hangs"
        if found[1]:
            raise OSError(found[1], os.strerror(found[1]))
        return found[0]


@pytest.fixture
def readers() -> Iterator[Callable[..., Readers]]:
    made: list[Readers] = []

    def make(server: Scripted, **options: Any) -> Readers:
        made.append(Readers(server, **options))
        return made[-1]

    yield make
    for one in made:
        one.spans.close()
        one.spans.join(5)


@pytest.fixture
def ranges(scripted, reply) -> Callable[..., Scripted]:
    """A server of one object; `headers` go with its bytes."""

    def serve(**headers: str) -> Scripted:
        def answer(request: Received) -> bytes:
            start, end = range_of(request)
            return reply(206, WHOLE[start:end], **headers)

        return scripted(answer)

    return serve


def refusing(reply, status: int, code: str) -> bytes:
    return reply(status, f"<Error><Code>{code}</Code><Message>No.</Message></Error>".encode())


def test_a_reader_of_parts_fetches_parts(ranges, readers):
    reading = readers(ranges())
    whole = of_size()
    for start in (0, 9 * MIB + 5, 15 * MIB):
        assert reading.read(whole, start, 100) == WHOLE[start : start + 100]
    assert reading.spans.fetched <= 3 * fast_files_spans.SPAN_BYTES_MIN


def test_a_reader_of_all_of_it_has_few_requests_and_fetches_nothing_twice(ranges, readers):
    server = ranges()
    reading = readers(server)
    whole = of_size()
    read = [reading.read(whole, start, 128 * KIB) for start in range(0, len(WHOLE), 128 * KIB)]
    assert b"".join(read) == WHOLE
    assert reading.spans.fetched == len(WHOLE)
    assert len(server.requests) <= 8
    assert {request.headers["if-match"] for request in server.requests} == {'"tag"'}
    assert all("authorization" in request.headers for request in server.requests)


def test_a_read_is_cut_at_the_end_of_the_object(ranges, readers):
    reading = readers(ranges())
    assert reading.read(of_size(), len(WHOLE) - 10, 4096) == WHOLE[-10:]
    assert reading.read(of_size(), len(WHOLE), 4096) == b""
    assert reading.read(of_size(0), 0, 4096) == b""


def test_readers_side_by_side_get_their_own_bytes(ranges, readers):
    reading = readers(ranges())
    objects = [of_size(key=f"p/{number}") for number in range(3)]
    wrong: list[int] = []

    def look(seed: int) -> None:
        for step in range(15):
            start = (seed * 7919 + step * 104729 * 13) % (len(WHOLE) - 70000)
            if reading.read(objects[step % 3], start, 70000) != WHOLE[start : start + 70000]:
                wrong.append(start)

    threads = [threading.Thread(target=look, args=(seed,)) for seed in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


def test_what_is_kept_has_a_bound(ranges, readers, monkeypatch):
    monkeypatch.setattr(fast_files_spans, "CACHE_BYTES_MAX", 2 * MIB)
    reading = readers(ranges())
    for start in range(0, len(WHOLE) - MIB, MIB):
        reading.read(of_size(), start, 4096)
    assert reading.spans._kept_bytes <= 2 * MIB


@pytest.mark.parametrize(
    ("status", "code", "number", "words"),
    [
        (404, "NoSuchKey", errno.EIO, "was deleted since the job began. Reading it fails with EIO"),
        (412, "PreconditionFailed", errno.EIO, "was overwritten since the job began"),
        (403, "AccessDenied", errno.EACCES, "cannot be read: AccessDenied (403): No."),
    ],
)
def test_an_object_that_cannot_be_read_is_an_error_that_the_log_explains(
    scripted, reply, readers, status, code, number, words
):
    reading = readers(scripted(lambda request: refusing(reply, status, code)))
    with pytest.raises(OSError) as raised:
        reading.read(of_size(), 0, 100)
    assert raised.value.errno == number
    assert len(reading.said) == 1
    assert reading.said[0].startswith("Channel train: s3://b/p/x ")
    assert words in reading.said[0]


def test_a_bucket_with_versions_goes_on_with_the_version_that_was_begun(scripted, reply, readers):
    gone = threading.Event()

    def answer(request: Received) -> bytes:
        if gone.is_set() and "versionId=v1" not in request.target:
            return refusing(reply, 404, "NoSuchKey")
        start, end = range_of(request)
        return reply(206, WHOLE[start:end], x_amz_version_id="v1")

    reading = readers(scripted(answer))
    whole = of_size()
    reading.read(whole, 0, 100)
    gone.set()
    assert reading.read(whole, 8 * MIB, 100) == WHOLE[8 * MIB : 8 * MIB + 100]
    assert reading.said == []


def test_a_connection_that_breaks_is_resumed_where_it_broke(scripted, reply, readers):
    def answer(request: Received) -> bytes:
        start, end = range_of(request)
        whole = reply(206, WHOLE[start:end])
        if len(server.requests) == 1:
            return whole.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n", 1)[:-100_000]
        return whole

    server = scripted(answer)
    reading = readers(server)
    assert reading.read(of_size(), 0, 200 * KIB) == WHOLE[: 200 * KIB]
    first, second = (range_of(request) for request in server.requests[:2])
    assert first[1] == second[1]
    assert second[0] > first[0]


@pytest.mark.parametrize("silent", [True, False])
def test_a_dead_door_is_an_error_and_not_a_hang(scripted, readers, silent):
    stop = threading.Event()

    def answer(request: Received) -> None:
        if silent:
            stop.wait(5)

    reading = readers(scripted(answer), answer_seconds=0.2)
    with pytest.raises(OSError, match="Input/output error"):
        reading.read(of_size(), 0, 100)
    stop.set()
    assert "s3://b/p/x cannot be read" in reading.said[0]


def test_a_door_that_breaks_every_answer_is_given_up(scripted, reply, readers):
    broken = reply(206, b"x" * 1000).replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n")[:-1000]
    server = scripted(lambda request: broken)
    with pytest.raises(OSError, match="Input/output error"):
        readers(server).read(of_size(), 0, 100)
    assert len(server.requests) == fast_files_spans.BREAKS_MAX + 1


def test_what_waits_is_answered_when_the_host_ends(scripted, readers):
    asked, stop = threading.Event(), threading.Event()

    def answer(request: Received) -> None:
        asked.set()
        stop.wait(10)

    reading = readers(scripted(answer))
    found: list[int] = []
    reading.spans.read(of_size(), 0, 10, lambda _, number: found.append(number))
    assert asked.wait(5)
    reading.spans.close()
    reading.spans.read(of_size(), 0, 10, lambda _, number: found.append(number))
    stop.set()
    assert found == [errno.EIO, errno.EIO]


def test_expired_credentials_are_renewed(scripted, reply, readers):
    class Provider:
        current = Credentials("OLD", "s", "", math.inf)

        def __call__(self) -> Credentials:
            return self.current

        def forget(self, used: Credentials) -> None:
            self.current = Credentials("FRESH", "s", "", math.inf)

    def answer(request: Received) -> bytes:
        if "OLD/" in request.headers["authorization"]:
            return refusing(reply, 400, "ExpiredToken")
        start, end = range_of(request)
        return reply(206, WHOLE[start:end])

    reading = readers(scripted(answer), provider=Provider(), patience_seconds=5)
    assert reading.read(of_size(), 0, 100) == WHOLE[:100]


# Files of this machine -------------------------------------------------------------------------------


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "an odd % näme"
    path.write_bytes(WHOLE)
    return path


def named(path: Path, **wrong: int) -> dict[str, str]:
    about = path.stat()
    inode = wrong.get("inode", about.st_ino)
    return {"x_clary_file": f"{inode} {about.st_mtime_ns} {quote(os.fsencode(path))}"}


def test_a_file_that_the_door_names_is_read_in_place(ranges, readers, file):
    server = ranges(**named(file))
    reading = readers(server)
    whole = of_size()
    reading.read(whole, 0, 100)
    asked = len(server.requests)
    for start in (3 * MIB, 12 * MIB):
        assert reading.read(whole, start, MIB) == WHOLE[start : start + MIB]
    assert len(server.requests) == asked
    assert reading.spans.fetched <= 2 * MIB + fast_files_spans.SPAN_BYTES_MIN


def test_an_overwritten_object_does_not_change_under_its_reader(ranges, readers, file):
    reading = readers(ranges(**named(file)))
    whole = of_size()
    reading.read(whole, 0, 100)
    fresh = file.with_name("fresh")
    fresh.write_bytes(bytes(len(WHOLE)))
    fresh.rename(file)
    assert reading.read(whole, 8 * MIB, 100) == WHOLE[8 * MIB : 8 * MIB + 100]


def test_a_file_that_is_written_into_is_an_error(ranges, readers, file):
    reading = readers(ranges(**named(file)))
    whole = of_size()
    reading.read(whole, 0, 100)
    with file.open("r+b") as opened:
        opened.write(b"changed")
    with pytest.raises(OSError, match="Input/output error"):
        reading.read(whole, 8 * MIB, 100)
    assert "was written to since the job began" in reading.said[0]


def test_a_file_that_is_not_the_one_that_was_answered_from_is_left_alone(ranges, readers, file):
    server = ranges(**named(file, inode=7))
    reading = readers(server)
    whole = of_size()
    reading.read(whole, 0, 100)
    assert reading.read(whole, 8 * MIB, 100) == WHOLE[8 * MIB : 8 * MIB + 100]
    assert len(server.requests) == 2


def test_open_files_have_a_bound(ranges, readers, file, monkeypatch):
    monkeypatch.setattr("clary.runner.fast_files_local.FILES_MAX", 2)
    reading = readers(ranges(**named(file)))
    for number in range(5):
        assert reading.read(of_size(key=f"p/{number}"), 0, 10) == WHOLE[:10]
    assert len(reading.spans._local._open) == 2
