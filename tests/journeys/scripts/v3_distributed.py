"""SageMaker SDK v3: ModelTrainer with Torchrun over two hosts."""

import logging
from pathlib import Path

import sagemaker.core.resources
from fast_clock import quicken
from sagemaker.core import image_uris
from sagemaker.core.helper.session_helper import Session, get_execution_role
from sagemaker.train import ModelTrainer
from sagemaker.train.configs import Compute, SourceCode
from sagemaker.train.distributed import Torchrun

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
trainer = ModelTrainer(
    training_image=image,
    role=get_execution_role(),
    sagemaker_session=session,
    base_job_name="v3-torchrun",
    compute=Compute(instance_type="ml.m5.large", instance_count=2, volume_size_in_gb=5),
    source_code=SourceCode(
        source_dir=str(Path(__file__).parent / "distributed_code"), entry_script="ddp.py"
    ),
    distributed=Torchrun(process_count_per_node=1),
    hyperparameters={"steps": 2},
)
trainer.train(logs=True)
assert trainer._latest_training_job.training_job_status == "Completed"
print("\ndone")
