import errno
import hashlib
import os
import threading
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from clary.model.errors import ApiError
from clary.store import object_metadata
from clary.store.object_history import list_versions
from clary.store.object_metadata import ObjectMetadata
from clary.store.object_multipart import Multipart, WantedPart
from clary.store.object_names import is_key
from clary.store.objects import Condition, Objects

AWKWARD = [
    "x", "x/y", "x/y/z", "a//b", "a/", "/", "//", "/a", "a/../b", ".", "..", "a-b", "a/b", "é", "a%20b", "%_",
    "%file", "x%file", "%25", "%2E", "nul\0l", "z" * 240, "z" * 200, "z" * 201 + "-", "z" * 700, "z" * 700 + "/q",
    "😀" * 61, "p/" + "q" * 300 + "/r",
]  # fmt: skip


@pytest.fixture
def store(tmp_path: Path) -> Objects:
    objects = Objects(tmp_path / "objects")
    objects.create_bucket("bkt")
    return objects


def keys_of(store: Objects, **parameters: object) -> list[str]:
    return [info.key for info in store.list("bkt", **parameters).objects]  # type: ignore[arg-type]


@pytest.mark.parametrize("order", [AWKWARD, AWKWARD[::-1], sorted(AWKWARD)])
def test_keys_that_no_file_system_can_hold_are_kept_side_by_side(
    store: Objects, order: list[str]
) -> None:
    for key in order:
        store.put("bkt", key, key.encode())
    assert [store.read("bkt", key) for key in order] == [key.encode() for key in order]
    assert keys_of(store) == sorted(AWKWARD)
    for key in order:
        store.delete("bkt", key)
    assert list((Path(store.root) / "bkt").iterdir()) == []


key_text = st.lists(
    st.sampled_from(["", ".", "..", "a", "b", "a-", "%file", "é"]), min_size=1, max_size=4
)


@settings(
    max_examples=120, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    keys=st.lists(key_text.map("/".join).filter(is_key), unique=True, max_size=12),
    prefix=st.sampled_from(["", "a", "a/", "b/", "/", "a//", "."]),
    after=st.sampled_from(["", "a", "a/", "a/b", "b", "/", "é"]),
    delimiter=st.sampled_from(["", "/", "-"]),
    limit=st.integers(1, 4),
)
def test_pages_together_are_what_sorting_all_keys_gives(
    tmp_path_factory: pytest.TempPathFactory,
    keys: list[str],
    prefix: str,
    after: str,
    delimiter: str,
    limit: int,
) -> None:
    store = Objects(tmp_path_factory.mktemp("objects"))
    store.create_bucket("bkt")
    for key in keys:
        store.put("bkt", key, b"")
    expected: list[str] = []
    for key in sorted(keys):
        if not key.startswith(prefix) or key <= after:
            continue
        end = key.find(delimiter, len(prefix)) if delimiter else -1
        shown = key[: end + 1] if end >= 0 else key
        if shown not in expected:
            expected.append(shown)
    found: list[str] = []
    marker = after
    for _ in range(20):
        page = store.list("bkt", prefix, marker, limit, delimiter)
        found += sorted([info.key for info in page.objects] + page.prefixes)
        marker = page.next_after
        if not marker:
            break
    assert found == expected


def test_a_file_put_there_by_hand_is_an_object(store: Objects) -> None:
    folder = Path(store.root) / "bkt" / "data"
    folder.mkdir()
    (folder / "iris.csv").write_bytes(b"1,2,3")
    info = store.head("bkt", "data/iris.csv")
    assert info and info.etag == hashlib.md5(b"1,2,3").hexdigest() and info.size == 5
    assert [i.etag for i in store.list("bkt").objects] == [info.etag]


def test_a_file_edited_by_hand_gets_a_new_etag_and_keeps_its_type(store: Objects) -> None:
    info = store.put("bkt", "a.json", b"{}", content_type="application/json")
    with open(info.path, "ab") as file:
        file.write(b"\n")
    found = store.head("bkt", "a.json")
    assert found and found.etag == hashlib.md5(b"{}\n").hexdigest()
    assert found.content_type == "application/json"


def test_a_directory_made_by_hand_is_a_bucket(store: Objects) -> None:
    (Path(store.root) / "by-hand").mkdir()
    assert [bucket.name for bucket in store.buckets()] == ["bkt", "by-hand"]


def test_no_name_reaches_outside_the_store(store: Objects, tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("secret")
    for bucket in ("..", ".", ".clary", "bkt/..", ""):
        with pytest.raises(ApiError, match="bucket does not exist"):
            store.get(bucket, "secret")
        with pytest.raises(ApiError):
            store.put(bucket, "secret", b"")
    assert store.get("bkt", "../../secret") is None
    store.put("bkt", "../../secret", b"mine")
    assert (tmp_path / "secret").read_text() == "secret"


def test_a_fifo_put_there_by_hand_blocks_nobody(store: Objects) -> None:
    os.mkfifo(Path(store.root) / "bkt" / "pipe")
    assert store.get("bkt", "pipe") is None
    assert keys_of(store) == []


def test_metadata_survives_where_attributes_do_not_exist(
    store: Objects, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise OSError(errno.ENOTSUP, "no attributes here")

    monkeypatch.setattr(object_metadata.os, "setxattr", refuse)
    monkeypatch.setattr(object_metadata.os, "getxattr", refuse)
    store.put("bkt", "k", b"1", content_type="text/plain", user={"a": "b"})
    store.put("bkt", "k", b"2", content_type="text/html", user={"a": "c"})
    info = store.head("bkt", "k")
    assert info and (info.content_type, info.metadata.user) == ("text/html", {"a": "c"})
    side = Path(store.root) / ".clary" / "buckets" / "bkt" / "metadata"
    assert sum(path.is_file() for path in side.rglob("*")) == 1
    store.delete("bkt", "k")
    assert sum(path.is_file() for path in side.rglob("*")) == 0


def test_metadata_too_large_for_an_attribute_is_kept_beside(store: Objects) -> None:
    tags = {f"key{i}" * 20: "v" * 250 for i in range(10)}
    store.put("bkt", "k", b"1", user={"a": "b" * 2000})
    store.change_metadata("bkt", "k", "", tags)
    info = store.head("bkt", "k")
    assert info and info.metadata.tags == tags and info.metadata.user == {"a": "b" * 2000}
    store.change_metadata("bkt", "k", "", {})
    info = store.head("bkt", "k")
    assert info and info.metadata.tags == {} and info.metadata.user == {"a": "b" * 2000}


def test_temporary_files_of_the_dead_are_removed_and_those_of_the_living_stay(
    store: Objects,
) -> None:
    dead = Path(store.temporary) / "dead"
    dead.write_bytes(b"half")
    with store.writer() as writer:
        writer.write(b"half")
        Objects(store.root)
        assert not dead.exists() and Path(writer.path).exists()
    assert list(Path(store.temporary).iterdir()) == []


def test_a_full_disk_is_a_clear_error_and_leaves_no_file(
    store: Objects, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> int:
        raise OSError(errno.ENOSPC, "No space left on device")

    store.put("bkt", "k", b"old")
    monkeypatch.setattr("clary.store.object_writer.os.write", full)
    with pytest.raises(ApiError, match="disk that holds the object store is full") as caught:
        store.put("bkt", "k", b"new")
    monkeypatch.undo()
    assert (caught.value.code, caught.value.status) == ("QuotaExceeded", 400)
    assert list(Path(store.temporary).iterdir()) == [] and store.read("bkt", "k") == b"old"


def test_readers_and_writers_of_one_key_see_whole_objects(store: Objects) -> None:
    wrong: list[object] = []
    store.put("bkt", "x", bytes(1000))

    def write(value: int) -> None:
        for turn in range(40):
            store.put("bkt", "x", bytes([value]) * 1000)
            store.put("bkt", f"x/{turn % 3}", b"y")
            store.delete("bkt", f"x/{turn % 3}")

    def read() -> None:
        for _ in range(120):
            opened = store.get("bkt", "x")
            if opened is None:
                wrong.append("missing")
                continue
            data = os.read(opened.descriptor, 2000)
            opened.close()
            if hashlib.md5(data).hexdigest() != opened.info.etag:
                wrong.append(data)

    threads = [threading.Thread(target=write, args=(value,)) for value in (1, 2)]
    threads += [threading.Thread(target=read) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []
    assert keys_of(store) == ["x"]


def test_of_many_writers_that_want_to_be_first_one_is(store: Objects) -> None:
    first = Condition(none_match=("*",))
    won: list[int] = []

    def write(value: int) -> None:
        with store.writer() as writer:
            writer.write(bytes([value]))
            try:
                store.commit("bkt", "k", writer, ObjectMetadata(etag=writer.etag), first)
            except ApiError as problem:
                assert problem.code == "PreconditionFailed"
            else:
                won.append(value)

    threads = [threading.Thread(target=write, args=(value,)) for value in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(won) == 1 and store.read("bkt", "k") == bytes(won)


def test_versions_are_kept_hidden_and_brought_back(store: Objects) -> None:
    store.put("bkt", "k", b"0")
    store.settings.change("bkt", versioning="Enabled")
    one = store.put("bkt", "k", b"1")
    two = store.put("bkt", "k", b"2")
    marker = store.delete("bkt", "k")
    assert store.head("bkt", "k") is None and keys_of(store) == []
    history = list_versions(store, "bkt").entries
    assert [entry.info.version_id for entry in history] == [
        marker.version_id, two.version_id, one.version_id, "null",
    ]  # fmt: skip
    assert [entry.latest for entry in history] == [True, False, False, False]
    with store.open("bkt", "k", "null") as file:
        assert file.read() == b"0"
    assert store.delete("bkt", "k", marker.version_id).delete_marker
    assert store.read("bkt", "k") == b"2"
    store.delete("bkt", "k", two.version_id)
    assert store.read("bkt", "k") == b"1"
    with pytest.raises(ApiError, match="not empty"):
        store.delete_bucket("bkt")
    for version_id in (one.version_id, "null"):
        store.delete("bkt", "k", version_id)
    assert list_versions(store, "bkt").entries == []
    store.delete_bucket("bkt")


def test_suspended_versioning_replaces_only_the_null_version(store: Objects) -> None:
    store.settings.change("bkt", versioning="Enabled")
    one = store.put("bkt", "k", b"1")
    store.settings.change("bkt", versioning="Suspended")
    store.put("bkt", "k", b"2")
    store.put("bkt", "k", b"3")
    ids = [entry.info.version_id for entry in list_versions(store, "bkt").entries]
    assert ids == ["null", one.version_id]
    assert store.delete("bkt", "k").version_id == "null"
    ids = [entry.info.version_id for entry in list_versions(store, "bkt").entries]
    assert ids == ["null", one.version_id]


def test_history_pages_hold_every_version_once(store: Objects) -> None:
    store.settings.change("bkt", versioning="Enabled")
    for key in ("a", "a/b", "c"):
        for value in range(3):
            store.put("bkt", key, bytes([value]))
    whole = [(e.info.key, e.info.version_id) for e in list_versions(store, "bkt").entries]
    assert len(whole) == 9
    found: list[tuple[str, str]] = []
    key, version = "", ""
    for _ in range(12):
        page = list_versions(store, "bkt", "", key, version, limit=2)
        found += [(e.info.key, e.info.version_id) for e in page.entries]
        key, version = page.next_key, page.next_version
        if not key:
            break
    assert found == whole


def test_completing_an_upload_twice_at_once_makes_one_object(store: Objects) -> None:
    multipart = Multipart(store)
    upload = multipart.create("bkt", "k", ObjectMetadata(content_type="text/plain"))
    with store.writer() as writer:
        writer.write(b"part")
        part = multipart.put_part(upload, 1, writer, {})
    chosen = multipart.choose(upload, [WantedPart(1, part.etag, {})])
    info = multipart.complete(upload, chosen, {}, None)
    digest = hashlib.md5(bytes.fromhex(part.etag)).hexdigest()
    assert (info.etag, info.content_type, info.size) == (f"{digest}-1", "text/plain", 4)
    with pytest.raises(ApiError) as caught:
        multipart.complete(upload, chosen, {}, None)
    assert caught.value.code == "NoSuchUpload"
    assert multipart.every("bkt") == []


def test_a_page_of_a_large_folder_does_not_read_it_again(store: Objects) -> None:
    folder = Path(store.root) / "bkt" / "many"
    folder.mkdir()
    for i in range(3000):
        (folder / f"{i:06d}").touch()
    past = 1_700_000_000
    os.utime(folder, (past, past))
    page = store.list("bkt", "many/", limit=10)
    listing = store.listings.read(str(folder))
    assert [info.key for info in page.objects] == [f"many/{i:06d}" for i in range(10)]
    assert listing is store.listings.read(str(folder))
    (folder / "zzz").touch()
    assert len(store.listings.read(str(folder)).names) == 3001
    assert keys_of(store, prefix="many/", start_after="many/002999") == ["many/zzz"]
