"""Pipe channels give each epoch's bytes through a FIFO of its own."""

from __future__ import annotations

import contextlib
import gzip
import json
import os
import struct
import time
from pathlib import Path
from typing import Any

import pytest

from clary.runner.faults import ClientFault
from clary.runner.pipes import Pipes, contents, record


def channel(uri: str, **members: Any) -> dict[str, Any]:
    return {"name": "train", "uri": uri, "target": "input/data/train", "mode": "Pipe", **members}


def running(spec, s3):
    pipes = Pipes(spec, s3)
    pipes.start()
    return contextlib.closing(_Closing(pipes))


class _Closing:
    def __init__(self, pipes: Pipes) -> None:
        self.pipes = pipes

    def close(self) -> None:
        self.pipes.stop()


def epoch_of(spec, number: int) -> bytes:
    return (spec.ml / f"input/data/train_{number}").read_bytes()


def wait_for(path: Path) -> None:
    deadline = time.monotonic() + 10
    while not path.exists():
        assert time.monotonic() < deadline, f"{path} did not come"
        time.sleep(0.01)


def test_objects_follow_one_another_in_every_epoch(make_spec, s3, bucket, put):
    big = os.urandom(3_000_000)
    put({"p/b": b"two", "p/a": big, "p/": b""})
    spec = make_spec(inputs=[channel(f"s3://{bucket}/p/")])
    with running(spec, s3):
        assert (spec.ml / "input/data/train_0").is_fifo()
        assert not (spec.ml / "input/data/train_1").exists()
        for number in range(3):
            assert epoch_of(spec, number) == big + b"two"
            wait_for(spec.ml / f"input/data/train_{number + 1}")


def test_a_reader_may_close_early_and_open_the_next_epoch(make_spec, s3, bucket, put):
    put({"p/a": bytes(5_000_000)})
    spec = make_spec(inputs=[channel(f"s3://{bucket}/p/")])
    with running(spec, s3) as held:
        with (spec.ml / "input/data/train_0").open("rb") as reader:
            assert reader.read(10) == bytes(10)
            wait_for(spec.ml / "input/data/train_1")  # before the epoch has ended
        assert len(epoch_of(spec, 1)) == 5_000_000
        assert held.pipes.fault is None


def test_a_job_that_ends_with_a_reader_half_way_stops_the_threads(make_spec, s3, bucket, put):
    put({"p/a": bytes(5_000_000)})
    spec = make_spec(inputs=[channel(f"s3://{bucket}/p/")])
    pipes = Pipes(spec, s3)
    pipes.start()
    with (spec.ml / "input/data/train_0").open("rb") as reader:
        reader.read(10)
        pipes.stop(5)
    assert not any(thread.is_alive() for thread in pipes._threads)


def test_gzip_is_decompressed_and_records_are_framed(make_spec, s3, bucket, put):
    put({"p/a": gzip.compress(b"alpha"), "p/b": gzip.compress(b"beta")})
    spec = make_spec(inputs=[channel(f"s3://{bucket}/p/", compression="Gzip")])
    assert b"".join(contents(spec, s3, spec.inputs[0], 0)) == b"alphabeta"
    framed = channel(f"s3://{bucket}/p/", compression="Gzip", record_wrapper="RecordIO")
    spec = make_spec(inputs=[framed])
    assert b"".join(contents(spec, s3, spec.inputs[0], 0)) == (
        struct.pack("<II", 0xCED7230A, 5)
        + b"alpha\0\0\0"
        + struct.pack("<II", 0xCED7230A, 4)
        + b"beta"
    )
    assert record(b"") == struct.pack("<II", 0xCED7230A, 0)


def test_an_augmented_manifest_streams_its_attributes_in_order(make_spec, s3, bucket, put):
    lines = [
        {"source-ref": f"s3://{bucket}/img/{n}", "label": n, "note": f"n{n}", "unused": 1}
        for n in range(2)
    ]
    body = "\n".join(json.dumps(line) for line in lines) + "\n\n"
    put({"img/0": b"zero", "img/1": b"one", "m.jsonl": body.encode()})
    augmented = channel(
        f"s3://{bucket}/m.jsonl",
        type="AugmentedManifestFile",
        attributes=["source-ref", "label", "note"],
        record_wrapper="RecordIO",
    )
    spec = make_spec(inputs=[augmented])
    assert list(contents(spec, s3, spec.inputs[0], 0)) == [
        record(value) for value in (b"zero", b"0", b"n0", b"one", b"1", b"n1")
    ]


def test_an_epoch_is_shuffled_by_its_seed_and_otherwise_the_next_time(make_spec, s3, bucket, put):
    put({f"p/{letter}": letter.encode() for letter in "abcdefghij"})
    spec = make_spec(inputs=[channel(f"s3://{bucket}/p/", shuffle_seed=3)])
    first, second = (b"".join(contents(spec, s3, spec.inputs[0], n)) for n in (0, 1))
    assert sorted(first) == sorted(second) == sorted(b"abcdefghij")
    assert len({first, second, b"abcdefghij"}) == 3
    assert b"".join(contents(spec, s3, spec.inputs[0], 0)) == first


@pytest.mark.parametrize(
    ("members", "objects", "why"),
    [
        ({"type": "AugmentedManifestFile", "attributes": ["a"]}, {"p/x": b"{"}, "not JSON"),
        (
            {"type": "AugmentedManifestFile", "attributes": ["a"]},
            {"p/x": b'{"b": 1}'},
            "a line without the attribute 'a'",
        ),
        ({"compression": "Gzip"}, {"p/x": b"plain"}, "is not whole gzip data"),
        ({}, {}, "No S3 objects found"),
    ],
)
def test_what_cannot_be_streamed_is_the_users_fault(
    make_spec, s3, bucket, put, members, objects, why
):
    put(objects)
    spec = make_spec(inputs=[channel(f"s3://{bucket}/p/x", **members)])
    with running(spec, s3) as held:
        assert epoch_of(spec, 0) == b""
        deadline = time.monotonic() + 10
        while held.pipes.fault is None:
            assert time.monotonic() < deadline
            time.sleep(0.01)
        assert isinstance(held.pipes.fault, ClientFault)
        assert str(held.pipes.fault).startswith("Data download failed:")
        assert why in str(held.pipes.fault)


def test_a_fifo_swapped_for_a_link_is_not_followed(make_spec, s3, bucket, put, tmp_path):
    put({"p/a": b"secret"})
    (tmp_path / "elsewhere").write_bytes(b"")
    spec = make_spec(inputs=[channel(f"s3://{bucket}/p/")])
    with running(spec, s3) as held:
        fifo = spec.ml / "input/data/train_0"
        swap = fifo.with_name("swap")
        swap.symlink_to(tmp_path / "elsewhere")
        swap.replace(fifo)
        deadline = time.monotonic() + 10
        while held.pipes.fault is None:
            assert time.monotonic() < deadline
            time.sleep(0.01)
    assert (tmp_path / "elsewhere").read_bytes() == b""
