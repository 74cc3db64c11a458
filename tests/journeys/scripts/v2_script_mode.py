"""SageMaker SDK v2: SKLearn and XGBoost script mode with a source folder, requirements and metric definitions."""

import json
import tarfile
import tempfile
from pathlib import Path

import sagemaker
import sagemaker.session
from fast_clock import quicken
from held_out import accuracy, as_csv, split
from sagemaker.deserializers import JSONDeserializer
from sagemaker.exceptions import UnexpectedStatusException
from sagemaker.s3 import S3Downloader, S3Uploader
from sagemaker.serializers import JSONSerializer
from sagemaker.sklearn import SKLearn, SKLearnModel
from sagemaker.xgboost import XGBoost

HERE = Path(__file__).parent
quicken(sagemaker.session)
session = sagemaker.Session()
role = sagemaker.get_execution_role()
bucket = session.default_bucket()
train_x, test_x, train_y, test_y = split()
folder = Path(tempfile.mkdtemp())
(folder / "train.csv").write_text(as_csv(train_y, train_x))
uploaded = S3Uploader.upload(
    str(folder), f"s3://{bucket}/v2-script-mode/train", sagemaker_session=session
)

common = {
    "source_dir": str(HERE / "source_code"),
    "role": role,
    "instance_count": 1,
    "instance_type": "ml.m5.large",
    "sagemaker_session": session,
}
estimator = SKLearn(
    "train.py",
    framework_version="1.2-1",
    hyperparameters={"trees": 30, "label": "a forest"},
    metric_definitions=[{"Name": "train:accuracy", "Regex": "train_accuracy=([0-9.]+);"}],
    **common,
)
estimator.fit({"train": uploaded}, logs=True)
job = estimator.latest_training_job.describe()
assert job["HyperParameters"]["trees"] == "30", job["HyperParameters"]
assert job["HyperParameters"]["label"] == '"a forest"', job["HyperParameters"]
final = {one["MetricName"]: one["Value"] for one in job["FinalMetricDataList"]}
assert final["train:accuracy"] > 0.99, final
statuses = [one["Status"] for one in job["SecondaryStatusTransitions"]]
assert statuses[-4:] == ["Downloading", "Training", "Uploading", "Completed"], statuses
frame = sagemaker.TrainingJobAnalytics(estimator.latest_training_job.name).dataframe()
assert list(frame.metric_name.unique()) == ["train:accuracy"], frame

S3Downloader.download(estimator.model_data, str(folder / "model"), sagemaker_session=session)
with tarfile.open(folder / "model" / "model.tar.gz") as archive:
    assert "model.joblib" in {name.removeprefix("./") for name in archive.getnames()}
output = estimator.model_data.replace("model.tar.gz", "output.tar.gz")
S3Downloader.download(output, str(folder / "output"), sagemaker_session=session)
with tarfile.open(folder / "output" / "output.tar.gz") as archive:
    archive.extractall(folder / "output", filter="data")
seen = json.loads((folder / "output" / "seen.json").read_text())
assert json.loads(seen["SM_HOSTS"]) == ["algo-1"] and seen["SM_CURRENT_HOST"] == "algo-1", seen
assert json.loads(seen["SM_HPS"]) == {"trees": 30, "label": "a forest"}, seen

attached = SKLearn.attach(estimator.latest_training_job.name, sagemaker_session=session)
assert attached.hyperparameters()["trees"] == "30", attached.hyperparameters()
assert attached.model_data == estimator.model_data

# The estimator's own model, then the same artifact as a model of its own with a variable.
predictor = attached.deploy(
    initial_instance_count=1,
    instance_type="ml.m5.large",
    serializer=JSONSerializer(),
    deserializer=JSONDeserializer(),
)
answer = predictor.predict({"rows": test_x.tolist()})
print(f"\nestimator accuracy {accuracy(answer['scores'], test_y):.3f}")
predictor.delete_model()
predictor.delete_endpoint()

model = SKLearnModel(
    model_data=estimator.model_data,
    role=role,
    entry_point="train.py",
    source_dir=str(HERE / "source_code"),
    framework_version="1.2-1",
    env={"SCALE": "100"},
    sagemaker_session=session,
)
predictor = model.deploy(
    initial_instance_count=1,
    instance_type="ml.m5.large",
    serializer=JSONSerializer(),
    deserializer=JSONDeserializer(),
)
hundredfold = predictor.predict({"rows": test_x.tolist()})["scores"]
assert 50 < max(hundredfold) <= 100, max(hundredfold)
print(f"\nmodel accuracy {accuracy([score / 100 for score in hundredfold], test_y):.3f}")
predictor.delete_model()
predictor.delete_endpoint()

# The XGBoost image in script mode, and a script that fails.
boosted = XGBoost(
    "boost.py",
    framework_version="3.0-5",
    hyperparameters={"num_round": 20},
    **common,
)
boosted.fit({"train": uploaded}, logs=True)
assert S3Downloader.list(boosted.model_data, sagemaker_session=session) == [boosted.model_data]

failing = SKLearn("failing.py", framework_version="1.2-1", hyperparameters={"code": 3}, **common)
try:
    failing.fit(logs=True)
except UnexpectedStatusException as problem:
    name = failing.latest_training_job.name
    assert str(problem).startswith(f"Error for Training job {name}: Failed. Reason: "), problem
    assert "ValueError: there is no column 'price'" in str(problem), problem
    assert problem.actual_status == "Failed"
    print("the failing script failed as it should")
else:
    raise AssertionError("a script that raises made a job that completed")
print("\ndone")
