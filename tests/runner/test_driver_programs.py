"""What SDK v3's drivers find beside what this machine has."""

from __future__ import annotations

import os
import stat
from collections.abc import Callable
from pathlib import Path

from clary.runner import driver_programs
from clary.runner.spec import HostSpec

Make = Callable[..., HostSpec]
START = "$SM_PYTHON_CMD /opt/ml/input/data/sm_drivers/distributed_drivers/"


def driven(make_spec: Make, driver: str) -> HostSpec:
    target = "input/data/sm_drivers"
    channel = {"name": "sm_drivers", "uri": "s3://b/p", "type": "S3Prefix", "target": target}
    spec = make_spec(inputs=[channel], program={"argv": ["x"], "prefix": "/opt/an env"})
    (spec.ml / target).mkdir(parents=True)
    (spec.ml / target / "sm_train.sh").write_text(f"set -e\n{START}{driver}\n")
    return spec


def test_sshd_and_ssh_stand_beside_links_to_the_programs_of_this_machine(make_spec: Make) -> None:
    spec = driven(make_spec, "mpi_driver.py")
    place = os.path.realpath("/usr/sbin")
    folder = spec.directory / "sbin"
    for _ in range(2):  # a program may be started again
        assert driver_programs.mounts(spec) == [
            ["write", str(spec.directory / "environment"), "/etc/environment"],
            ["read", place, "/run/sbin"],
            ["read", str(folder), place],
        ]
    names = {path.name for path in Path(place).iterdir()}
    assert {path.name for path in folder.iterdir()} == names | {"ssh", "sshd"}
    other = min(names - {"ssh", "sshd"})
    assert (folder / other).readlink() == Path("/run/sbin") / other
    assert (folder / "ssh").read_text() == (
        "#!/bin/sh\nexec '/opt/an env/bin/python3' "
        '-m clary.workloads.toolkit.secure_shell call "$@"\n'
    )
    assert (folder / "sshd").stat().st_mode & stat.S_IXUSR
    assert (spec.directory / "environment").stat().st_mode & 0o777 == 0o600


def test_a_single_script_and_a_job_without_its_drivers_need_none_of_it(make_spec: Make) -> None:
    spec = driven(make_spec, "basic_script_driver.py")
    assert driver_programs.mounts(spec) == []
    (spec.ml / "input/data/sm_drivers/sm_train.sh").unlink()
    assert driver_programs.mounts(spec) == []
    assert not (spec.directory / "sbin").exists()
