"""Channels arrive as SageMaker places them, or fail in its words."""

from __future__ import annotations

import gzip
import io
import tarfile
from pathlib import Path
from typing import Any

import pytest

from clary.runner import staging
from clary.runner.faults import ClientFault
from clary.runner.s3_answers import S3Error
from clary.runner.staging import stage


def channel(uri: str, **members: Any) -> dict[str, Any]:
    return {"name": "train", "uri": uri, "target": "input/data/train", **members}


def files_of(directory: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(directory)): path.read_bytes()
        for path in directory.rglob("*")
        if path.is_file()
    }


def fault(spec, s3) -> str:
    with pytest.raises(ClientFault) as raised:
        stage(spec, s3)
    return str(raised.value)


@pytest.mark.parametrize(
    ("prefix", "expected"),
    [
        ("data/", {"train/x.csv", "train/sub/y.csv", "training.csv"}),
        ("data/train/", {"x.csv", "sub/y.csv"}),
        ("data/train/x.csv", {"x.csv"}),
        ("data/traini", {"training.csv"}),
        ("data/tr", {"train/x.csv", "train/sub/y.csv", "training.csv"}),
        ("data/train/s", {"sub/y.csv"}),
        ("", {"data/train/x.csv", "data/train/sub/y.csv", "data/training.csv"}),
        # What upload_data of the SDK returns has no slash at its end.
        ("data", {"train/x.csv", "train/sub/y.csv", "training.csv"}),
        ("data/train/sub", {"y.csv"}),
    ],
)
def test_objects_are_placed_by_their_key_without_the_prefix(
    make_spec, s3, bucket, put, prefix, expected
):
    put(
        {
            "data/": b"",
            "data/train/": b"",
            "data/train/x.csv": b"1",
            "data/train/sub/y.csv": b"22",
            "data/training.csv": b"333",
        }
    )
    spec = make_spec(inputs=[channel(f"s3://{bucket}/{prefix}")])
    moved = stage(spec, s3)
    placed = files_of(spec.ml / "input/data/train")
    assert set(placed) == expected
    assert moved == sum(len(body) for body in placed.values())


def test_the_layout_and_the_files_of_the_spec_are_there_first(make_spec, s3):
    spec = make_spec(
        files={"input/config/hyperparameters.json": '{"é": "1"}', "config/x.json": "{}"},
        checkpoints={"uri": "s3://b/c", "path": "/opt/ml/checkpoints"},
        outputs=[{"name": "o", "source": "processing/output", "uri": "s3://b/o"}],
    )
    assert stage(spec, s3) == 0
    assert (spec.ml / "input/config/hyperparameters.json").read_bytes() == '{"é": "1"}'.encode()
    for name in (
        "input/config",
        "input/data",
        "model",
        "output/data",
        "output",
        "code",
        "checkpoints",
        "processing/output",
        "config",
    ):
        assert (spec.ml / name).is_dir(), name


def test_no_objects_is_told_in_the_words_of_sagemaker(make_spec, s3, bucket):
    spec = make_spec(
        inputs=[channel(f"s3://{bucket}/nothing")], role="arn:aws:iam::123456789012:role/r"
    )
    assert fault(spec, s3) == (
        f'Data download failed:No S3 objects found under S3 URL "s3://{bucket}/nothing" given in '
        "input data source. Please ensure that the bucket exists in the selected region "
        "(us-east-1), that objects exist under that S3 prefix, and that the role "
        '"arn:aws:iam::123456789012:role/r" has "s3:ListBucket" permissions on bucket '
        f'"{bucket}".'
    )


def test_a_missing_bucket_is_the_users_fault_and_a_failing_server_is_not(
    make_spec, s3, scripted, reply, monkeypatch
):
    spec = make_spec(inputs=[channel("s3://no-such-bucket/x")])
    assert fault(spec, s3) == (
        "Data download failed:NoSuchBucket (404): The specified bucket does not exist: "
        "s3://no-such-bucket"
    )

    def fail(*arguments: object) -> None:
        raise S3Error(500, "InternalError", "oops")

    monkeypatch.setattr(s3, "objects", fail)
    with pytest.raises(S3Error, match="InternalError"):
        stage(spec, s3)


def test_an_object_that_is_both_file_and_folder_is_named(make_spec, s3, bucket, put):
    put({"p/x": b"1", "p/x/y": b"2"})
    spec = make_spec(inputs=[channel(f"s3://{bucket}/p/")])
    assert fault(spec, s3) == (
        "Data download failed:Failed to download data. Please check your s3 objects and ensure "
        "that there is no object that is both a folder as well as a file: "
        f"'s3://{bucket}/p/x' and 's3://{bucket}/p/x/y'"
    )


def test_two_objects_that_would_be_one_file_are_named(make_spec, s3, bucket, put):
    put({"p/a/x": b"1", "p/a//x": b"2"})
    text = fault(make_spec(inputs=[channel(f"s3://{bucket}/p/")]), s3)
    assert "would be the same file 'a/x' of channel train" in text


def test_a_name_that_climbs_out_is_refused(make_spec, s3, bucket, put, tmp_path):
    put({"p/../../../../evil": b"1"})
    text = fault(make_spec(inputs=[channel(f"s3://{bucket}/p/")]), s3)
    assert text.startswith("Data download failed:Failed to download data. The object name")
    assert not list(tmp_path.rglob("evil"))


def test_a_name_too_long_for_a_file_is_the_users_fault(make_spec, s3, bucket, put):
    put({"p/" + "x" * 300: b"1"})
    text = fault(make_spec(inputs=[channel(f"s3://{bucket}/p/")]), s3)
    assert text.startswith("Data download failed:File name too long")


def test_a_manifest_places_its_names_below_its_prefix(make_spec, s3, bucket, put):
    put(
        {
            "q/a/1": b"1",
            "q/b": b"2",
            "q/c": b"3",
            "m.json": f'[{{"prefix": "s3://{bucket}/q/"}}, "a/1", "b"]'.encode(),
        }
    )
    spec = make_spec(inputs=[channel(f"s3://{bucket}/m.json", type="ManifestFile")])
    assert stage(spec, s3) == 2
    assert files_of(spec.ml / "input/data/train") == {"a/1": b"1", "b": b"2"}


@pytest.mark.parametrize(
    ("body", "why"),
    [
        (b"{", "it is not JSON"),
        (b"[]", "it must be a list whose first element is an object with a prefix"),
        (b'["a"]', 'its first element must be {"prefix": "s3://bucket/..."}'),
        (b'[{"prefix": "http://x"}, "a"]', "'http://x' is not an s3:// URI"),
        (b'[{"prefix": "s3://b/"}]', "it lists no objects"),
        (b'[{"prefix": "s3://b/"}, 3]', "its element 1 is not a name"),
    ],
)
def test_a_bad_manifest_is_told_why(make_spec, s3, bucket, put, body, why):
    put({"m.json": body})
    spec = make_spec(inputs=[channel(f"s3://{bucket}/m.json", type="ManifestFile")])
    text = fault(spec, s3)
    assert text.startswith(
        f"Data download failed:The manifest file s3://{bucket}/m.json cannot be used: {why}"
    )


def test_a_manifest_that_names_a_missing_object_says_which(make_spec, s3, bucket, put):
    put({"m.json": f'[{{"prefix": "s3://{bucket}/"}}, "gone"]'.encode()})
    spec = make_spec(inputs=[channel(f"s3://{bucket}/m.json", type="ManifestFile")])
    assert fault(spec, s3) == (
        "Data download failed:NoSuchKey (404): The specified key does not exist.: "
        f"s3://{bucket}/gone"
    )


def test_objects_are_dealt_out_to_the_hosts_in_turn(make_spec, s3, bucket, put):
    put({f"p/{number}": b"x" for number in range(5)})
    found: list[set[str]] = []
    for host in ("algo-1", "algo-2"):
        spec = make_spec(
            host=host,
            hosts=["algo-1", "algo-2"],
            inputs=[channel(f"s3://{bucket}/p/", distribution="ShardedByS3Key")],
        )
        stage(spec, s3)
        found.append(set(files_of(spec.ml / "input/data/train")))
    assert found == [{"0", "2", "4"}, {"1", "3"}]


def test_a_seed_deals_them_out_otherwise_but_to_one_host_each(make_spec, s3, bucket, put):
    put({f"p/{number:02d}": b"x" for number in range(12)})
    found: list[set[str]] = []
    for host in ("algo-1", "algo-2"):
        shuffled = channel(f"s3://{bucket}/p/", distribution="ShardedByS3Key", shuffle_seed=7)
        spec = make_spec(host=host, hosts=["algo-1", "algo-2"], inputs=[shuffled])
        stage(spec, s3)
        found.append(set(files_of(spec.ml / "input/data/train")))
    assert found[0] | found[1] == {f"{number:02d}" for number in range(12)}
    assert not found[0] & found[1]
    assert found[0] != {f"{number:02d}" for number in range(0, 12, 2)}


def archive(entries: dict[str, bytes], mode: str = "w:gz") -> bytes:
    written = io.BytesIO()
    with tarfile.open(fileobj=written, mode=mode) as tar:  # type: ignore[call-overload]
        for name, body in entries.items():
            info = tarfile.TarInfo(name)
            info.size = len(body)
            tar.addfile(info, io.BytesIO(body))
    return written.getvalue()


@pytest.mark.parametrize("mode", ["w", "w:gz", "w:bz2", "w:xz"])
def test_a_model_is_unpacked_into_its_target(make_spec, s3, bucket, put, mode):
    entries = {"./model.bin": b"m" * 100_000, "code/inference.py": b"pass"}
    put({"m/model.tar.gz": archive(entries, mode)})
    model = {
        "name": "model",
        "uri": f"s3://{bucket}/m/model.tar.gz",
        "type": "S3Object",
        "target": "model",
        "unpack": True,
    }
    spec = make_spec(inputs=[model])
    stage(spec, s3)
    assert files_of(spec.ml / "model") == {
        "model.bin": b"m" * 100_000,
        "code/inference.py": b"pass",
    }


def test_one_object_is_placed_by_its_name(make_spec, s3, bucket, put):
    put({"code/train.py": b"pass"})
    spec = make_spec(inputs=[channel(f"s3://{bucket}/code/train.py", type="S3Object")])
    stage(spec, s3)
    assert files_of(spec.ml / "input/data/train") == {"train.py": b"pass"}


@pytest.mark.parametrize(
    ("body", "why"),
    [
        (b"", "it is empty"),
        (b"not a tar" * 100, "it is not a whole tar archive"),
        (gzip.compress(b"x" * 2000)[:-10], "it is not a whole tar archive"),
    ],
    # Named, since a gzip header holds the time: workers must agree on what they collect.
    ids=["empty", "no archive", "cut off"],
)
def test_a_bad_archive_is_named(make_spec, s3, bucket, put, body, why):
    put({"model.tar.gz": body})
    model = channel(f"s3://{bucket}/model.tar.gz", type="S3Object", unpack=True)
    text = fault(make_spec(inputs=[model]), s3)
    assert text.startswith(
        f"Data download failed:The archive s3://{bucket}/model.tar.gz cannot be unpacked: {why}"
    )


def test_a_full_disk_says_how_much_was_needed(make_spec, s3, bucket, put, monkeypatch):
    put({"p/x": b"12345"})
    monkeypatch.setattr(staging.archives, "free_bytes", lambda directory: 3)
    assert fault(make_spec(inputs=[channel(f"s3://{bucket}/p/")]), s3) == (
        "Data download failed:No space left on device: the input data needs 5 bytes, and 3 bytes "
        "are free. Please use a larger volume, or reduce the size of the input data."
    )


def test_many_objects_arrive_and_progress_is_told(make_spec, s3, bucket, put):
    bodies = {f"p/{number}": bytes([number]) * number for number in range(60)}
    put(bodies)
    told: list[int] = []
    spec = make_spec(inputs=[channel(f"s3://{bucket}/p/", mode="FastFile")])
    assert stage(spec, s3, told.append) == sum(range(60))
    assert told[-1] == sum(range(60))
    assert told == sorted(told)
    placed = files_of(spec.ml / "input/data/train")
    assert placed == {key[2:]: body for key, body in bodies.items()}


def test_progress_may_end_the_staging(make_spec, s3, bucket, put):
    put({f"p/{number}": b"x" for number in range(20)})

    class Halted(Exception):
        pass

    def halt(moved: int) -> None:
        raise Halted

    with pytest.raises(Halted):
        stage(make_spec(inputs=[channel(f"s3://{bucket}/p/")]), s3, halt)


def test_an_augmented_manifest_is_for_pipes_only(make_spec, s3, bucket):
    spec = make_spec(inputs=[channel(f"s3://{bucket}/m", type="AugmentedManifestFile")])
    assert fault(spec, s3) == (
        "Data download failed:AugmentedManifestFile is only supported in Pipe input mode "
        "(channel train)"
    )
