"""Container images are registered, found and unpacked without trusting what they say."""

from __future__ import annotations

import gzip
import io
import json
import tarfile
from pathlib import Path

import pytest

from clary.images import container_archives, containers
from clary.images.catalogue import resolve
from clary.settings import Settings

DIGEST = "sha256:" + "a" * 64
CONFIG = "sha256:" + "b" * 64


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings(home=tmp_path / "home", cache=tmp_path / "cache", containers="/nowhere.sock")


def archive(files: dict[str, object]) -> io.BytesIO:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as packed:
        for name, document in files.items():
            data = json.dumps(document).encode()
            member = tarfile.TarInfo(name)
            member.size = len(data)
            packed.addfile(member, io.BytesIO(data))
    return buffer


def oci_archive(layer: str = DIGEST) -> io.BytesIO:
    manifest = {"config": {"digest": CONFIG}, "layers": [{"digest": layer}]}
    index = {"manifests": [{"digest": "sha256:" + "c" * 64}]}
    return archive({"index.json": index, "blobs/sha256/" + "c" * 64: manifest})


def manifest_of(file: object) -> object:
    with tarfile.open(fileobj=file) as packed:  # type: ignore[call-overload]
        read = packed.extractfile("manifest.json")
        assert read is not None
        return json.loads(read.read())


@pytest.mark.parametrize("compressed", [False, True])
def test_an_oci_archive_gets_the_manifest_that_older_engines_read(compressed: bool) -> None:
    data = oci_archive().getvalue()
    file = container_archives.for_engine(io.BytesIO(gzip.compress(data) if compressed else data))
    file.seek(0)
    (entry,) = manifest_of(file)  # type: ignore[misc]
    assert entry["Config"] == "blobs/sha256/" + "b" * 64
    assert entry["Layers"] == ["blobs/sha256/" + "a" * 64]
    file.close()


@pytest.mark.parametrize(
    "spoilt",
    [
        b"",
        b"not an archive" * 100,
        gzip.compress(b"not an archive")[:20],
        archive({"other.json": {}}).getvalue(),
        archive({"index.json": {"manifests": []}}).getvalue(),
        archive({"index.json": ["a list"]}).getvalue(),
        oci_archive("sha256:../../etc/passwd").getvalue(),
    ],
    # The bytes hold the time, and would be the names.
    ids=["empty", "text", "cut off", "other", "no manifests", "no object", "climbs out"],
)
def test_what_is_no_image_archive_is_refused(spoilt: bytes) -> None:
    with pytest.raises(ValueError):
        container_archives.for_engine(io.BytesIO(spoilt))


def test_an_added_container_comes_before_the_family_of_its_name(settings: Settings) -> None:
    uri = "683313688378.dkr.ecr.us-east-1.amazonaws.com/sagemaker-scikit-learn:1.2-1-cpu-py3"
    assert resolve(uri, settings).container == ""
    containers.add(uri, settings)
    assert resolve(uri, settings).container == uri
    assert [one.uri for one in containers.list_images(settings)] == [uri]
    assert containers.remove(uri, settings)
    assert not containers.remove(uri, settings)
    assert resolve(uri, settings).family == "scikit-learn"


@pytest.mark.parametrize("place", ["s3://bucket", "s3:///key", "/no/such/file.tar"])
def test_an_archive_that_cannot_be_there_is_refused_at_once(settings: Settings, place: str) -> None:
    with pytest.raises(ValueError, match="is not"):
        containers.add("team/own:1", settings, archive=place)


def test_the_engine_is_where_the_setting_or_docker_says() -> None:
    def sockets(containers_: str, **environment: str) -> list[str]:
        return list(containers._sockets(Settings(containers=containers_), environment))

    assert sockets("never") == []
    assert sockets("unix:///a.sock") == sockets("/a.sock") == ["/a.sock"]
    assert sockets("auto", DOCKER_HOST="unix:///b.sock") == ["/b.sock"]
    assert sockets("auto")[0] == "/var/run/docker.sock"
    assert "/run/user/7/podman/podman.sock" in sockets("auto", XDG_RUNTIME_DIR="/run/user/7")
