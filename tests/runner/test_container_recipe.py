"""A host spec becomes what an engine is asked to make."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from clary.runner.container_recipe import compose, name
from clary.runner.engine_api import Frames
from clary.runner.program import StartError
from clary.runner.spec import HostSpec, parse


@pytest.fixture
def spec(tmp_path: Path) -> Any:
    def spec(**changes: Any) -> HostSpec:
        directory = tmp_path / "algo-1"
        (directory / "ml" / "model").mkdir(parents=True, exist_ok=True)
        program = {
            "argv": ["train"],
            "environment": {"DEPTH": "7"},
            "container": {"engine": "/e.sock", "image": "own:1", **changes.pop("container", {})},
        }
        document = {
            "version": 1,
            "work": "arn:aws:sagemaker:us-east-1:123456789012:training-job/own",
            "generation": 1,
            "host": "algo-1",
            "hosts": ["algo-1"],
            "directory": str(directory),
            "shared": str(tmp_path),
            "endpoint_url": "http://127.0.0.1:4510",
            "region": "us-east-1",
            "program": program,
        }
        return parse({**document, **changes})

    return spec


def composed(spec: HostSpec, *, root: bool = True) -> dict[str, Any]:
    assert spec.program.container is not None
    return compose(spec, spec.program.container, enters_networks=root)


def test_the_entry_point_stays_the_images_own_unless_the_request_names_one(spec: Any) -> None:
    own = composed(spec())["container"]
    assert (own["Cmd"], "Entrypoint" in own) == (["train"], False)
    named = composed(spec(container={"entry_point": True}))["container"]
    assert (named["Entrypoint"], named["Cmd"]) == (["train"], [])


def test_a_container_sees_the_platform_and_keeps_its_own_path(spec: Any) -> None:
    made = composed(spec())["container"]
    variables = dict(one.split("=", 1) for one in made["Env"])
    assert variables["AWS_ENDPOINT_URL"] == "http://127.0.0.1:4510"
    assert variables["DEPTH"] == "7"
    assert "PATH" not in variables
    assert made["HostConfig"]["NetworkMode"] == "host"


def test_an_isolated_container_has_neither_network_nor_credentials(spec: Any) -> None:
    made = composed(spec(network_isolation=True), root=False)["container"]
    assert made["Env"] == ["DEPTH=7"]
    assert made["HostConfig"]["NetworkMode"] == "none"


def test_limits_are_the_engines_to_keep(spec: Any) -> None:
    limits = {"seconds": 9, "memory_bytes": 1 << 30, "cpus": 1.5, "processes": 64}
    config = composed(spec(limits=limits))["container"]["HostConfig"]
    assert config["Memory"] == config["MemorySwap"] == 1 << 30
    assert config["ShmSize"] == 1 << 29
    assert (config["NanoCpus"], config["PidsLimit"]) == (1_500_000_000, 64)


def test_gpus_and_the_user_are_asked_for_where_the_spec_says_so(spec: Any) -> None:
    made = composed(spec(container={"gpus": True, "user": "1000:1000"}))["container"]
    assert made["HostConfig"]["DeviceRequests"] == [{"Count": -1, "Capabilities": [["gpu"]]}]
    assert made["User"] == "1000:1000"
    assert "DeviceRequests" not in composed(spec())["container"]["HostConfig"]


def test_an_ordinary_users_server_listens_on_a_free_port_of_this_machine(spec: Any) -> None:
    serve = {"socket": "serve.sock", "port": 8080}
    made = composed(spec(serve=serve), root=False)
    variables = dict(one.split("=", 1) for one in made["container"]["Env"])
    assert int(variables["SAGEMAKER_BIND_TO_PORT"]) == made["inward"]["port"] != 8080
    with pytest.raises(StartError, match="only root can relay into"):
        composed(spec(serve=serve, network_isolation=True), root=False)


def test_the_name_is_the_same_for_every_try_of_one_host_and_no_other() -> None:
    one = name(Path("/home/a/work/17/g1/algo-1"))
    assert one == name(Path("/home/a/work/17/g1/algo-1"))
    assert one.startswith("clary-17-g1-algo-1-")
    others = ["/home/b/work/17/g1/algo-1", "/home/a/work/17/g2/algo-1", "/home/a/work/17/g1/algo-2"]
    assert len({one, *(name(Path(other)) for other in others)}) == 4


def test_frames_are_taken_apart_wherever_the_stream_was_cut() -> None:
    stream = b"\x01\0\0\0\0\0\0\x03one" + b"\x02\0\0\0\0\0\0\x00" + b"\x02\0\0\0\0\0\0\x05three"
    for cut in range(len(stream)):
        frames = Frames()
        assert frames.feed(stream[:cut]) + frames.feed(stream[cut:]) == b"onethree"
