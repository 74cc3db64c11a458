"""SageMaker SDK v2: PyTorch estimators over two hosts, with torchrun and with MPI, and a rank that fails."""

from pathlib import Path

import sagemaker
import sagemaker.session
from fast_clock import quicken
from sagemaker.exceptions import UnexpectedStatusException
from sagemaker.pytorch import PyTorch

quicken(sagemaker.session)
session = sagemaker.Session()
MPI = {"mpi": {"enabled": True, "processes_per_host": 2, "custom_mpi_options": "-x COLOUR=red"}}


def estimator(
    script: str, distribution: dict, instance_type: str = "ml.m5.large", **hyperparameters: object
) -> PyTorch:
    return PyTorch(
        entry_point=script,
        source_dir=str(Path(__file__).parent / "distributed_code"),
        role=sagemaker.get_execution_role(),
        instance_type=instance_type,
        instance_count=2,
        framework_version="2.5.1",
        py_version="py311",
        sagemaker_session=session,
        distribution=distribution,
        hyperparameters=hyperparameters,
    )


# The SDK wants GPUs for torchrun; where there are none the script runs on the processors.
torchrun = {"torch_distributed": {"enabled": True}}
data_parallel = estimator("ddp.py", torchrun, instance_type="ml.g5.xlarge", steps=3)
data_parallel.fit(logs="All")
assert data_parallel.model_data.endswith("/output/model.tar.gz")
estimator("rings.py", MPI).fit(logs="All")
try:
    estimator("rings.py", MPI, fail=1).fit(logs="All")
except UnexpectedStatusException as problem:
    print(f"it failed as it should: {problem}")
else:
    raise AssertionError("a rank that raises made a job that completed")
print("\ndone")
