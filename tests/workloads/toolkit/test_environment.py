"""The SM_* variables, against what the public toolkit makes of the same files."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest

from clary.workloads.toolkit import environment

PUBLIC = json.loads((Path(__file__).parent / "public_toolkit.json").read_text())


def write(base: Path, files: dict[str, Any]) -> dict[str, str]:
    config = base / "input" / "config"
    config.mkdir(parents=True)
    for name, content in files.items():
        (config / f"{name}.json").write_text(json.dumps(content))
    return {"SAGEMAKER_BASE_DIR": str(base), "TRAINING_JOB_NAME": "tj"}


@pytest.mark.parametrize("case", PUBLIC["cases"], ids=lambda case: case["name"])
def test_every_variable_equals_the_public_toolkits(
    case: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "cpu_count", lambda: 8)
    monkeypatch.setattr(environment.shutil, "which", lambda name: None)
    names = ("hyperparameters", "resourceconfig", "inputdataconfig")
    environ = {**write(tmp_path, {name: case[name] for name in names}), **case["environ"]}
    found = environment.variables(environment.read(environ))
    found = {name: value.replace(str(tmp_path), "/opt/ml") for name, value in found.items()}
    assert found == case["variables"]


def test_the_command_line_is_sorted_and_one_letter_takes_one_dash() -> None:
    assert environment.command_line(
        {"b": True, "alpha": 0.1, "c": None, "d": {"y": 1, "x": [2]}}
    ) == [
        "--alpha",
        "0.1",
        "-b",
        "True",
        "-c",
        "",
        "-d",
        "x=[2],y=1",
    ]


def test_values_that_are_no_json_stay_as_they_are(tmp_path: Path) -> None:
    environ = write(
        tmp_path,
        {
            "hyperparameters": {"text": "hello world", "number": "1e-3", "quoted": '"7"'},
            "resourceconfig": {"current_host": "a", "hosts": ["a"]},
        },
    )
    env = environment.read(environ)
    assert env.hyperparameters == {"text": "hello world", "number": 0.001, "quoted": "7"}
    assert env.input_data_config == {}


def test_a_distribution_runs_on_the_current_group_unless_groups_are_named(tmp_path: Path) -> None:
    environ = write(
        tmp_path,
        {
            "hyperparameters": {"sagemaker_mpi_enabled": "true"},
            "resourceconfig": {"current_host": "a", "hosts": ["a"], "current_group_name": "g"},
        },
    )
    env = environment.read(environ)
    assert environment.distribution_groups(env) == ["g"]
    env.framework_parameters["sagemaker_distribution_instance_groups"] = ["h"]
    assert environment.distribution_groups(env) == ["h"]


def test_topology_is_told_only_where_there_is_one(tmp_path: Path) -> None:
    environ = write(
        tmp_path,
        {
            "resourceconfig": {
                "current_host": "a",
                "hosts": ["a"],
                "topology": [{"hostName": "a"}],
            },
        },
    )
    found = environment.variables(environment.read(environ))
    assert found["SM_TOPOLOGY"] == '[{"hostName":"a"}]'


def test_devices_are_counted_by_their_drivers_tools(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, text in (
        ("nvidia-smi", "GPU 0: A\\nGPU 1: B\\n"),
        ("neuron-ls", '[{\\"nc_count\\": 2}, {\\"nc_count\\": 2}]'),
    ):
        tool = tmp_path / name
        tool.write_text(f'#!/bin/sh\nprintf "{text}"\n')
        tool.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    assert environment.count_gpus() == 2
    assert environment.count_neurons("ml.inf2.xlarge") == 4
    assert environment.count_neurons("ml.trn2.48xlarge") == 64
