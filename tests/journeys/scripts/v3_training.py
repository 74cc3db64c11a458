"""SageMaker SDK v3: ModelTrainer with a script and logs, its model served with handlers, and a failure."""

import json
import logging
import tempfile
from pathlib import Path

import sagemaker.core.resources
import sagemaker.serve.deployment_progress
from fast_clock import quicken
from held_out import accuracy, as_csv, split
from sagemaker.core import image_uris
from sagemaker.core.helper.session_helper import Session, get_execution_role
from sagemaker.core.resources import TrainingJob
from sagemaker.core.s3 import S3Downloader
from sagemaker.core.utils.exceptions import FailedStatusError
from sagemaker.serve.model_builder import ModelBuilder
from sagemaker.train import ModelTrainer
from sagemaker.train.configs import Compute, InputData, SourceCode

HERE = Path(__file__).parent
quicken(sagemaker.core.resources)
quicken(sagemaker.serve.deployment_progress)
# The SDK tells a job's lines to its logger, at a level that Python hides unless it is asked.
logging.basicConfig(level=logging.INFO)
session = Session()
role = get_execution_role()
assert role == "arn:aws:iam::123456789012:role/ClaryExecutionRole", role
bucket = session.default_bucket()
train_x, test_x, train_y, test_y = split()
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

# The SDK packs the handlers into a copy of the artifact.
builder = ModelBuilder(
    s3_model_data_url=artifact,
    image_uri=image,
    source_code=SourceCode(source_dir=str(HERE / "v3_handlers"), entry_script="inference.py"),
    role_arn=role,
    sagemaker_session=session,
    instance_type="ml.m5.large",
)
model = builder.build(model_name="v3-forest")
assert model.primary_container.environment["SAGEMAKER_PROGRAM"] == "inference.py", model
endpoint = builder.deploy(endpoint_name="v3-forest", instance_type="ml.m5.large")
answer = endpoint.invoke(body=json.dumps(test_x.tolist()), content_type="application/json")
assert answer.content_type == "application/json", answer
print(f"\naccuracy {accuracy(json.loads(answer.body.read()), test_y):.3f}")
endpoint.delete()
endpoint.wait_for_delete()
model.delete()

failing = trainer(source_code=SourceCode(command="python -c 'raise KeyError(7)'"))
try:
    failing.train(logs=True)
except FailedStatusError as problem:
    assert "Failed" in str(problem), problem
    print(f"it failed as it should: {problem}")
else:
    raise AssertionError("a command that raises made a job that completed")
print("\ndone")
