"""Archives are unpacked without trust and packed the same way every time."""

from __future__ import annotations

import gzip
import io
import os
import tarfile
from pathlib import Path
from typing import Any

import pytest

from clary.runner.archives import ArchiveFault, Contents, Tree, pack, unpack
from clary.runner.gzips import GunzipSource, GzipSink


class Member:
    """A tar entry in one line."""

    def __init__(self, name: str, kind: bytes = tarfile.REGTYPE, **rest: Any) -> None:
        self.info = tarfile.TarInfo(name)
        self.info.type = kind
        self.body = rest.pop("body", b"")
        self.info.size = rest.pop("size", len(self.body))
        for member, value in rest.items():
            setattr(self.info, member, value)


def link(name: str, target: str) -> Member:
    return Member(name, tarfile.SYMTYPE, linkname=target)


def tar_of(*members: Member) -> io.BytesIO:
    written = io.BytesIO()
    with tarfile.open(fileobj=written, mode="w") as tar:
        for member in members:
            tar.addfile(member.info, io.BytesIO(member.body))
    written.seek(0)
    return written


def names_of(directory: Path) -> set[str]:
    return {str(path.relative_to(directory)) for path in directory.rglob("*")}


@pytest.mark.parametrize(
    ("members", "why"),
    [
        ([Member("/etc/evil", body=b"1")], "its entry '/etc/evil' leads out of the archive"),
        ([Member("../evil", body=b"1")], "its entry '../evil' leads out of the archive"),
        ([Member("a/../../evil")], "leads out of the archive"),
        ([Member("dev", tarfile.CHRTYPE)], "its entry 'dev' is a device or a pipe"),
        ([Member("fifo", tarfile.FIFOTYPE)], "is a device or a pipe"),
        ([link("out", "/etc")], "its link 'out' leads out of the archive"),
        ([link("out", "../..")], "its link 'out' leads out of the archive"),
        # Each stays inside by its text; together they lead out.
        ([link("here", "."), link("out", "here/..")], "leads out of the archive"),
        ([link("x/out", "later/.."), link("later", "."), link("y", "x/out")], None),
        ([link("out", "/etc"), Member("out/evil", body=b"1")], "clash"),
        ([Member("h", tarfile.LNKTYPE, linkname="../../etc/passwd")], "leads out"),
        ([Member("h", tarfile.LNKTYPE, linkname="absent")], "which it does not hold"),
        ([Member("x", body=b"1"), Member("x/y", body=b"1")], "is both a file and a directory"),
        ([Member("x/y", body=b"1"), Member("x", body=b"1")], "is both a file and a directory"),
        ([Member("big", body=b"x" * 2000)], "it needs more than the 1000 bytes"),
        ([Member(str(n)) for n in range(11)], "it holds more than 10 entries"),
    ],
)
def test_a_hostile_archive_writes_nothing_outside(tmp_path, members, why):
    target = tmp_path / "in" / "target"
    if why is None:
        unpack(tar_of(*members), target, bytes_max=1000, entries_max=10)
    else:
        with pytest.raises(ArchiveFault, match=why):
            unpack(tar_of(*members), target, bytes_max=1000, entries_max=10)
    assert names_of(tmp_path) - {"in"} <= {
        f"in/{name}" for name in {"target", *(f"target/{n}" for n in names_of(target))}
    }
    for path in target.rglob("*"):
        assert os.path.realpath(path).startswith(os.path.realpath(target))


def test_a_sparse_bomb_is_refused_by_its_real_size(tmp_path):
    header = tarfile.TarInfo("bomb")
    header.pax_headers = {
        "GNU.sparse.major": "0",
        "GNU.sparse.minor": "1",
        "GNU.sparse.name": "bomb",
        "GNU.sparse.size": str(10**12),
        "GNU.sparse.map": "0,1",
    }
    header.size = 1
    written = io.BytesIO()
    with tarfile.open(fileobj=written, mode="w", format=tarfile.PAX_FORMAT) as tar:
        tar.addfile(header, io.BytesIO(b"x"))
    written.seek(0)
    with pytest.raises(ArchiveFault, match="it needs more than"):
        unpack(written, tmp_path / "target", bytes_max=10**6)


def test_a_header_of_a_megabyte_is_refused(tmp_path):
    long = Member("././@LongLink", tarfile.GNUTYPE_LONGNAME, body=b"x" * 2_000_000)
    with pytest.raises(ArchiveFault, match="a header of 2000000 bytes"):
        unpack(tar_of(long), tmp_path / "target")


def test_links_inside_and_modes_and_times_are_kept(tmp_path):
    source = tar_of(
        Member("run.sh", body=b"#!", mode=0o4755, mtime=1_600_000_000),
        Member("deep/dir/", tarfile.DIRTYPE),
        link("deep/up", "../run.sh"),
        Member("twin", tarfile.LNKTYPE, linkname="./run.sh"),
        Member("run.txt", body=b"old"),
        Member("run.txt", body=b"new"),
    )
    assert unpack(source, tmp_path) == Contents(bytes=8, files=4)
    assert (tmp_path / "run.sh").stat().st_mode & 0o7777 == 0o755
    assert (tmp_path / "run.sh").stat().st_mtime == 1_600_000_000
    assert (tmp_path / "deep/up").read_bytes() == b"#!"
    assert (tmp_path / "twin").read_bytes() == b"#!"
    assert (tmp_path / "run.txt").read_bytes() == b"new"
    assert (tmp_path / "deep/dir").is_dir()


def test_an_archive_cut_short_anywhere_is_refused(tmp_path):
    whole = gzip.compress(tar_of(Member("x", body=os.urandom(20_000))).getvalue())
    for length in (5, 300, 10_000, len(whole) - 4):
        with pytest.raises(ArchiveFault, match="it is not a whole tar archive"):
            unpack(io.BytesIO(whole[:length]), tmp_path / str(length))


def model(directory: Path) -> Tree:
    (directory / "model/sub").mkdir(parents=True)
    (directory / "model/empty").mkdir()
    (directory / "model/b.bin").write_bytes(b"b" * 3_000_000)
    (directory / "model/a.txt").write_bytes(b"a")
    (directory / "model/sub/c").write_bytes(b"c")
    os.utime(directory / "model/a.txt", (1_600_000_000, 1_600_000_000))
    (directory / "model/inner").symlink_to("sub/c")
    (directory / "model/sub/absolute").symlink_to("/opt/ml/model/a.txt")
    (directory / "model/outer").symlink_to("/etc/passwd")
    (directory / "model/climbing").symlink_to("../../x")
    os.mkfifo(directory / "model/fifo")
    return Tree(directory, "model")


def packed(*trees: Tree, level: int = 1) -> bytes:
    written = io.BytesIO()
    pack(trees, written, level=level)
    return written.getvalue()


def test_packing_gives_the_same_bytes_and_what_was_there(tmp_path):
    tree = model(tmp_path)
    first = packed(tree)
    assert packed(tree) == first
    with tarfile.open(fileobj=io.BytesIO(first), mode="r:gz") as tar:
        members = {member.name: member for member in tar}
        assert list(members) == sorted(members)
        assert set(members) == {
            "a.txt",
            "b.bin",
            "empty",
            "inner",
            "sub",
            "sub/absolute",
            "sub/c",
        }
        assert {(member.uid, member.gid, member.uname) for member in members.values()} == {
            (0, 0, "")
        }
        assert members["a.txt"].mtime == 1_600_000_000
        assert members["sub/absolute"].linkname == "../a.txt"
    assert unpack(io.BytesIO(first), tmp_path / "out") == Contents(3_000_002, 3)
    assert (tmp_path / "out/b.bin").read_bytes() == b"b" * 3_000_000
    assert (tmp_path / "out/sub/absolute").read_bytes() == b"a"


def test_an_empty_directory_packs_to_an_empty_archive(tmp_path):
    (tmp_path / "model").mkdir()
    for tree in (Tree(tmp_path, "model"), Tree(tmp_path, "absent")):
        with tarfile.open(fileobj=io.BytesIO(packed(tree)), mode="r:gz") as tar:
            assert tar.getnames() == []


def test_later_sources_win_and_a_file_hides_a_directory(tmp_path):
    for host, name, body in (
        ("one", "same", b"1"),
        ("one", "only", b"1"),
        ("one", "kind/x", b"1"),
        ("two", "same", b"2"),
        ("two", "kind", b"2"),
    ):
        path = tmp_path / host / "model" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(body)
    data = packed(Tree(tmp_path / "one", "model"), Tree(tmp_path / "two", "model"))
    with tarfile.open(fileobj=io.BytesIO(data), mode="r:gz") as tar:
        bodies = {member.name: tar.extractfile(member).read() for member in tar}
    assert bodies == {"kind": b"2", "only": b"1", "same": b"2"}


def test_a_source_swapped_for_a_link_is_not_followed(tmp_path):
    (tmp_path / "secret").mkdir()
    (tmp_path / "secret/key").write_bytes(b"1")
    (tmp_path / "ml").mkdir()
    (tmp_path / "ml/model").symlink_to(tmp_path / "secret")
    with tarfile.open(fileobj=io.BytesIO(packed(Tree(tmp_path / "ml", "model")))) as tar:
        assert tar.getnames() == []


def test_names_of_any_bytes_are_packed(tmp_path):
    (tmp_path / "model").mkdir()
    names = [b"\xff\xfe", b"new\nline", "é".encode(), b"x" * 200]
    for name in names:
        Path(os.fsdecode(os.fsencode(tmp_path / "model") + b"/" + name)).write_bytes(b"1")
    unpack(io.BytesIO(packed(Tree(tmp_path, "model"))), tmp_path / "out")
    assert sorted(os.fsencode(path.name) for path in (tmp_path / "out").iterdir()) == sorted(names)


@pytest.mark.parametrize("threads", [1, 3])
@pytest.mark.parametrize("size", [0, 1, 1_000_000, 1_048_576, 5_000_001])
def test_gzip_written_in_blocks_is_one_ordinary_member(size, threads):
    for data in (os.urandom(size), (b"the quick brown fox %d " * (size // 20 + 1))[:size]):
        written = io.BytesIO()
        sink = GzipSink(written, 4, threads=threads)
        for start in range(0, size, 300_000):
            sink.write(data[start : start + 300_000])
        sink.close()
        assert gzip.decompress(written.getvalue()) == data
        assert len(written.getvalue()) <= size * 1.001 + 64


def test_gzip_of_several_members_is_read_through():
    data = gzip.compress(b"one") + gzip.compress(b"") + gzip.compress(b"two") + b"\0" * 100
    source = GunzipSource(io.BytesIO(data))
    read = b"".join(iter(lambda: source.read(2), b""))
    assert read == b"onetwo"
    with pytest.raises(EOFError):
        GunzipSource(io.BytesIO(gzip.compress(b"x" * 100)[:-1])).drain()
