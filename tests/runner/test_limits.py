"""Control groups are made where this user may, told apart by name, and removed again."""

from __future__ import annotations

import os
import resource
from pathlib import Path

import pytest

from clary.runner import limits

VERSION, PLACES = limits.controllers()
NAME = f"test-{os.getpid()}"


def test_resource_limits_are_known_to_python_and_leave_the_address_space_alone() -> None:
    assert limits.resource_limits() == {"CORE": (0, 0)}
    assert all(hasattr(resource, "RLIMIT_" + name) for name in limits.resource_limits())


def test_no_limit_asks_for_no_group() -> None:
    assert limits.make_group(NAME, limits.Wanted(None, None, None)) == limits.NO_GROUP


@pytest.mark.skipif(VERSION != "v1" or len(PLACES) < 3, reason="no control groups v1 to write")
def test_a_group_holds_what_was_asked_is_found_by_name_and_is_removed() -> None:
    group = limits.make_group(NAME, limits.Wanted(64 << 20, 0.5, 20))
    try:
        values = {
            "memory": ("memory.limit_in_bytes", str(64 << 20)),
            "cpu": ("cpu.cfs_quota_us", "50000"),
            "pids": ("pids.max", "20"),
        }
        for controller, (file, value) in values.items():
            assert (Path(group.folders[controller]) / file).read_text().strip() == value
        assert len(group.entrances()) == 3
        assert limits.find_group(NAME) == group
        assert group.out_of_memory() is False
    finally:
        assert group.remove() == []
    assert limits.find_group(NAME) == limits.NO_GROUP
    assert not any(Path(folder).exists() for folder in group.folders.values())


def test_a_version_2_group_tells_of_a_kill_in_its_events(tmp_path: Path) -> None:
    group = limits.Group("v2", {"memory": str(tmp_path)})
    (tmp_path / "memory.events").write_text("low 0\nhigh 0\nmax 9\noom 1\noom_kill 0\n")
    assert group.out_of_memory() is False
    (tmp_path / "memory.events").write_text("low 0\noom 1\noom_kill 2\noom_group_kill 0\n")
    assert group.out_of_memory() is True
