"""What the kernel does when asked through `namespaces` and `root_filesystem`."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from clary.executors.capabilities import probe
from clary.runner import hostile_files, namespaces, root_filesystem, sockets

FOUND = probe()
needs_namespaces = pytest.mark.skipif(not FOUND.namespaces, reason=FOUND.explanations["namespaces"])


def in_new_namespaces(work: Callable[[], Any]) -> Any:
    """Do something in a child with namespaces of its own; returns what it returned."""
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            user, group = os.geteuid(), os.getegid()
            flags = namespaces.CLONE_NEWNS | namespaces.CLONE_NEWUTS | namespaces.CLONE_NEWNET
            namespaces.unshare(flags | (namespaces.CLONE_NEWUSER if user else 0))
            if user:
                namespaces.map_to_root(user, group)
            answer = work()
        except BaseException as problem:  # noqa: BLE001
            answer = f"{type(problem).__name__}: {problem}"
        os.write(writer, json.dumps(answer).encode())
        os._exit(0)
    os.close(writer)
    with open(reader, "rb") as pipe:
        data = pipe.read()
    os.waitpid(child, 0)
    return json.loads(data)


@needs_namespaces
def test_a_root_holds_what_was_mounted_and_only_that_and_writing_is_where_it_was_allowed(
    tmp_path: Path,
) -> None:
    for name in ("root", "kept", "own"):
        (tmp_path / name).mkdir()
    (tmp_path / "kept" / "data").write_text("x")

    def work() -> Any:
        root_filesystem.build(
            str(tmp_path / "root"),
            [
                ["read", str(tmp_path / "kept"), "/deep/kept"],
                ["write", str(tmp_path / "own"), "/own"],
                ["link", "own", "/short"],
                ["folder", "", "/run"],
            ],
        )
        Path("/own/made").write_text("y")
        refused = []
        for place in ("/x", "/deep/kept/data", "/run/x"):
            try:
                Path(place).write_text("z")
            except OSError as problem:
                refused.append(problem.errno)
        return [
            sorted(path.name for path in Path("/").iterdir()),
            Path("/short/made").read_text(),
            refused,
        ]

    assert in_new_namespaces(work) == [["deep", "own", "run", "short"], "y", [30, 30, 30]]
    assert (tmp_path / "own" / "made").read_text() == "y"
    assert list((tmp_path / "root").iterdir()) == []


@needs_namespaces
def test_a_mount_point_behind_a_link_that_a_program_left_is_refused(tmp_path: Path) -> None:
    for name in ("root", "own", "outside"):
        (tmp_path / name).mkdir()
    (tmp_path / "own" / "trap").symlink_to(tmp_path / "outside")

    def work() -> Any:
        mounts = [["write", str(tmp_path / "own"), "/own"], ["folder", "", "/own/trap/made"]]
        root_filesystem.build(str(tmp_path / "root"), mounts)

    assert "leads through a link" in in_new_namespaces(work)
    assert list((tmp_path / "outside").iterdir()) == []


@needs_namespaces
def test_dropped_privileges_are_gone_for_good() -> None:
    def work() -> Any:
        namespaces.drop_privileges()
        status = Path("/proc/self/status").read_text()
        seen = dict(line.split(":\t", 1) for line in status.splitlines() if ":\t" in line)
        return [seen["CapEff"], seen["CapPrm"], seen["CapBnd"], seen["NoNewPrivs"]]

    assert in_new_namespaces(work) == ["0" * 16, "0" * 16, "0" * 16, "1"]


def test_a_refused_call_names_itself_and_its_reason() -> None:
    with pytest.raises(OSError, match="mount nothing on /nowhere: No such file"):
        namespaces.mount("nothing", "/nowhere", None, namespaces.MS_BIND)


def test_files_of_a_program_are_read_without_following_it_anywhere(tmp_path: Path) -> None:
    root = tmp_path / "ml"
    (root / "output").mkdir(parents=True)
    (tmp_path / "secret").write_text("secret")
    (root / "output" / "failure").write_text("why " * 1000)
    (root / "link").symlink_to(tmp_path / "secret")
    (root / "folder").symlink_to(tmp_path)
    os.mkfifo(root / "pipe")
    assert hostile_files.read_text(root, "output/failure", 7) == "why why"
    for name in ("link", "folder/secret", "pipe", "../secret", "output", "missing", ""):
        assert hostile_files.read_text(root, name, 100) == ""


def test_a_socket_may_have_a_path_longer_than_the_kernel_takes(tmp_path: Path) -> None:
    folder = tmp_path / ("long" * 30) / ("path" * 20)
    folder.mkdir(parents=True)
    path = str(folder / "a.sock")
    with sockets.listen(path, 1) as listener, sockets.connect(path, 1.0) as client:
        assert (os.stat(path).st_mode & 0o777) == 0o600  # noqa: PTH116
        accepted, _ = listener.accept()
        with accepted:
            client.sendall(b"x")
            assert accepted.recv(1) == b"x"


def test_one_claims_a_socket_and_the_next_is_turned_away(tmp_path: Path) -> None:
    path = str(tmp_path / "run" / "a.sock")
    held = sockets.claim(path)
    assert held is not None
    assert sockets.claim(path) is None
    os.close(held)
    again = sockets.claim(path)
    assert again is not None
    os.close(again)
