"""SageMaker SDK v2: a HyperparameterTuner of a script, its analytics, its best estimator, attach and warm start."""

import tempfile
from pathlib import Path

import sagemaker
import sagemaker.session
from fast_clock import quicken
from held_out import as_csv, split
from sagemaker.analytics import HyperparameterTuningJobAnalytics
from sagemaker.s3 import S3Uploader
from sagemaker.sklearn import SKLearn
from sagemaker.tuner import (
    CategoricalParameter,
    ContinuousParameter,
    HyperparameterTuner,
    IntegerParameter,
    WarmStartConfig,
    WarmStartTypes,
)

HERE = Path(__file__).parent
quicken(sagemaker.session)
session = sagemaker.Session()
bucket = session.default_bucket()
train_x, test_x, train_y, test_y = split()
folder = Path(tempfile.mkdtemp())
(folder / "train.csv").write_text(as_csv(train_y, train_x))
uploaded = S3Uploader.upload(
    str(folder), f"s3://{bucket}/v2-tuning/train", sagemaker_session=session
)
estimator = SKLearn(
    "tuned.py",
    source_dir=str(HERE / "tuning_code"),
    role=sagemaker.get_execution_role(),
    instance_count=1,
    instance_type="ml.m5.large",
    framework_version="1.2-1",
    hyperparameters={"folds": 2},
    sagemaker_session=session,
)
common = {
    "estimator": estimator,
    "objective_metric_name": "validation:accuracy",
    "hyperparameter_ranges": {
        "penalty": ContinuousParameter(0.001, 10, scaling_type="Logarithmic"),
        "iterations": IntegerParameter(20, 60),
        "solver": CategoricalParameter(["lbfgs", "liblinear"]),
    },
    "metric_definitions": [{"Name": "validation:accuracy", "Regex": "accuracy=([0-9.]+);"}],
    "objective_type": "Maximize",
}
tuner = HyperparameterTuner(**common, max_jobs=4, max_parallel_jobs=2, early_stopping_type="Auto")
tuner.fit({"train": uploaded})
job = tuner.describe()
assert job["HyperParameterTuningJobStatus"] == "Completed", job
best = tuner.best_training_job()
print("best", best)

frame = HyperparameterTuningJobAnalytics(tuner.latest_tuning_job.name, session).dataframe()
assert len(frame) == 4, frame
assert set(frame.solver) <= {"lbfgs", "liblinear", '"lbfgs"', '"liblinear"'}, frame
assert frame.penalty.between(0.001, 10).all() and frame.iterations.between(20, 60).all(), frame
assert frame.FinalObjectiveValue.max() > 0.9, frame
assert (frame.TrainingElapsedTimeSeconds > 0).all(), frame
assert tuner.analytics().tuning_ranges.keys() == {"penalty", "iterations", "solver"}

found = tuner.best_estimator()
assert found.latest_training_job.name == best
assert found.hyperparameters()["folds"] == "2", found.hyperparameters()
attached = HyperparameterTuner.attach(tuner.latest_tuning_job.name, sagemaker_session=session)
assert attached.best_training_job() == best
assert attached.strategy == "Bayesian" and attached.early_stopping_type == "Auto"

parents = WarmStartConfig(
    WarmStartTypes.IDENTICAL_DATA_AND_ALGORITHM, {tuner.latest_tuning_job.name}
)
warm = HyperparameterTuner(
    **common,
    max_jobs=1,
    max_parallel_jobs=1,
    warm_start_config=parents,
    base_tuning_job_name="warm",  # the SDK's names tell minutes only, and this is the same one
)
warm.fit({"train": uploaded})
overall = warm.describe()["OverallBestTrainingJob"]
assert overall["TrainingJobName"] in (best, warm.best_training_job()), overall
tuner.stop_tuning_job()
print("done")
