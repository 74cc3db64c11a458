"""A host never gets all of the machine, and as much of it as its instance type has where that is asked."""

from __future__ import annotations

from pathlib import Path

import pytest

from clary.engine.instance_limits import HostLimits, Machine, limits_of, machine
from clary.engine.instance_types import GIBIBYTE, size_of
from clary.model.service import Services
from clary.settings import Settings

LAPTOP = Machine(16 * GIBIBYTE, 8)


@pytest.mark.parametrize(
    ("name", "cpus", "gibibytes"),
    [
        ("ml.m5.large", 2, 8),
        ("ml.m5.24xlarge", 96, 384),
        ("ml.c5.9xlarge", 36, 72),
        ("ml.c5n.xlarge", 4, 10.5),
        ("ml.r5.2xlarge", 8, 64),
        ("ml.t3.medium", 2, 4),
        ("ml.g4dn.xlarge", 4, 16),
        ("ml.p3.2xlarge", 8, 61),
        ("ml.p4d.24xlarge", 96, 1152),
        ("ml.m7i-flex.large", 2, 8),
    ],
)
def test_a_type_has_the_size_that_aws_publishes(name: str, cpus: int, gibibytes: float) -> None:
    assert size_of(name) == (cpus, gibibytes * GIBIBYTE)


@pytest.mark.parametrize("name", ["", "ml.x9.large", "ml.m5.huge", "ml.m5.٣xlarge", "large"])
def test_an_unknown_type_has_no_size(name: str) -> None:
    assert size_of(name) is None


def test_the_table_knows_nearly_every_type_that_training_and_endpoints_take() -> None:
    service = Services().get("sagemaker")
    assert service is not None
    shapes = service.shape_for
    names: set[str] = set()
    for shape in ("TrainingInstanceType", "ProductionVariantInstanceType"):
        names |= set(shapes(shape).metadata["enum"])
    unknown = {name for name in names if size_of(name) is None}
    assert {name.split(".")[1] for name in unknown} <= {"p6-b200", "p6-b300", "p6e-gb200"}


def test_a_host_gets_the_machine_less_a_reserve_whatever_its_type() -> None:
    for name in ("ml.m5.large", "ml.p4d.24xlarge", ""):
        assert limits_of(LAPTOP, "machine", name) == HostLimits(14 * GIBIBYTE, None)
    assert limits_of(Machine(4 * GIBIBYTE, 2), "machine", "").memory_bytes == 3.5 * GIBIBYTE


def test_a_host_gets_the_size_of_its_type_where_that_is_asked_and_the_machine_has_it() -> None:
    assert limits_of(LAPTOP, "instance-type", "ml.m5.large") == HostLimits(8 * GIBIBYTE, 2.0)
    large = limits_of(LAPTOP, "instance-type", "ml.m5.24xlarge")
    assert large == HostLimits(14 * GIBIBYTE, None)


def test_what_a_request_names_is_a_limit_too() -> None:
    assert limits_of(LAPTOP, "machine", "", GIBIBYTE).memory_bytes == GIBIBYTE
    assert limits_of(LAPTOP, "machine", "", 99 * GIBIBYTE).memory_bytes == 14 * GIBIBYTE


def test_a_container_s_memory_is_the_machine_s(tmp_path: Path) -> None:
    whole = machine(tmp_path)
    assert whole.memory_bytes > 0
    (tmp_path / "memory.max").write_text("max\n")
    assert machine(tmp_path) == whole
    (tmp_path / "memory.max").write_text("104857600\n")
    assert machine(tmp_path).memory_bytes == 104857600


def test_a_word_that_is_no_policy_is_refused_at_the_start() -> None:
    assert Settings.load({"CLARY_INSTANCE_LIMITS": "instance-type"}).instance_limits
    with pytest.raises(ValueError, match="neither machine nor instance-type"):
        Settings.load({"CLARY_INSTANCE_LIMITS": "none"})
