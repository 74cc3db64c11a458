"""Records what the public toolkit makes of the cases in public_toolkit.json, as the oracle of ours.

uv run --no-project --python 3.11 --with sagemaker-training==5.1.4 tests/workloads/toolkit/record_public_toolkit.py
"""

from __future__ import annotations

import importlib
import json
import multiprocessing
import os
import subprocess
import sys
import tempfile
from pathlib import Path

RECORD = Path(__file__).with_name("public_toolkit.json")
FILES = ("hyperparameters", "resourceconfig", "inputdataconfig")


def ask(folder: str) -> None:
    """Print the variables of the configuration in this folder; runs once in a process of its own."""
    multiprocessing.cpu_count = lambda: 8
    environment = importlib.import_module("sagemaker_training.environment")
    variables = environment.Environment().to_env_vars()
    print(json.dumps({name: value.replace(folder, "/opt/ml") for name, value in variables.items()}))


def main() -> None:
    record = json.loads(RECORD.read_text())
    for case in record["cases"]:
        with tempfile.TemporaryDirectory() as folder:
            config = Path(folder) / "input" / "config"
            config.mkdir(parents=True)
            for name in FILES:
                (config / f"{name}.json").write_text(json.dumps(case[name]))
            environ = {"SAGEMAKER_BASE_DIR": folder, "TRAINING_JOB_NAME": "tj", **case["environ"]}
            answer = subprocess.run(
                [sys.executable, __file__, folder],
                env={"PATH": os.environ["PATH"], **environ},
                check=True,
                capture_output=True,
                text=True,
            )
        case["variables"] = json.loads(answer.stdout.splitlines()[-1])
    RECORD.write_text(json.dumps(record, indent=1, sort_keys=True) + "\n")


if __name__ == "__main__":
    ask(sys.argv[1]) if len(sys.argv) > 1 else main()
