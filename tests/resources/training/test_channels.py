"""Channels of every kind, as a script finds them in a job of a real server."""

from __future__ import annotations

import gzip
import json
import struct
from typing import Any

import pytest
from botocore.exceptions import ClientError

from tests.resources.training.conftest import channel, printed, resources

# Prints every channel it finds: files with their text, and two epochs of every pipe.
LOOKS = """
import json, os, pathlib
data = pathlib.Path("/opt/ml/input/data")
config = json.loads(pathlib.Path("/opt/ml/input/config/inputdataconfig.json").read_text())
host = json.loads(pathlib.Path("/opt/ml/input/config/resourceconfig.json").read_text())
found = {"host": host["current_host"], "group": host["current_group_name"]}
for name, members in sorted(config.items()):
    if members["TrainingInputMode"] == "Pipe":
        found[name] = [(data / f"{name}_{epoch}").read_bytes().hex() for epoch in (0, 1)]
    else:
        files = sorted(path for path in (data / name).rglob("*") if path.is_file())
        found[name] = {str(path.relative_to(data / name)): path.read_text() for path in files}
print(json.dumps(found), flush=True)
"""


def looked(training, channels: list[dict[str, Any]], **changes: Any) -> list[dict[str, Any]]:
    job = training.run(LOOKS, InputDataConfig=channels, **changes)
    assert job["TrainingJobStatus"] == "Completed", job["FailureReason"]
    return sorted(printed(training.lines(job["TrainingJobName"])), key=lambda one: one["host"])


def record(data: bytes) -> bytes:
    return struct.pack("<II", 0xCED7230A, len(data)) + data + bytes(-len(data) % 4)


def test_channels_of_every_mode_come_side_by_side(training):
    plain = training.put({"a.txt": "A", "deep/b.txt": "B"})
    zipped = training.put({"one.gz": gzip.compress(b"first "), "two.gz": gzip.compress(b"second")})
    listed = training.put({"x/1": "one", "x/2": "two", "x/3": "three"})
    manifest = [{"prefix": f"{listed}/x/"}, "1", "3"]
    names = training.put({"list": json.dumps(manifest)})
    job_channels = [
        channel("plain", f"{plain}/"),
        channel("fast", f"{plain}/", InputMode="FastFile"),
        channel("zipped", f"{zipped}/", InputMode="Pipe", CompressionType="Gzip"),
        channel("framed", f"{listed}/x/", InputMode="Pipe", RecordWrapperType="RecordIO"),
        channel("listed", f"{names}/list", source={"S3DataType": "ManifestFile"}),
    ]
    job = training.run(LOOKS, InputDataConfig=job_channels)
    assert job["TrainingJobStatus"] == "Completed", job["FailureReason"]
    lines = training.lines(job["TrainingJobName"])
    (found,) = printed(lines)
    assert found["plain"] == {"a.txt": "A", "deep/b.txt": "B"}
    assert found["fast"] == found["plain"]
    assert [bytes.fromhex(one) for one in found["zipped"]] == [b"first second"] * 2
    framed = record(b"one") + record(b"two") + record(b"three")
    assert [bytes.fromhex(one) for one in found["framed"]] == [framed] * 2
    assert found["listed"] == {"1": "one", "3": "three"}


def test_an_augmented_manifest_streams_attributes_in_their_order(training):
    images = training.put({"1.jpg": b"\xff\x01", "2.jpg": b"\xff\x02"})
    rows = [
        {"source-ref": f"{images}/1.jpg", "label": 3, "unused": "x"},
        {"source-ref": f"{images}/2.jpg", "label": {"box": [1]}},
    ]
    manifest = training.put({"m": "\n".join(json.dumps(row) for row in rows)})
    source = {
        "S3DataType": "AugmentedManifestFile",
        "AttributeNames": ["source-ref", "label"],
    }
    (found,) = looked(
        training,
        [
            channel(
                "train",
                f"{manifest}/m",
                source=source,
                InputMode="Pipe",
                RecordWrapperType="RecordIO",
            )
        ],
    )
    whole = b"".join(record(one) for one in (b"\xff\x01", b"3", b"\xff\x02", b'{"box": [1]}'))
    assert bytes.fromhex(found["train"][0]) == whole


def test_a_shuffled_pipe_has_another_order_in_every_epoch(training):
    folder = training.put({f"{number}": f"{number}" for number in range(8)})
    shuffled = channel("train", f"{folder}/", InputMode="Pipe", ShuffleConfig={"Seed": 7})
    (found,) = looked(training, [shuffled])
    first, second = (bytes.fromhex(one).decode() for one in found["train"])
    assert sorted(first) == sorted(second) == list("01234567")
    assert len({first, second, "01234567"}) == 3


def test_channels_go_to_their_instance_groups_and_are_sharded_within_them(training):
    folder = training.put({f"{number}": f"{number}" for number in range(4)})
    groups = [
        {"InstanceGroupName": name, "InstanceType": "ml.m5.large", "InstanceCount": count}
        for name, count in (("head", 1), ("body", 2))
    ]
    body = {"InstanceGroupNames": ["body"], "S3DataDistributionType": "ShardedByS3Key"}
    found = looked(
        training,
        [channel("all", f"{folder}/"), channel("part", f"{folder}/", source=body)],
        ResourceConfig={"InstanceGroups": groups, "VolumeSizeInGB": 5},
    )
    assert [one["group"] for one in found] == ["head", "body", "body"]
    assert all(len(one["all"]) == 4 for one in found)
    assert "part" not in found[0]
    assert sorted(found[1]["part"]) == ["0", "2"]
    assert sorted(found[2]["part"]) == ["1", "3"]


def test_a_file_system_is_a_folder_that_the_operator_named(training, server):
    source = {
        "FileSystemId": "fs-0123456789abcdef0",
        "FileSystemType": "EFS",
        "FileSystemAccessMode": "ro",
        "DirectoryPath": "/data",
    }
    asked = [{"ChannelName": "train", "DataSource": {"FileSystemDataSource": source}}]
    with pytest.raises(ClientError, match="CLARY_FILE_SYSTEMS=fs-0123456789abcdef0="):
        training.start("pass", InputDataConfig=asked)


@pytest.mark.parametrize(
    ("members", "text"),
    [
        ({"CompressionType": "Gzip"}, "Gzip is only supported in Pipe input mode"),
        (
            {"source": {"S3DataType": "AugmentedManifestFile", "AttributeNames": ["a"]}},
            "AugmentedManifestFile is only supported in Pipe",
        ),
        (
            {"InputMode": "Pipe", "source": {"S3DataType": "AugmentedManifestFile"}},
            "AttributeNames must be given",
        ),
        ({"source": {"AttributeNames": ["a"]}}, "AttributeNames may only be given"),
        (
            {"InputMode": "FastFile", "source": {"S3DataType": "ManifestFile"}},
            "FastFile input mode only supports S3DataType S3Prefix",
        ),
        ({"source": {"InstanceGroupNames": ["body"]}}, "not among the InstanceGroups"),
        (
            {"source": {"S3Uri": "s3://sagemaker-us-east-1-123456789012/none"}},
            "No S3 objects found",
        ),
    ],
)
def test_a_channel_that_cannot_be_is_refused_when_the_job_is_made(training, members, text):
    folder = training.put({"a": "A"})
    with pytest.raises(ClientError, match=text):
        training.start("pass", InputDataConfig=[channel("train", folder, **members)])


def test_instance_groups_and_an_instance_type_exclude_each_other(training):
    group = {"InstanceGroupName": "a", "InstanceType": "ml.m5.large", "InstanceCount": 1}
    with pytest.raises(ClientError, match="but not both"):
        training.start("pass", ResourceConfig=resources(InstanceGroups=[group]))
    with pytest.raises(ClientError, match="Duplicate InstanceGroupName 'a'"):
        training.start(
            "pass", ResourceConfig={"InstanceGroups": [group, group], "VolumeSizeInGB": 5}
        )
