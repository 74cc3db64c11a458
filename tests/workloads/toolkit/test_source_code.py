"""Unpacking archives that mean no good."""

from __future__ import annotations

import io
import os
import tarfile
from pathlib import Path

import pytest

from clary.workloads.toolkit.source_code import CodeError, stage, unpack


def archive(path: Path, *members: tuple[str, bytes, str, str]) -> Path:
    """Write (name, type, link target, content) members."""
    with tarfile.open(path, "w:gz") as tar:
        for name, kind, link, content in members:
            member = tarfile.TarInfo(name)
            member.type, member.linkname, member.size = kind, link, len(content)
            tar.addfile(member, io.BytesIO(content.encode()))
    return path


@pytest.mark.parametrize(
    "members",
    [
        [("../evil", tarfile.REGTYPE, "", "x")],
        [("/tmp/evil", tarfile.REGTYPE, "", "x")],
        [("a/../../evil", tarfile.REGTYPE, "", "x")],
        [("link", tarfile.SYMTYPE, "/etc", "")],
        [("link", tarfile.SYMTYPE, "../..", "")],
        [("d/link", tarfile.SYMTYPE, "../../x", "")],
        [("here", tarfile.SYMTYPE, ".", ""), ("here/../../evil", tarfile.REGTYPE, "", "x")],
        [("hard", tarfile.LNKTYPE, "/etc/passwd", "")],
        [("hard", tarfile.LNKTYPE, "../outside", "")],
        [("pipe", tarfile.FIFOTYPE, "", "")],
        [("disk", tarfile.BLKTYPE, "", "")],
    ],
)
def test_nothing_is_written_outside(tmp_path: Path, members: list) -> None:
    target = tmp_path / "deep" / "code"
    target.mkdir(parents=True)
    with pytest.raises(CodeError, match=r"outside its directory|special file"):
        unpack(archive(tmp_path / "a.tar.gz", *members), target)
    names = {path.name for path in tmp_path.rglob("*")}
    assert names <= {"deep", "code", "a.tar.gz", "d", "here"}


def test_files_folders_modes_and_inner_links_come_out(tmp_path: Path) -> None:
    path = archive(
        tmp_path / "a.tar.gz",
        ("./", tarfile.DIRTYPE, "", ""),
        ("./src/train.py", tarfile.REGTYPE, "", "print(1)"),
        ("again.py", tarfile.SYMTYPE, "src/train.py", ""),
        ("copy.py", tarfile.LNKTYPE, "src/train.py", ""),
        ("copy.py", tarfile.REGTYPE, "", "print(2)"),
    )
    target = tmp_path / "code"
    target.mkdir()
    unpack(path, target)
    assert (target / "again.py").read_text() == "print(1)"
    assert (target / "copy.py").read_text() == "print(2)"
    assert (target / "src" / "train.py").read_text() == "print(1)"


def test_a_symbolic_link_is_replaced_and_not_written_through(tmp_path: Path) -> None:
    path = archive(
        tmp_path / "a.tar.gz",
        ("real", tarfile.REGTYPE, "", "kept"),
        ("name", tarfile.SYMTYPE, "real", ""),
        ("name", tarfile.REGTYPE, "", "new"),
    )
    target = tmp_path / "code"
    target.mkdir()
    unpack(path, target)
    assert ((target / "real").read_text(), (target / "name").read_text()) == ("kept", "new")
    assert not (target / "name").is_symlink()


@pytest.mark.parametrize("content", [b"", b"not a tar", b"\x1f\x8b\x08\x00broken"])
def test_damaged_archives_are_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "a.tar.gz"
    path.write_bytes(content)
    with pytest.raises(CodeError, match="damaged"):
        unpack(path, tmp_path)


def test_a_cut_archive_is_refused(tmp_path: Path) -> None:
    whole = archive(
        tmp_path / "a.tar.gz", ("big", tarfile.REGTYPE, "", os.urandom(60_000).hex())
    ).read_bytes()
    (tmp_path / "cut.tar.gz").write_bytes(whole[: len(whole) // 2])
    target = tmp_path / "code"
    target.mkdir()
    with pytest.raises(CodeError, match="damaged"):
        unpack(tmp_path / "cut.tar.gz", target)


def test_code_that_is_there_already_is_kept(tmp_path: Path) -> None:
    target = tmp_path / "code"
    target.mkdir()
    (target / "train.py").write_text("mine")
    stage("s3://nowhere/at-all.tar.gz", target)
    assert (target / "train.py").read_text() == "mine"
    with pytest.raises(CodeError, match="does not exist"):
        stage(str(tmp_path / "missing"), tmp_path / "empty")
