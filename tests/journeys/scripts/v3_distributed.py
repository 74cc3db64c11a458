"""SageMaker SDK v3: ModelTrainer over two hosts with Torchrun, and with MPI at the same time."""

import json
import logging
import tarfile
from pathlib import Path

import boto3
import sagemaker.core.resources
from fast_clock import quicken
from sagemaker.core import image_uris
from sagemaker.core.helper.session_helper import Session, get_execution_role
from sagemaker.train import ModelTrainer
from sagemaker.train.configs import Compute, SourceCode
from sagemaker.train.distributed import MPI, Torchrun

quicken(sagemaker.core.resources)
logging.basicConfig(level=logging.INFO)
session = Session()
image = image_uris.retrieve(
    "pytorch",
    session.boto_region_name,
    version="2.5.1",
    py_version="py311",
    image_scope="training",
    instance_type="ml.m5.large",
)


def trainer(name: str, folder: str, script: str, **more: object) -> ModelTrainer:
    return ModelTrainer(
        training_image=image,
        role=get_execution_role(),
        sagemaker_session=session,
        base_job_name=name,
        compute=Compute(instance_type="ml.m5.large", instance_count=2, volume_size_in_gb=5),
        source_code=SourceCode(source_dir=str(Path(__file__).parent / folder), entry_script=script),
        **more,
    )


torchrun = trainer(
    "v3-torchrun",
    "distributed_code",
    "ddp.py",
    distributed=Torchrun(process_count_per_node=1),
    hyperparameters={"steps": 2},
)
mpi = trainer(
    "v3-mpi",
    "v3_mpi_code",
    "ranks.py",
    # The driver takes the count as that of all processes, and mpirun fills the first host first.
    distributed=MPI(process_count_per_node=2, mpi_additional_options=["--map-by", "node"]),
    hyperparameters={"factor": 3},
    # For the source folder's sitecustomize.py: the driver's waits of 5 s and 30 s pass quicker.
    environment={"PYTHONPATH": "/opt/ml/input/data/code"},
)
torchrun.train(wait=False)
mpi.train(logs=True)
torchrun._latest_training_job.wait(logs=True)
for one in (torchrun, mpi):
    assert one._latest_training_job.training_job_status == "Completed"

uri = mpi._latest_training_job.model_artifacts.s3_model_artifacts
bucket, _, key = uri.removeprefix("s3://").partition("/")
boto3.client("s3").download_file(bucket, key, "model.tar.gz")
with tarfile.open("model.tar.gz") as packed:
    total = packed.extractfile("total.json")
    assert total is not None
    print(f"the artifact: {json.load(total)}")
print("\ndone")
