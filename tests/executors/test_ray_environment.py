"""What a node of a Ray cluster makes of a job's program, without a cluster."""

from __future__ import annotations

import sys
import threading
from pathlib import Path
from typing import Any

import pytest

from clary.executors import ray_environment
from clary.executors.ray_files import packed_code
from clary.images import workload_code
from clary.images.environment import Environment, as_document
from clary.images.uv import EnvironmentFailed
from clary.settings import Settings

PYTHON = f"{sys.version_info.major}.{sys.version_info.minor}"


def request_of(folder: Path) -> dict[str, Any]:
    """A job as control sends it: its paths are on another machine."""
    code = workload_code.staged(Settings(home=folder, cache=folder / "control"))
    (folder / "host").mkdir()
    (folder / "host" / "code.zip").write_bytes(packed_code(code))
    variables = {"PLAIN": "user's", "CLARY_UV": "/of/control/uv", "UV_CACHE_DIR": "/user's/own"}
    return {
        "directory": str(folder / "host"),
        "program": {"argv": ["x"], "prefix": "/of/control/e", "code": f"/c/{code.name}"}
        | {"environment": variables},
        "node": {
            "environment": as_document(Environment(PYTHON)),
            "machine": {"CLARY_UV": "/of/control/uv", "UV_CACHE_DIR": "/of/control/packages"},
        },
    }


def test_a_node_builds_the_environment_and_names_its_own_paths(tmp_path):
    told: list[str] = []
    settings = Settings(home=tmp_path, cache=tmp_path / "node")
    request = request_of(tmp_path)
    program = ray_environment.prepared(request, settings, told.append, threading.Event())  # type: ignore[arg-type]
    assert program["prefix"] == str(tmp_path / "node" / "environments" / Environment(PYTHON).key)
    assert program["code"] == str(tmp_path / "node" / Path("code", Path(program["code"]).name))
    assert (Path(program["code"]) / "clary" / "runner" / "host.py").exists()
    assert told[0] == "building it, once for this node"
    variables = program["environment"]
    assert (variables["PLAIN"], variables["UV_CACHE_DIR"]) == ("user's", "/user's/own")
    assert Path(variables["CLARY_UV"]).exists()


def test_code_that_arrives_damaged_is_not_run(tmp_path):
    request = request_of(tmp_path)
    request["program"]["code"] = "/c/another"
    settings = Settings(home=tmp_path, cache=tmp_path / "node")
    with pytest.raises(EnvironmentFailed, match="arrived here damaged"):
        ray_environment.prepared(request, settings, print, threading.Event())  # type: ignore[arg-type]


def test_a_long_failure_keeps_node_log_and_remedy_within_a_failure_reason():
    problem = "`uv pip install` failed.\n" + "why\n" * 1000 + "Check the network."
    told = ray_environment.failure(problem, "the Ray node 10.0.0.7 (n7)", "/group, stream s")
    assert len(told) < 1000
    assert "10.0.0.7" in told
    assert "log: /group, stream s" in told
    assert told.endswith("Check the network.")
