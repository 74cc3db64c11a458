"""Clients that people put on the S3 door: the AWS command line, pyarrow and s3fs."""

import os
import subprocess
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
from pyarrow.fs import FileSelector, S3FileSystem

from tests.dataplane.objects.conftest import Door
from tests.journeys.environments import programs_of


def test_the_command_line_syncs_a_folder_there_and_back(
    door: Door, bucket: str, tmp_path: Path
) -> None:
    aws = str(programs_of("awscli") / "aws")
    source = tmp_path / "source"
    for name in ("a.txt", "d/b c.txt", "d/e/ü.bin"):
        (source / name).parent.mkdir(parents=True, exist_ok=True)
        (source / name).write_bytes(name.encode() * 100)
    (source / "big.bin").write_bytes(bytes(9 * 1024 * 1024))
    environment = {
        "PATH": os.environ["PATH"],
        "HOME": str(tmp_path),
        "LC_ALL": "C.UTF-8",
        "AWS_DEFAULT_REGION": "us-east-1",
        **{name.upper(): value for name, value in door.keys["admin"].items()},
    }

    def sync(*arguments: str) -> str:
        command = [aws, "--endpoint-url", door.url, "s3", "sync", "--no-progress", *arguments]
        done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60)
        assert done.returncode == 0, done.stderr
        return done.stdout

    assert sync(str(source), f"s3://{bucket}/x").count("upload:") == 4
    assert sync(f"s3://{bucket}/x", str(tmp_path / "target")).count("download:") == 4
    for path in source.rglob("*.*"):
        assert (tmp_path / "target" / path.relative_to(source)).read_bytes() == path.read_bytes()


def test_pyarrow_writes_and_reads_a_data_set(door: Door, bucket: str) -> None:
    keys = door.keys["admin"]
    files = S3FileSystem(
        access_key=keys["aws_access_key_id"],
        secret_key=keys["aws_secret_access_key"],
        endpoint_override=door.url,
        region="us-east-1",
    )
    table = pa.table({"part": [1, 1, 2], "value": [1.0, 2.0, 3.0]})
    pq.write_to_dataset(table, f"{bucket}/set", partition_cols=["part"], filesystem=files)
    assert pq.read_table(f"{bucket}/set", filesystem=files).num_rows == 3
    found = files.get_file_info(FileSelector(f"{bucket}/set", recursive=True))
    assert sum(info.is_file for info in found) == 2
    with files.open_output_stream(f"{bucket}/large") as stream:
        for _ in range(3):
            stream.write(bytes(5 * 1024 * 1024))
    assert files.get_file_info(f"{bucket}/large").size == 15 * 1024 * 1024
    files.delete_dir(f"{bucket}/set")
    assert files.get_file_info(f"{bucket}/set/part=1").type.name == "NotFound"


def test_s3fs_writes_lists_and_reads(door: Door, bucket: str) -> None:
    keys = door.keys["admin"]
    script = Path(__file__).with_name("s3fs_session.py")
    done = subprocess.run(
        [programs_of("s3fs") / "python", script, door.url, bucket],
        env={"PATH": os.environ["PATH"], **{name.upper(): value for name, value in keys.items()}},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == [f"{bucket}/d/one", f"{bucket}/d/two", "xxxx", "two", "gone"]
