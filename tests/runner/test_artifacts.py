"""Artifacts are stored by result and form, merged over the hosts, and never through a link."""

from __future__ import annotations

import io
import os
import tarfile
import threading
import time
from typing import Any

import pytest

from clary.runner import peers
from clary.runner.artifacts import Continuous, part_key, upload
from clary.runner.faults import ClientFault


def model_output(bucket: str, **members: Any) -> dict[str, Any]:
    return {
        "name": "model",
        "source": "model",
        "uri": f"s3://{bucket}/out/job/output/model.tar.gz",
        "form": "tar.gz",
        **members,
    }


def tree_output(bucket: str, **members: Any) -> dict[str, Any]:
    return {
        "name": "result",
        "source": "processing/output",
        "uri": f"s3://{bucket}/out/",
        "form": "tree",
        **members,
    }


def write(spec, files: dict[str, bytes]) -> None:
    for name, body in files.items():
        path = spec.ml / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(body)


def contents(data: bytes) -> dict[str, bytes]:
    with tarfile.open(fileobj=io.BytesIO(data), mode="r:gz") as tar:
        files = [member for member in tar if member.isfile()]
        return {member.name: tar.extractfile(member).read() for member in files}


def test_a_model_is_stored_as_one_archive(make_spec, s3, bucket, stored):
    spec = make_spec(outputs=[model_output(bucket)])
    write(spec, {"model/m.bin": b"12345", "model/code/x.py": b"1"})
    uri = f"s3://{bucket}/out/job/output/model.tar.gz"
    assert upload(spec, s3, "success") == {"model": {"uri": uri, "bytes": 6, "files": 2}}
    assert contents(stored()["out/job/output/model.tar.gz"]) == {
        "m.bin": b"12345",
        "code/x.py": b"1",
    }


def test_an_empty_model_is_stored_if_required_and_else_left_out(make_spec, s3, bucket, stored):
    spec = make_spec(
        outputs=[
            model_output(bucket),
            model_output(
                bucket,
                name="data",
                source="output/data",
                uri=f"s3://{bucket}/output.tar.gz",
                required=False,
            ),
            tree_output(bucket, required=False),
        ]
    )
    assert set(upload(spec, s3, "success")) == {"model"}
    assert contents(stored()["out/job/output/model.tar.gz"]) == {}


@pytest.mark.parametrize(
    ("result", "expected"),
    [
        ("success", {"always", "done"}),
        ("failure", {"always"}),
        ("stopped", {"always", "stop"}),
        ("timeout", {"always", "stop"}),
    ],
)
def test_the_result_decides_which_outputs_are_stored(make_spec, s3, bucket, result, expected):
    every = ["success", "failure", "stopped"]
    outputs = [
        model_output(bucket, name=name, uri=f"s3://{bucket}/{name}.tar.gz", on=on)
        for name, on in (("always", every), ("done", ["success"]), ("stop", ["stopped"]))
    ]
    assert set(upload(make_spec(outputs=outputs), s3, result)) == expected


def test_a_tree_is_stored_file_by_file(make_spec, s3, bucket, stored):
    spec = make_spec(outputs=[tree_output(bucket)])
    write(
        spec,
        {"processing/output/a": b"1", "processing/output/d/é \x01.csv": b"22"},
    )
    root = spec.ml / "processing/output"
    (root / "empty").mkdir()
    (root / "link").symlink_to("/etc/passwd")
    (root / "linked").symlink_to("/etc")
    os.mkfifo(root / "fifo")
    (root / os.fsdecode(b"\xff")).write_bytes(b"333")
    assert upload(spec, s3, "success") == {
        "result": {"uri": f"s3://{bucket}/out/", "bytes": 6, "files": 3}
    }
    assert stored() == {"out/a": b"1", "out/d/é \x01.csv": b"22", "out/\\xff": b"333"}


def test_a_prefix_is_joined_with_one_slash_and_else_left_as_it_is(make_spec, s3, bucket, stored):
    for number, uri in enumerate(("p", "q/", "user//key", "")):
        spec = make_spec(outputs=[tree_output(bucket, uri=f"s3://{bucket}/{uri}")])
        write(spec, {f"processing/output/{number}": b"1"})
        upload(spec, s3, "success")
        (spec.ml / f"processing/output/{number}").unlink()
    assert set(stored()) == {"p/0", "q/1", "user//key/2", "3"}


def test_encryption_is_asked_for(make_spec, s3, bucket, boto):
    spec = make_spec(
        outputs=[model_output(bucket, kms_key_id="key"), tree_output(bucket, kms_key_id="key")]
    )
    write(spec, {"processing/output/x": b"1"})
    upload(spec, s3, "success")
    for key in ("out/job/output/model.tar.gz", "out/x"):
        head = boto("s3").head_object(Bucket=bucket, Key=key)
        assert (head["ServerSideEncryption"], head["SSEKMSKeyId"]) == ("aws:kms", "key")


def test_a_refusal_is_told_in_the_words_of_sagemaker(make_spec, s3):
    spec = make_spec(outputs=[model_output("no-such-bucket")])
    with pytest.raises(ClientFault) as raised:
        upload(spec, s3, "success")
    assert str(raised.value) == (
        "Artifact upload failed:NoSuchBucket (404): The specified bucket does not exist: "
        "s3://no-such-bucket/out/job/output/model.tar.gz"
    )


def hosts(make_spec, bucket: str, count: int = 3) -> list[Any]:
    names = [f"algo-{number + 1}" for number in range(count)]
    return [
        make_spec(host=name, hosts=names, outputs=[model_output(bucket), tree_output(bucket)])
        for name in names
    ]


def test_the_first_host_waits_for_the_others_and_merges(make_spec, s3, bucket, stored):
    specs = hosts(make_spec, bucket)
    for spec in specs:
        body = spec.host.encode()
        write(spec, {f"model/{spec.host}": body, "model/same": body, "processing/output/x": body})
    answers: dict[str, Any] = {}
    leader = threading.Thread(target=lambda: answers.update(leader=upload(specs[0], s3, "success")))
    leader.start()
    for spec in specs[1:]:
        assert set(upload(spec, s3, "success")) == {"result"}
    leader.join(10)
    assert answers["leader"]["model"]["files"] == 4
    assert contents(stored()["out/job/output/model.tar.gz"]) == {
        "algo-1": b"algo-1",
        "algo-2": b"algo-2",
        "algo-3": b"algo-3",
        "same": b"algo-3",
    }


def test_a_host_that_vanished_does_not_hold_up_the_first(make_spec, s3, bucket, monkeypatch):
    monkeypatch.setattr(peers, "LOOK_SECONDS", 0.01)
    monkeypatch.setattr(peers, "GONE_LOOKS", 3)
    specs = hosts(make_spec, bucket)
    (specs[1].directory / "outcome.json").write_text("{}")
    (specs[2].directory / "runner.lock").write_text("999999999")
    assert peers.wait(specs[0], "success") == ["algo-2"]


def test_a_failed_first_host_does_not_wait_for_hosts_that_go_on(make_spec, bucket, monkeypatch):
    monkeypatch.setattr(peers, "FAILURE_SECONDS", 0.2)
    specs = hosts(make_spec, bucket, 2)
    (specs[1].directory / "runner.lock").write_text(str(os.getpid()))
    began = time.monotonic()
    assert peers.wait(specs[0], "failure") == []
    assert time.monotonic() - began < 4


def test_hosts_on_another_machine_send_their_parts_through_s3(
    make_spec, s3, bucket, stored, tmp_path
):
    names = ["algo-1", "algo-2"]
    outputs = [model_output(bucket)]
    far = make_spec(
        host="algo-2", hosts=names, outputs=outputs, shared=str(tmp_path / "other" / "g1")
    )
    write(far, {"model/far": b"2"})
    assert upload(far, s3, "success") == {}
    part = part_key(far, "out/job/output/model.tar.gz", "algo-2")
    assert set(stored()) == {part}
    near = make_spec(
        host="algo-1", hosts=names, outputs=outputs, shared=str(tmp_path / "elsewhere")
    )
    write(near, {"model/near": b"1"})
    assert upload(near, s3, "success")["model"]["files"] == 2
    assert set(stored()) == {"out/job/output/model.tar.gz"}
    assert contents(stored()["out/job/output/model.tar.gz"]) == {"far": b"2", "near": b"1"}
    assert not (near.directory / "parts").exists()


def test_continuous_outputs_are_stored_while_the_program_runs(make_spec, s3, bucket, stored):
    spec = make_spec(outputs=[tree_output(bucket, when="continuous")])
    write(spec, {"processing/output/a": b"1"})
    continuous = Continuous(spec, s3, interval_seconds=0.02)
    continuous.start()
    deadline = time.monotonic() + 10
    while "out/a" not in stored() and time.monotonic() < deadline:
        time.sleep(0.02)
    assert stored() == {"out/a": b"1"}
    write(spec, {"processing/output/b": b"22"})
    (spec.ml / "processing/output/a").unlink()
    assert continuous.finish() == {"result": {"uri": f"s3://{bucket}/out/", "bytes": 3, "files": 2}}
    assert stored() == {"out/a": b"1", "out/b": b"22"}
    assert upload(spec, s3, "success") == {}
