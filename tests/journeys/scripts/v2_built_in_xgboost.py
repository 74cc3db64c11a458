"""SageMaker SDK v2: the built-in XGBoost through Estimator, fit with logs, deploy, predict, update, delete."""

import sagemaker
import sagemaker.session
from botocore.exceptions import ClientError
from fast_clock import quicken
from held_out import accuracy, as_csv, split
from sagemaker.analytics import TrainingJobAnalytics
from sagemaker.deserializers import CSVDeserializer
from sagemaker.inputs import TrainingInput
from sagemaker.s3 import S3Downloader, S3Uploader
from sagemaker.serializers import CSVSerializer

quicken(sagemaker.session)
session = sagemaker.Session()
region = session.boto_region_name
bucket = session.default_bucket()
assert bucket == f"sagemaker-{region}-123456789012", bucket
role = sagemaker.get_execution_role()
assert role == "arn:aws:iam::123456789012:role/ClaryExecutionRole", role

train_x, test_x, train_y, test_y = split()
folder = f"s3://{bucket}/v2-xgboost"
train_uri = S3Uploader.upload_string_as_file_body(
    as_csv(train_y, train_x), f"{folder}/train/train.csv", sagemaker_session=session
)
assert train_uri == f"{folder}/train/train.csv"
assert S3Downloader.list(f"{folder}/train", sagemaker_session=session) == [train_uri]
assert S3Downloader.read_file(train_uri, sagemaker_session=session) == as_csv(train_y, train_x)

image = sagemaker.image_uris.retrieve("xgboost", region, version="3.0-5")
estimator = sagemaker.estimator.Estimator(
    image_uri=image,
    role=role,
    instance_count=1,
    instance_type="ml.m5.large",
    output_path=f"{folder}/models",
    sagemaker_session=session,
    hyperparameters={
        "objective": "binary:logistic",
        "eval_metric": "auc",
        "num_round": 50,
        "max_depth": 4,
    },
    max_run=600,
)
channel = TrainingInput(f"{folder}/train", content_type="text/csv")
estimator.fit({"train": channel, "validation": channel}, logs=True)
name = estimator.latest_training_job.name
assert estimator.model_data == f"{folder}/models/{name}/output/model.tar.gz", estimator.model_data
assert S3Downloader.list(f"{folder}/models", sagemaker_session=session) == [estimator.model_data]
described = estimator.latest_training_job.describe()
assert described["TrainingJobStatus"] == "Completed"
final = {one["MetricName"]: one["Value"] for one in described["FinalMetricDataList"]}
assert final["validation:auc"] > 0.99, final

frame = TrainingJobAnalytics(name, metric_names=["train:auc"]).dataframe()
assert list(frame.metric_name.unique()) == ["train:auc"], frame
assert 0.9 < frame.value.max() <= 1.0, frame

attached = sagemaker.estimator.Estimator.attach(name, sagemaker_session=session)
assert attached.model_data == estimator.model_data
assert attached.hyperparameters()["max_depth"] == "4"

predictor = estimator.deploy(
    initial_instance_count=1,
    instance_type="ml.m5.large",
    serializer=CSVSerializer(),
    deserializer=CSVDeserializer(),
)
answer = predictor.predict(test_x)
scores = [value for line in answer for value in line]
print(f"\naccuracy {accuracy(scores, test_y):.3f}")

config_before = session.sagemaker_client.describe_endpoint(EndpointName=predictor.endpoint_name)[
    "EndpointConfigName"
]
predictor.update_endpoint(initial_instance_count=2, instance_type="ml.m5.large")
updated = session.sagemaker_client.describe_endpoint(EndpointName=predictor.endpoint_name)
assert updated["EndpointStatus"] == "InService"
assert updated["EndpointConfigName"] != config_before
assert updated["ProductionVariants"][0]["CurrentInstanceCount"] == 2, updated
assert accuracy([value for line in predictor.predict(test_x) for value in line], test_y) >= 0.95

predictor.delete_model()
predictor.delete_endpoint(delete_endpoint_config=True)
for describe in (
    lambda: session.sagemaker_client.describe_model(ModelName=predictor.endpoint_name),
    lambda: session.sagemaker_client.describe_endpoint_config(
        EndpointConfigName=updated["EndpointConfigName"]
    ),
):
    try:
        describe()
    except ClientError as problem:
        assert problem.response["Error"]["Code"] == "ValidationException", problem
        assert "Could not find" in problem.response["Error"]["Message"], problem
    else:
        raise AssertionError("it is still there")
print("\ndone")
