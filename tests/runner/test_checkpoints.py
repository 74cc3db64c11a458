"""Checkpoints come down at the start and go up while the program runs."""

from __future__ import annotations

import time

import pytest

from clary.runner.checkpoints import Sync
from clary.runner.faults import ClientFault
from clary.runner.mirrors import Mirror


def wait_until(condition, seconds: float = 10) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "waited too long"
        time.sleep(0.02)


@pytest.fixture
def spec(make_spec, bucket):
    return make_spec(checkpoints={"uri": f"s3://{bucket}/ckpt", "path": "/opt/ml/checkpoints"})


def test_existing_checkpoints_are_restored_and_not_sent_again(
    spec, s3, bucket, put, boto, monkeypatch
):
    put({"ckpt/1.pt": b"1", "ckpt/sub/2.pt": b"22", "ckptother": b"no", "ckpt/": b""})
    sync = Sync(spec, s3)
    assert sync.restore() == 3
    folder = spec.ml / "checkpoints"
    assert (folder / "sub/2.pt").read_bytes() == b"22"
    assert sorted(path.name for path in folder.iterdir()) == ["1.pt", "sub"]
    monkeypatch.setattr(s3, "put_descriptor", None)
    sync.finish()


def test_new_and_changed_files_go_up_and_deletions_follow(spec, s3, put, stored):
    put({"ckpt/old": b"old", "ckpt/kept": b"kept"})
    sync = Sync(spec, s3, interval_seconds=0.02)
    sync.restore()
    sync.start()
    folder = spec.ml / "checkpoints"
    (folder / "new").write_bytes(b"new")
    (folder / "old").unlink()
    wait_until(lambda: stored() == {"ckpt/new": b"new", "ckpt/kept": b"kept"})
    (folder / "kept").write_bytes(b"changed")
    wait_until(lambda: stored()["ckpt/kept"] == b"changed")
    (folder / "last").write_bytes(b"last")
    sync.finish()
    assert stored() == {
        "ckpt/new": b"new",
        "ckpt/kept": b"changed",
        "ckpt/last": b"last",
    }


def test_a_directory_that_became_a_link_deletes_and_leaks_nothing(spec, s3, put, stored, tmp_path):
    put({"ckpt/1": b"1"})
    sync = Sync(spec, s3)
    sync.restore()
    folder = spec.ml / "checkpoints"
    folder.rename(tmp_path / "moved")
    (tmp_path / "secret").mkdir()
    (tmp_path / "secret/key").write_bytes(b"key")
    folder.symlink_to(tmp_path / "secret")
    sync.finish()
    assert stored() == {"ckpt/1": b"1"}


def test_a_file_being_written_is_left_for_the_next_look(s3, bucket, stored, tmp_path):
    (tmp_path / "d").mkdir()
    mirror = Mirror(s3, bucket, "p", tmp_path, "d", deletes=True)
    (tmp_path / "d/x").write_bytes(b"1")
    mirror.bring_up()
    assert stored() == {}
    (tmp_path / "d/x").write_bytes(b"12")
    mirror.bring_up()
    assert stored() == {}
    mirror.bring_up()
    assert stored() == {"p/x": b"12"}
    for size in range(3, 12):
        (tmp_path / "d/x").write_bytes(b"x" * size)
        mirror.bring_up()
    assert len(stored()["p/x"]) > 2  # one that never rests is stored all the same


def test_one_file_that_cannot_be_stored_does_not_keep_back_the_others(
    s3, bucket, stored, tmp_path, monkeypatch
):
    (tmp_path / "d").mkdir()
    for name in ("a", "b", "c"):
        (tmp_path / "d" / name).write_bytes(b"1")
    original = s3.put_descriptor

    def refuse_a(into, key, *rest):
        if key == "p/a":
            raise PermissionError(13, "Permission denied")
        return original(into, key, *rest)

    monkeypatch.setattr(s3, "put_descriptor", refuse_a)
    mirror = Mirror(s3, bucket, "p", tmp_path, "d", deletes=True)
    with pytest.raises(PermissionError):
        mirror.bring_up(final=True)
    assert set(stored()) == {"p/b", "p/c"}
    monkeypatch.setattr(s3, "put_descriptor", original)
    mirror.bring_up(final=True)
    assert set(stored()) == {"p/a", "p/b", "p/c"}


def test_a_refusal_at_the_end_is_told(make_spec, s3):
    spec = make_spec(checkpoints={"uri": "s3://no-such-bucket/c", "path": "/opt/ml/checkpoints"})
    with pytest.raises(ClientFault, match=r"Data download failed:NoSuchBucket \(404\)"):
        Sync(spec, s3).restore()
    (spec.ml / "checkpoints").mkdir(exist_ok=True)
    (spec.ml / "checkpoints/x").write_bytes(b"1")
    with pytest.raises(ClientFault, match=r"Artifact upload failed:NoSuchBucket \(404\)"):
        Sync(spec, s3).finish()


def test_without_checkpoints_nothing_happens(make_spec, s3):
    sync = Sync(make_spec(), s3)
    assert sync.restore() == 0
    sync.start()
    sync.finish()
