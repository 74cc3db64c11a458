"""Train, deploy and query a model with plain boto3: data in S3 -> processing -> training -> endpoint -> prediction.

Nothing in this file is about Clary: with AWS credentials and an execution role it runs on Amazon SageMaker as it is.

    clary run -- python examples/quickstart.py
"""

import csv
import io
import os
import time

import boto3
from sklearn.datasets import load_breast_cancer

PREPARE = """
import pandas as pd
from sklearn.model_selection import train_test_split
from sklearn.preprocessing import StandardScaler

data = pd.read_csv("/opt/ml/processing/input/data/data.csv", header=None)
rest, test = train_test_split(data, test_size=0.2, random_state=7, stratify=data[0])
train, validation = train_test_split(rest, test_size=0.2, random_state=7, stratify=rest[0])
scaler = StandardScaler().fit(train.iloc[:, 1:])
for name, part in {"train": train, "validation": validation, "test": test}.items():
    scaled = pd.DataFrame(scaler.transform(part.iloc[:, 1:]), index=part.index)
    out = pd.concat([part[0].astype(int), scaled], axis=1)
    out.to_csv(f"/opt/ml/processing/{name}/{name}.csv", header=False, index=False)
    print(f"{name}: {len(out)} rows")
"""

started = time.perf_counter()
steps = []


def step(name):
    """Remember how long each step took."""
    now = time.perf_counter()
    steps.append((name, now - started - sum(seconds for _, seconds in steps)))
    print(f"  {name:<38}{steps[-1][1]:8.2f} s", flush=True)


def wait(describe, status, **name):
    """Poll often: the waiters of boto3 are made for jobs of minutes."""
    while True:
        answer = describe(**name)
        if answer[status] in ("Completed", "InService"):
            return answer
        if answer[status] in ("Failed", "Stopped"):
            raise SystemExit(f"{name}: {answer[status]}: {answer.get('FailureReason')}")
        time.sleep(0.1)


sagemaker = boto3.client("sagemaker")
runtime = boto3.client("sagemaker-runtime")
s3 = boto3.client("s3")
identity = boto3.client("sts").get_caller_identity()
region, account = sagemaker.meta.region_name, identity["Account"]
role_name = os.environ.get("SAGEMAKER_ROLE") or identity["Arn"].split("/")[1]
role = f"arn:aws:iam::{account}:role/{role_name}"
stamp = time.strftime("%Y%m%d-%H%M%S")
name = f"quickstart-{stamp}"

# The images' registry differs by region; us-west-2 and us-east-1 are shown, others are in SageMaker's documentation.
registry = {"us-east-1": "683313688378", "us-west-2": "246618743249"}.get(region, "683313688378")
sklearn_image = f"{registry}.dkr.ecr.{region}.amazonaws.com/sagemaker-scikit-learn:1.2-1-cpu-py3"
xgboost_image = f"{registry}.dkr.ecr.{region}.amazonaws.com/sagemaker-xgboost:3.0-5"

# 1. Data in S3: the Wisconsin breast-cancer data, the label in the first column.
bucket = f"sagemaker-{region}-{account}"
if region == "us-east-1":
    s3.create_bucket(Bucket=bucket)
else:
    s3.create_bucket(Bucket=bucket, CreateBucketConfiguration={"LocationConstraint": region})
features, labels = load_breast_cancer(return_X_y=True)
text = io.StringIO()
csv.writer(text).writerows([label, *row] for label, row in zip(labels, features, strict=True))
s3.put_object(Bucket=bucket, Key=f"{name}/data/data.csv", Body=text.getvalue().encode())
s3.put_object(Bucket=bucket, Key=f"{name}/code/prepare.py", Body=PREPARE.encode())
step("upload 569 rows to S3")


# 2. A processing job splits and scales.
def s3_input(label, key, path):
    source = {"S3Uri": f"s3://{bucket}/{name}/{key}", "LocalPath": path, "S3DataType": "S3Prefix"}
    return {"InputName": label, "S3Input": {**source, "S3InputMode": "File"}}


def s3_output(label):
    target = {"S3Uri": f"s3://{bucket}/{name}/{label}", "LocalPath": f"/opt/ml/processing/{label}"}
    return {"OutputName": label, "S3Output": {**target, "S3UploadMode": "EndOfJob"}}


sagemaker.create_processing_job(
    ProcessingJobName=name,
    RoleArn=role,
    AppSpecification={
        "ImageUri": sklearn_image,
        "ContainerEntrypoint": ["python3", "/opt/ml/processing/input/code/prepare.py"],
    },
    ProcessingInputs=[
        s3_input("data", "data/data.csv", "/opt/ml/processing/input/data"),
        s3_input("code", "code/prepare.py", "/opt/ml/processing/input/code"),
    ],
    ProcessingOutputConfig={
        "Outputs": [s3_output(part) for part in ("train", "validation", "test")]
    },
    ProcessingResources={
        "ClusterConfig": {"InstanceCount": 1, "InstanceType": "ml.m5.large", "VolumeSizeInGB": 5}
    },
)
wait(sagemaker.describe_processing_job, "ProcessingJobStatus", ProcessingJobName=name)
step("processing job: split and scale")


# 3. A training job with the built-in XGBoost.
def channel(label):
    source = {"S3DataType": "S3Prefix", "S3Uri": f"s3://{bucket}/{name}/{label}/"}
    return {
        "ChannelName": label,
        "ContentType": "text/csv",
        "DataSource": {"S3DataSource": source},
    }


sagemaker.create_training_job(
    TrainingJobName=name,
    RoleArn=role,
    AlgorithmSpecification={"TrainingImage": xgboost_image, "TrainingInputMode": "File"},
    HyperParameters={
        "objective": "binary:logistic",
        "eval_metric": "auc",
        "num_round": "100",
        "max_depth": "4",
        "eta": "0.2",
    },
    InputDataConfig=[channel("train"), channel("validation")],
    OutputDataConfig={"S3OutputPath": f"s3://{bucket}/{name}/models"},
    ResourceConfig={"InstanceType": "ml.m5.large", "InstanceCount": 1, "VolumeSizeInGB": 5},
    StoppingCondition={"MaxRuntimeInSeconds": 600},
)
job = wait(sagemaker.describe_training_job, "TrainingJobStatus", TrainingJobName=name)
step("training job: XGBoost, 100 rounds")

# 4. Model, endpoint configuration, endpoint.
artifact = job["ModelArtifacts"]["S3ModelArtifacts"]
sagemaker.create_model(
    ModelName=name,
    ExecutionRoleArn=role,
    PrimaryContainer={"Image": xgboost_image, "ModelDataUrl": artifact},
)
sagemaker.create_endpoint_config(
    EndpointConfigName=name,
    ProductionVariants=[
        {
            "VariantName": "AllTraffic",
            "ModelName": name,
            "InstanceType": "ml.m5.large",
            "InitialInstanceCount": 1,
        }
    ],
)
sagemaker.create_endpoint(EndpointName=name, EndpointConfigName=name)
wait(sagemaker.describe_endpoint, "EndpointStatus", EndpointName=name)
step("endpoint: from model to in service")

# 5. Predict the rows that the model has not seen.
held_out = s3.get_object(Bucket=bucket, Key=f"{name}/test/test.csv")["Body"].read().decode()
rows = [line.split(",", 1) for line in held_out.splitlines()]
answer = runtime.invoke_endpoint(
    EndpointName=name,
    ContentType="text/csv",
    Body="\n".join(row for _, row in rows).encode(),
)
scores = [
    float(score) for score in answer["Body"].read().decode().replace("\n", ",").split(",") if score
]
right = sum(
    (score > 0.5) == bool(int(label)) for (label, _), score in zip(rows, scores, strict=True)
)
step(f"predict {len(rows)} held-out rows")

# 6. Clean up what would cost money on AWS.
sagemaker.delete_endpoint(EndpointName=name)
sagemaker.delete_endpoint_config(EndpointConfigName=name)
sagemaker.delete_model(ModelName=name)
step("delete endpoint, configuration and model")

metrics = {one["MetricName"]: one["Value"] for one in job.get("FinalMetricDataList", [])}
print(f"\n  accuracy on held-out rows: {right / len(rows):.3f}   ({right} of {len(rows)})")
print(f"  validation:auc           : {metrics.get('validation:auc', float('nan')):.4f}")
print(f"  model                    : {artifact}")
print(f"  total                    : {time.perf_counter() - started:.1f} s")
