"""FastFile channels as a program finds them: mounted in every kind of sandbox, read-only, gone with the program."""

from __future__ import annotations

import ctypes
import json
import os
import shutil
import signal
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

# Paths are plain strings here: they come from and go to system calls.
# ruff: noqa: PTH101, PTH116, PTH208
from clary.executors.capabilities import probe
from clary.executors.sandbox import SandboxExecutor
from clary.runner import fast_files, fast_files_mount, fast_files_protocol, namespaces
from clary.runner.fast_files import FastFiles
from clary.runner.fast_files_tree import Tree
from clary.runner.faults import ClientFault
from clary.runner.manifests import Item
from clary.runner.s3 import S3
from clary.runner.spec import HostSpec, parse
from clary.settings import Settings

from ..executors.executor_contract import Bench
from .conftest import KEYS, Received

FOUND = probe()
MIB = 1024 * 1024
NOBODY = 65534
_PR_SET_DUMPABLE = 4
CREDENTIALS = {"role": {"AccessKeyId": "AKIAEXAMPLE", "SecretAccessKey": "secret"}}
needs_fuse = pytest.mark.skipif(not FOUND.fast_files, reason=FOUND.explanations["fast_files"])


def channel(uri: str, **members: Any) -> dict[str, Any]:
    known = {"name": "train", "target": "input/data/train", "mode": "FastFile"}
    return {**known, "uri": uri, **members}


# In every sandbox ------------------------------------------------------------------------------------


@pytest.fixture(params=["namespaces", "bubblewrap"])
def bench(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Bench]:
    if not getattr(FOUND, request.param):
        pytest.skip(FOUND.explanations[request.param])
    executor = SandboxExecutor(Settings(home=tmp_path), mode=request.param, capabilities=FOUND)
    bench = Bench(executor, tmp_path)
    yield bench
    bench.close()
    executor.close()


def on(endpoint: str, uri: str, **members: Any) -> dict[str, Any]:
    return {
        "endpoint_url": endpoint,
        "credentials": CREDENTIALS,
        "inputs": [channel(uri)],
    } | members


def lines(directory: Path) -> list[str]:
    return (directory / "log").read_text().splitlines()


@needs_fuse
def test_a_program_sees_the_channel_and_cannot_write_to_it(bench, endpoint, bucket, put):
    put({"p/a.txt": b"A\n", "p/deep/b.txt": b"B\n", "p/none": b""})
    script = (
        "cd input/data/train; find . | sort; cat a.txt deep/b.txt none; stat -c %A-%s a.txt;"
        "for what in 'touch new' 'rm a.txt' 'mkdir x' 'chmod 777 a.txt'; do"
        " $what 2>&1 | grep -c 'Read-only file system'; done"
    )
    directory = bench.launch(script, **on(endpoint, f"s3://{bucket}/p/"))
    assert bench.end(directory)["result"] == "success"
    tree = [".", "./a.txt", "./deep", "./deep/b.txt", "./none"]
    assert lines(directory) == [*tree, "A", "B", "-r--r--r---2", *["1"] * 4]
    # Nothing was mounted where others see it, and nothing was downloaded.
    assert str(directory) not in Path("/proc/self/mountinfo").read_text()
    assert list((directory / "ml/input/data/train").iterdir()) == []


@needs_fuse
def test_a_program_ends_with_its_killed_runner_though_it_waits_for_a_read(
    bench, scripted, reply, listing
):
    """The door lists, and never answers a GET of an object."""
    asked, stop = threading.Event(), threading.Event()

    def answer(request: Received) -> bytes | None:
        if "list-type" in request.target:
            return reply(200, listing)
        asked.set()
        stop.wait(20)
        return None

    server = scripted(answer)
    directory = bench.launch("cat input/data/train/x", **on(server.url, "s3://b/p/"))
    assert asked.wait(20)
    os.kill(int((directory / "runner.lock").read_text()), signal.SIGKILL)
    outcome = bench.end(directory)
    stop.set()
    assert outcome["result"] == "lost"


@needs_fuse
def test_a_halt_is_obeyed_though_the_program_waits_for_a_read(bench, scripted, reply, listing):
    asked, stop = threading.Event(), threading.Event()

    def answer(request: Received) -> bytes | None:
        if "list-type" in request.target:
            return reply(200, listing)
        asked.set()
        stop.wait(20)
        return None

    server = scripted(answer)
    script = "trap '' TERM; cat input/data/train/x"
    directory = bench.launch(script, grace_seconds=0.2, **on(server.url, "s3://b/p/"))
    assert asked.wait(20)
    began = time.monotonic()
    bench.executor.halt([directory])
    outcome = bench.end(directory)
    stop.set()
    assert outcome["result"] == "stopped"
    assert time.monotonic() - began < fast_files.PATIENCE_SECONDS / 3


@pytest.fixture
def listing() -> bytes:
    return (
        b"<ListBucketResult><IsTruncated>false</IsTruncated><Contents><Key>p/x</Key>"
        b"<Size>1000000</Size><ETag>&quot;tag&quot;</ETag></Contents></ListBucketResult>"
    )


@pytest.mark.parametrize("mode", ["plain", "namespaces"])
def test_where_nothing_can_be_mounted_the_channel_is_staged(tmp_path, endpoint, bucket, put, mode):
    put({"p/a.txt": b"A\n"})
    explanations = {**FOUND.explanations, "fast_files": "FUSE cannot be mounted (no)."}
    without = replace(FOUND, fast_files=False, explanations=explanations)
    executor = SandboxExecutor(Settings(home=tmp_path), mode=mode, capabilities=without)
    bench = Bench(executor, tmp_path)
    directory = bench.launch("cat input/data/train/a.txt", **on(endpoint, f"s3://{bucket}/p/"))
    assert bench.end(directory)["result"] == "success"
    assert lines(directory) == ["A"]
    assert (directory / "ml/input/data/train/a.txt").read_text() == "A\n"
    (note,) = fast_files.notes(parse(json.loads((directory / "spec.json").read_text())))
    assert note.startswith("Channel train: FastFile input is staged as File here")
    why = {"plain": "A plain process has no mounts of its own.", "namespaces": "(no)."}[mode]
    assert note.endswith(why)
    bench.close()
    executor.close()


# The mount itself ------------------------------------------------------------------------------------


def through_mount(
    spec: HostSpec, look: Callable[[Path], Any], *, user: int = 0, device: str = "/dev/fuse"
) -> tuple[Any, list[str]]:
    """What `look` finds in the mounted channel, in processes of that user; and what was said of it."""
    reader, writer = os.pipe()
    if os.fork() == 0:
        try:
            os.close(reader)
            answer = _mounted(spec, look, user, device)
        except BaseException as problem:  # noqa: BLE001  (told to the test)
            answer = f"{type(problem).__name__}: {problem}", []
        os.write(writer, json.dumps(answer).encode())
        os._exit(0)
    os.close(writer)
    with open(reader, "rb") as pipe:
        found, said = json.loads(pipe.read())
    os.wait()
    return found, said


def _mounted(
    spec: HostSpec, look: Callable[[Path], Any], user: int, device: str
) -> tuple[Any, list[str]]:
    fast_files_mount.DEVICE = device
    if user:
        os.setgroups([])
        os.setgid(user)
        os.setuid(user)
        # The kernel gives the files of such a process to root; those of a login have their user.
        assert ctypes.CDLL(None).prctl(_PR_SET_DUMPABLE, 1, 0, 0, 0) == 0
    said: list[str] = []
    mounted = FastFiles(spec, said.append, threading.Event())
    mounted.list_objects(S3(spec.endpoint_url, "us-east-1", lambda: KEYS))
    mounted.start()
    reader, writer = os.pipe()
    program = os.fork()
    if program == 0:
        try:
            recipe = {"fast_files": fast_files_mount.of(spec)}
            fast_files_mount.mount_for_bubblewrap(recipe)
            answer = look(spec.ml / "input/data/train")
        except BaseException as problem:  # noqa: BLE001  (told to the test)
            answer = f"{type(problem).__name__}: {problem}"
        os.write(writer, json.dumps(answer).encode())
        os._exit(0)
    os.close(writer)
    with open(reader, "rb") as pipe:
        found = json.loads(pipe.read())
    os.waitpid(program, 0)
    mounted.stop()
    return {"found": found, "fetched": mounted.fetched}, said


@pytest.fixture
def fast_spec(make_spec, bucket) -> Callable[..., HostSpec]:
    def make(prefix: str = "p/", **members: Any) -> HostSpec:
        known = {"credentials": CREDENTIALS, "sandbox": {"no_fast_files": ""}}
        inputs = [channel(f"s3://{bucket}/{prefix}", **members.pop("channel", {}))]
        spec = make_spec(**{**known, "inputs": inputs, **members})
        (spec.ml / "input/data/train").mkdir(parents=True, exist_ok=True)
        return spec

    return make


@needs_fuse
def test_keys_with_odd_names_are_files_in_their_folders(fast_spec, put):
    keys = ["a b", "ünï/cödé", "x\\y", "q?&=+%20.txt", "deep/er/still", "'\"<>"]
    put({f"p/{key}": key.encode() for key in keys} | {"p/folder/": b"", "p/deep/": b""})

    def look(place: Path) -> dict[str, str]:
        files = [path for path in place.rglob("*") if path.is_file()]
        return {str(path.relative_to(place)): path.read_text() for path in files}

    seen, said = through_mount(fast_spec(), look)
    assert seen["found"] == {key: key for key in keys}
    assert said == []


@needs_fuse
def test_parts_of_a_large_object_are_all_that_is_fetched(fast_spec, put):
    body = os.urandom(MIB) * 24
    put({"p/x": body})

    def look(place: Path) -> list[str]:
        with open(place / "x", "rb", buffering=0) as file:
            assert os.fstat(file.fileno()).st_size == 24 * MIB
            return [os.pread(file.fileno(), 20, at).hex() for at in (0, 5 * MIB + 3, 23 * MIB)]

    seen, _ = through_mount(fast_spec(), look)
    assert seen["found"] == [body[at : at + 20].hex() for at in (0, 5 * MIB + 3, 23 * MIB)]
    assert seen["fetched"] < 4 * MIB


@needs_fuse
def test_a_folder_of_many_objects_is_listed_whole(fast_spec, scripted, reply):
    keys = [f"p/d/{number:04}-{'n' * 60}" for number in range(3000)]
    objects = "".join(f"<Contents><Key>{key}</Key><Size>1</Size></Contents>" for key in keys)
    page = f"<ListBucketResult><IsTruncated>false</IsTruncated>{objects}</ListBucketResult>"
    server = scripted(lambda request: reply(200, page.encode()))

    def look(place: Path) -> list[int]:
        listed = os.listdir(place / "d")
        sizes = [entry.stat().st_size for entry in os.scandir(place / "d")]
        return [len(set(listed)), sum(sizes)]

    seen, _ = through_mount(fast_spec(endpoint_url=server.url), look)
    assert seen["found"] == [3000, 3000]


@needs_fuse
def test_an_object_that_goes_during_the_job_is_an_io_error(fast_spec, put, boto, bucket):
    put({"p/a": b"A" * 10, "p/b": b"B" * 10})
    client = boto("s3")

    def look(place: Path) -> list[Any]:
        found: list[Any] = [(place / "a").read_text()]
        client.delete_object(Bucket=bucket, Key="p/b")
        try:
            (place / "b").read_text()
        except OSError as problem:
            found.append(problem.strerror)
        return [*found, (place / "a").read_text()]

    seen, said = through_mount(fast_spec(), look)
    assert seen["found"] == ["A" * 10, "Input/output error", "A" * 10]
    assert said == [
        f"Channel train: s3://{bucket}/p/b was deleted since the job began. "
        "Reading it fails with EIO."
    ]


@needs_fuse
def test_the_way_to_the_host_may_lead_through_a_link_but_not_the_way_below_it(
    fast_spec, put, tmp_path
):
    put({"p/a": b"A"})
    spec = fast_spec()
    (tmp_path / "link").symlink_to(spec.directory)
    linked = spec._replace(directory=tmp_path / "link")
    seen, _ = through_mount(linked, lambda place: (place / "a").read_text())
    assert seen["found"] == "A"
    folder = spec.ml / "input/data/train"
    folder.rmdir()
    folder.symlink_to(tmp_path)
    seen, _ = through_mount(spec, lambda place: (place / "a").read_text())
    assert seen["found"].startswith("OSError: channel train has no folder at ")


@needs_fuse
def test_hosts_share_the_objects_of_a_sharded_channel(fast_spec, put):
    put({f"p/{number}": b"x" for number in range(5)})
    found = []
    for host in ("algo-1", "algo-2"):
        spec = fast_spec(
            host=host, hosts=["algo-1", "algo-2"], channel={"distribution": "ShardedByS3Key"}
        )
        found.append(through_mount(spec, lambda place: sorted(os.listdir(place)))[0]["found"])
    assert found == [["0", "2", "4"], ["1", "3"]]


@pytest.fixture
def open_home() -> Iterator[Path]:
    """A folder of an ordinary user; pytest's own are closed to all but the one who runs it."""
    with tempfile.TemporaryDirectory() as name:
        os.chmod(name, 0o755)
        yield Path(name)


@needs_fuse
@pytest.mark.skipif(not FOUND.root, reason="this run is one of an ordinary user already")
def test_an_ordinary_user_mounts_in_a_user_namespace(fast_spec, put, open_home):
    put({"p/a": b"A", "p/d/b": b"B"})
    device = str(open_home / "fuse")
    os.mknod(device, 0o020666, os.stat("/dev/fuse").st_rdev)
    os.chmod(device, 0o666)
    home = open_home / "host"
    spec = fast_spec()._replace(directory=home)
    (home / "ml/input/data/train").mkdir(parents=True)
    for path in (home, *home.rglob("*")):
        shutil.chown(path, NOBODY, NOBODY)

    def look(place: Path) -> list[str]:
        found = [str(os.getuid()), (place / "a").read_text(), (place / "d/b").read_text()]
        namespaces.drop_privileges()
        try:
            (place / "new").touch()
        except OSError as problem:
            found.append(str(problem.strerror))
        return found

    seen, _ = through_mount(spec, look, user=NOBODY, device=device)
    assert seen["found"] == ["0", "A", "B", "Read-only file system"]


# Parts that need no kernel -----------------------------------------------------------------------------


def test_a_name_that_no_file_can_have_is_the_users_to_mend(make_spec):
    with pytest.raises(ClientFault, match="Data download failed:File name too long: nnn"):
        Tree([Item("b", "p/x", "n" * 256, 1)], 0.0)


def test_a_listing_goes_on_where_there_was_no_more_room():
    tree = Tree([Item("b", f"p/{number}", f"d/{number}", 1) for number in range(20)], 0.0)
    folder = tree.nodes[1]
    line = len(tree.listing(folder, 0, 200))
    pieces, offset = [], 0
    while piece := tree.listing(folder, offset, 3 * line):
        pieces.append(piece)
        offset += 3
    assert b"".join(pieces) == tree.listing(folder, 0, 1 << 20)
    assert len(pieces) == 8


def test_a_kernel_of_another_time_is_refused():
    with pytest.raises(fast_files_protocol.ProtocolRefusal, match=r"FUSE 7\.23"):
        fast_files_protocol.greeting(bytes.fromhex("0700000017000000" + "00" * 8))


def test_what_cannot_be_read_is_said_once(fast_spec):
    said: list[str] = []
    fast = FastFiles(fast_spec(), said.append, threading.Event())
    for number in range(200):
        fast._say_once("the same")
        fast._say_once(f"another {number}")
    assert said[:3] == ["the same", "another 0", "another 1"]
    assert len(said) == fast_files.SENTENCES_MAX
    assert sys.getsizeof(fast._said) < 16384
