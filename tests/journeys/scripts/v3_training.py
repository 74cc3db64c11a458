"""SageMaker SDK v3: ModelTrainer with a script and logs, TrainingJob of the core resources, and a failure."""

import tempfile
from pathlib import Path

import sagemaker.core.resources
from fast_clock import quicken
from held_out import as_csv, split
from sagemaker.core import image_uris
from sagemaker.core.helper.session_helper import Session, get_execution_role
from sagemaker.core.resources import TrainingJob
from sagemaker.core.s3 import S3Downloader
from sagemaker.core.utils.exceptions import FailedStatusError
from sagemaker.train import ModelTrainer
from sagemaker.train.configs import Compute, InputData, SourceCode

HERE = Path(__file__).parent
quicken(sagemaker.core.resources)
session = Session()
role = get_execution_role()
assert role == "arn:aws:iam::123456789012:role/ClaryExecutionRole", role
bucket = session.default_bucket()
train_x, _, train_y, _ = split()
folder = Path(tempfile.mkdtemp())
(folder / "train.csv").write_text(as_csv(train_y, train_x))
image = image_uris.retrieve("sklearn", session.boto_region_name, version="1.2-1")


def trainer(**changes):
    return ModelTrainer(
        training_image=image,
        role=role,
        sagemaker_session=session,
        base_job_name="v3-script",
        compute=Compute(instance_type="ml.m5.large", instance_count=1, volume_size_in_gb=5),
        **changes,
    )


forest = trainer(
    source_code=SourceCode(source_dir=str(HERE / "v3_code"), entry_script="train.py"),
    hyperparameters={"trees": 20, "label": "a forest"},
)
forest.train(
    input_data_config=[InputData(channel_name="train", data_source=str(folder))], logs=True
)
job = forest._latest_training_job
assert isinstance(job, TrainingJob) and job.training_job_status == "Completed", job
artifact = job.model_artifacts.s3_model_artifacts
assert artifact.startswith(f"s3://{bucket}/") and artifact.endswith("/output/model.tar.gz"), (
    artifact
)
assert S3Downloader.list(artifact, sagemaker_session=session) == [artifact]

again = TrainingJob.get(job.training_job_name)
assert again.training_job_arn == job.training_job_arn
assert again.hyper_parameters["label"] == "a forest", again.hyper_parameters
assert job.training_job_name in [one.training_job_name for one in TrainingJob.get_all()]
again.wait(poll=5)

failing = trainer(source_code=SourceCode(command="python -c 'raise KeyError(7)'"))
try:
    failing.train(logs=True)
except FailedStatusError as problem:
    assert "Failed" in str(problem), problem
    print(f"it failed as it should: {problem}")
else:
    raise AssertionError("a command that raises made a job that completed")
print("done")
