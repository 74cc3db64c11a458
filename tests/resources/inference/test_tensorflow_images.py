"""The TensorFlow images end to end: a network trained by a script, and served as TensorFlow Serving would.

Its environment has 1.5 GB, so it is only used where it was built before, or where CLARY_TEST_TENSORFLOW asks for it.
"""

from __future__ import annotations

import io
import json
import os
import tarfile
from typing import Any

import pytest
from botocore.exceptions import ClientError

from clary.images import catalogue
from clary.images.build import is_built
from clary.settings import Settings
from tests.journeys.conftest import REGION, archive, ended, training_job
from tests.resources.inference.conftest import unique, variant

IMAGE = f"763104351884.dkr.ecr.{REGION}.amazonaws.com/tensorflow-{{}}:2.19.0-cpu-py312"
TRAIN = """
import argparse, os
import tensorflow as tf

parser = argparse.ArgumentParser()
parser.add_argument("--model_dir")
parser.add_argument("--factor", type=float)
given = parser.parse_args()
assert given.model_dir == "/opt/ml/model", given

class Model(tf.Module):
    @tf.function(input_signature=[tf.TensorSpec([None, 2], tf.float32, name="x")])
    def __call__(self, x):
        return {"y": tf.reduce_sum(x, axis=1) * given.factor}

model = Model()
target = os.path.join(os.environ["SM_MODEL_DIR"], "1")
tf.saved_model.save(model, target, signatures=model.__call__)
"""
HANDLERS = """
import json

def input_handler(data, context):
    assert context.request_content_type == "text/plain", context
    rows = [[float(one) for one in line.split()] for line in data.read().decode().splitlines()]
    return json.dumps({"instances": rows})

def output_handler(response, context):
    assert response.status_code == 200, response.text
    return ";".join(str(one) for one in response.json()["predictions"]), "text/plain"
"""


def _is_at_hand() -> bool:
    if os.environ.get("CLARY_TEST_TENSORFLOW"):
        return True
    settings = Settings.load()
    return is_built(catalogue.resolve(IMAGE.format("inference"), settings).environment, settings)


pytestmark = [
    pytest.mark.xdist_group("endpoints"),
    pytest.mark.skipif(
        not _is_at_hand(),
        reason="TensorFlow's environment is not built; CLARY_TEST_TENSORFLOW=1 builds it",
    ),
]


def test_a_network_is_trained_and_served(hosting):
    source = f"{unique('source')}/sourcedir.tar.gz"
    hosting.s3.put_object(Bucket=hosting.bucket, Key=source, Body=archive({"train.py": TRAIN}))
    name = unique("tensorflow")
    hosting.sagemaker.create_training_job(
        **training_job(
            name,
            AlgorithmSpecification={
                "TrainingImage": IMAGE.format("training"),
                "TrainingInputMode": "File",
            },
            HyperParameters={
                "sagemaker_program": "train.py",
                "sagemaker_submit_directory": f"s3://{hosting.bucket}/{source}",
                "model_dir": "/opt/ml/model",
                "factor": "2.0",
            },
        )
    )
    job = ended(hosting.sagemaker, name, 500)
    assert job["TrainingJobStatus"] == "Completed", job["FailureReason"]
    container = {"Image": IMAGE.format("inference")}
    container["ModelDataUrl"] = job["ModelArtifacts"]["S3ModelArtifacts"]
    plain = hosting.model("plain", PrimaryContainer=container)
    code = f"{unique('code')}/model.tar.gz"
    artifact = hosting.s3.get_object(
        Bucket=hosting.bucket, Key=container["ModelDataUrl"][5:].partition("/")[2]
    )
    hosting.s3.put_object(
        Bucket=hosting.bucket, Key=code, Body=with_code(artifact["Body"].read(), HANDLERS)
    )
    handled = hosting.model(
        "handled",
        PrimaryContainer={**container, "ModelDataUrl": f"s3://{hosting.bucket}/{code}"},
    )
    endpoint = hosting.endpoint(
        hosting.config(variant(plain, "A"), variant(handled, "B")), seconds=120
    )

    def ask(body: str, kind: str = "application/json", to: str = "A") -> str:
        answer = hosting.runtime.invoke_endpoint(
            EndpointName=endpoint, Body=body, ContentType=kind, TargetVariant=to
        )
        return answer["Body"].read().decode()

    assert json.loads(ask('{"instances": [[1, 2], [3, 4]]}')) == {"predictions": [6.0, 14.0]}
    assert json.loads(ask("1,2\n", "text/csv")) == {"predictions": [6.0]}
    assert json.loads(ask('{"inputs": {"x": [[1, 2]]}}')) == {"outputs": [6.0]}
    assert ask("1 2\n3 4\n", "text/plain", "B") == "6.0;14.0"
    for body in ('{"instances": [[1]]}', '{"signature_name": "none", "instances": [[1, 2]]}', "{"):
        with pytest.raises(ClientError) as caught:
            ask(body)
        told: Any = caught.value.response
        assert told["OriginalStatusCode"] == 400


def with_code(packed: bytes, script: str) -> bytes:
    """A model's archive with an inference.py beside the model."""
    buffer = io.BytesIO()
    with (
        tarfile.open(fileobj=io.BytesIO(packed)) as source,
        tarfile.open(fileobj=buffer, mode="w:gz") as target,
    ):
        for member in source.getmembers():
            content = source.extractfile(member)
            target.addfile(member, content)
        info = tarfile.TarInfo("code/inference.py")
        info.size = len(script)
        target.addfile(info, io.BytesIO(script.encode()))
    return buffer.getvalue()
