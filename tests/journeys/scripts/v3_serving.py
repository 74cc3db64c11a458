"""SageMaker SDK v3: ScriptProcessor, then XGBoost through ModelTrainer, ModelBuilder and Endpoint.invoke."""

import tempfile
from pathlib import Path

import sagemaker.core.helper.session_helper
import sagemaker.core.processing
import sagemaker.core.resources
import sagemaker.serve.deployment_progress
from fast_clock import quicken
from held_out import accuracy, as_csv, split
from sagemaker.core import image_uris
from sagemaker.core.helper.session_helper import Session, get_execution_role
from sagemaker.core.processing import ScriptProcessor
from sagemaker.core.resources import Endpoint, EndpointConfig, Model, ProcessingJob
from sagemaker.core.s3 import S3Downloader
from sagemaker.core.shapes import (
    ProcessingInput,
    ProcessingOutput,
    ProcessingS3Input,
    ProcessingS3Output,
)
from sagemaker.core.training.configs import Compute, InputData
from sagemaker.serve.model_builder import ModelBuilder
from sagemaker.train import ModelTrainer

HERE = Path(__file__).parent
for module in (
    sagemaker.core.resources,
    sagemaker.core.processing,
    sagemaker.core.helper.session_helper,
    sagemaker.serve.deployment_progress,
):
    quicken(module)
session = Session()
role = get_execution_role()
bucket = session.default_bucket()
region = session.boto_region_name
train_x, test_x, train_y, test_y = split()
folder = Path(tempfile.mkdtemp())
(folder / "data.csv").write_text(as_csv(train_y, train_x))

# 1. A processing job.
data = session.upload_data(str(folder / "data.csv"), bucket, "v3-serving/train")
assert data == f"s3://{bucket}/v3-serving/train/data.csv", data
processor = ScriptProcessor(
    image_uri=image_uris.retrieve("sklearn", region, version="1.2-1"),
    command=["python3"],
    role=role,
    instance_count=1,
    instance_type="ml.m5.large",
    sagemaker_session=session,
)
source = ProcessingS3Input(
    s3_uri=data,
    local_path="/opt/ml/processing/input",
    s3_data_type="S3Prefix",
    s3_input_mode="File",
)
target = ProcessingS3Output(
    s3_uri=f"s3://{bucket}/v3-serving/means",
    local_path="/opt/ml/processing/means",
    s3_upload_mode="EndOfJob",
)
processor.run(
    str(HERE / "processing_code" / "means.py"),
    inputs=[ProcessingInput(input_name="data", s3_input=source)],
    outputs=[ProcessingOutput(output_name="means", s3_output=target)],
    arguments=["--digits", "3"],
    logs=True,
)
described = ProcessingJob.get(processor.latest_job.processing_job_name)
assert described.processing_job_status == "Completed", described
# The script reads data.csv, which the input put there under its own name.
means = S3Downloader.read_file(f"s3://{bucket}/v3-serving/means/means.csv", session)
assert means.split()[0] == f"{train_x.mean(axis=0)[0]:.3f}", means

# 2. A built-in algorithm.
trainer = ModelTrainer(
    training_image=image_uris.retrieve("xgboost", region, version="3.0-5"),
    role=role,
    sagemaker_session=session,
    base_job_name="v3-xgboost",
    compute=Compute(instance_type="ml.m5.large", instance_count=1, volume_size_in_gb=5),
    hyperparameters={"objective": "binary:logistic", "num_round": 50, "eval_metric": "auc"},
)
trainer.train(
    input_data_config=[
        InputData(
            channel_name="train",
            data_source=f"s3://{bucket}/v3-serving/train/",
            content_type="text/csv",
        )
    ],
    logs=True,
)
job = trainer._latest_training_job
assert {one.metric_name for one in job.final_metric_data_list} == {"train:auc"}

# 3. Model, endpoint, predictions.
builder = ModelBuilder(
    s3_model_data_url=job.model_artifacts.s3_model_artifacts,
    image_uri=image_uris.retrieve("xgboost", region, version="3.0-5"),
    role_arn=role,
    sagemaker_session=session,
    instance_type="ml.m5.large",
)
model = builder.build(model_name="v3-model")
assert isinstance(model, Model) and model.model_name == "v3-model", model
endpoint = builder.deploy(endpoint_name="v3-endpoint", instance_type="ml.m5.large")
assert isinstance(endpoint, Endpoint), endpoint
answer = endpoint.invoke(
    body="\n".join(",".join(map(str, row)) for row in test_x), content_type="text/csv"
)
scores = answer.body.read().decode().replace("\n", ",").split(",")
print(f"\naccuracy {accuracy([score for score in scores if score], test_y):.3f}")
assert answer.invoked_production_variant == "AllTraffic", answer

again = Endpoint.get("v3-endpoint")
assert again.endpoint_status == "InService" and again.production_variants, again
assert [one.endpoint_name for one in Endpoint.get_all()] == ["v3-endpoint"]
assert [one.model_name for one in Model.get_all(name_contains="v3-model")] == ["v3-model"]
config = EndpointConfig.get(again.endpoint_config_name)
again.delete()
again.wait_for_delete(poll=5)
config.delete()
Model.get("v3-model").delete()
print("\ndone")
