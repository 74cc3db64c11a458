"""SageMaker SDK v2: SKLearnProcessor, ScriptProcessor and FrameworkProcessor with inputs, outputs and logs."""

import tempfile
from pathlib import Path

import sagemaker
import sagemaker.session
from fast_clock import quicken
from held_out import as_csv, split
from sagemaker.processing import (
    FrameworkProcessor,
    ProcessingInput,
    ProcessingOutput,
    ScriptProcessor,
)
from sagemaker.s3 import S3Downloader
from sagemaker.sklearn import SKLearn
from sagemaker.sklearn.processing import SKLearnProcessor

HERE = Path(__file__).parent
quicken(sagemaker.session)
session = sagemaker.Session()
role = sagemaker.get_execution_role()
train_x, _, train_y, _ = split()
folder = Path(tempfile.mkdtemp())
data = folder / "data.csv"
data.write_text(as_csv(train_y, train_x))
common = {
    "role": role,
    "instance_count": 1,
    "instance_type": "ml.m5.large",
    "sagemaker_session": session,
}
inputs = [ProcessingInput(str(data), "/opt/ml/processing/input", input_name="data")]
outputs = [ProcessingOutput("/opt/ml/processing/means", output_name="means")]


def means(processor):
    described = processor.latest_job.describe()
    assert described["ProcessingJobStatus"] == "Completed"
    uri = described["ProcessingOutputConfig"]["Outputs"][0]["S3Output"]["S3Uri"]
    return S3Downloader.read_file(f"{uri}/means.csv", sagemaker_session=session)


processor = SKLearnProcessor(framework_version="1.2-1", **common)
processor.run(
    str(HERE / "processing_code" / "means.py"),
    inputs=inputs,
    outputs=outputs,
    arguments=["--digits", "3"],
    logs=True,
)
expected = "\n".join(f"{mean:.3f}" for mean in train_x.mean(axis=0))
assert means(processor).split() == expected.split()

image = sagemaker.image_uris.retrieve("sklearn", session.boto_region_name, version="1.2-1")
scripted = ScriptProcessor(image_uri=image, command=["python3"], env={"DIGITS": "2"}, **common)
scripted.run(
    str(HERE / "processing_code" / "means.py"), inputs=inputs, outputs=outputs, logs=True, wait=True
)
assert means(scripted).split()[0] == f"{train_x.mean(axis=0)[0]:.2f}"
described = scripted.latest_job.describe()
assert described["AppSpecification"]["ContainerEntrypoint"] == [
    "python3",
    "/opt/ml/processing/input/code/means.py",
]
assert described["Environment"] == {"DIGITS": "2"}

framework = FrameworkProcessor(estimator_cls=SKLearn, framework_version="1.2-1", **common)
framework.run(
    code="means.py",
    source_dir=str(HERE / "processing_code"),
    inputs=inputs,
    outputs=outputs,
    arguments=["--digits", "1"],
    logs=True,
)
assert means(framework).split()[0] == f"{train_x.mean(axis=0)[0]:.1f}"
print("\ndone")
