"""Online explainability of real endpoints: attributions beside predictions, where they are asked for."""

from __future__ import annotations

import json
from typing import Any

import pytest
from botocore.exceptions import ClientError

from tests.journeys.conftest import SKLEARN, archive
from tests.resources.inference.conftest import VARIABLES, unique, variant

pytestmark = pytest.mark.xdist_group("endpoints")

# A linear model, whose attributions are known: 2 a - 3 b + c, moved away from the baseline.
SCRIPT = """
import json

def model_fn(folder):
    return (2.0, -3.0, 1.0)

def input_fn(body, content_type):
    text = body.decode() if isinstance(body, bytes) else body
    if content_type == "text/csv":
        return [[float(one) for one in line.split(",")] for line in text.splitlines()]
    return [json.loads(line)["f"] for line in text.splitlines()]

def predict_fn(rows, model):
    return [sum(w * one for w, one in zip(model, row)) for row in rows]

def output_fn(scores, accept):
    if accept == "text/csv":
        return "".join(f"{one}\\n" for one in scores), "text/csv"
    return "".join(json.dumps({"score": one}) + "\\n" for one in scores), "application/jsonlines"
"""


def explainer(**changes: Any) -> dict[str, Any]:
    config: dict[str, Any] = {
        "InferenceConfig": {"FeatureHeaders": ["a", "b", "c"]},
        "ShapConfig": {"ShapBaselineConfig": {"ShapBaseline": "1,1,1\n3,1,1\n"}},
    }
    return {"ClarifyExplainerConfig": {**config, **changes}}


def linear(hosting) -> str:
    key = f"{unique('linear')}/model.tar.gz"
    hosting.s3.put_object(
        Bucket=hosting.bucket, Key=key, Body=archive({"code/inference.py": SCRIPT})
    )
    container = {"Image": SKLEARN, "ModelDataUrl": f"s3://{hosting.bucket}/{key}"}
    return hosting.model("linear", PrimaryContainer={**container, "Environment": VARIABLES})


def ask(hosting, name: str, body: str, kind: str = "text/csv", **members: Any) -> dict[str, Any]:
    answer = hosting.runtime.invoke_endpoint(
        EndpointName=name, Body=body, ContentType=kind, Accept=kind, **members
    )
    assert answer["ContentType"] == "application/json"
    return json.loads(answer["Body"].read())


def values(record: list[dict[str, Any]]) -> list[float]:
    return [one["attributions"][0]["attribution"][0] for one in record]


def test_attributions_of_the_records_that_are_wanted(hosting):
    model = linear(hosting)
    config = hosting.config(variant(model), ExplainerConfig=explainer())
    name = hosting.endpoint(config)
    shown = hosting.described(name)["ExplainerConfig"]
    assert shown == explainer()
    told = ask(hosting, name, "5,2,1\n0,0,0\n", EnableExplanations="[0]>`0`")
    assert told["version"] == "1.0"
    assert told["predictions"] == {"content_type": "text/csv", "data": "5.0\n0.0\n"}
    first, second = told["explanations"]["kernel_shap"]
    assert second is None
    assert [one["feature_header"] for one in first] == ["a", "b", "c"]
    # The baseline is 2, 1, 1 in the mean.
    assert values(first) == pytest.approx([6.0, -3.0, 0.0], abs=1e-6)
    told = ask(hosting, name, "5,2,1\n", EnableExplanations="`false`")
    assert told["explanations"] == {}
    assert len(ask(hosting, name, "5,2,1\n")["explanations"]["kernel_shap"]) == 1
    with pytest.raises(ClientError, match=r"clarify-explainer.*must have the 2 features") as caught:
        ask(hosting, name, "5,2\n")
    told: Any = caught.value.response
    assert told["OriginalStatusCode"] == 400
    with pytest.raises(ClientError, match="EnableExplanations"):
        ask(hosting, name, "5,2,1\n", EnableExplanations="[[")
    key = f"{unique('baseline')}.csv"
    hosting.s3.put_object(Bucket=hosting.bucket, Key=key, Body=b"2,1,1\n")
    lines = explainer(
        EnableExplanations="score>`4`",
        InferenceConfig={
            "FeaturesAttribute": "f",
            "ContentTemplate": '{"f":$features}',
            "ProbabilityAttribute": "score",
            "MaxRecordCount": 2,
        },
        ShapConfig={
            "ShapBaselineConfig": {"ShapBaselineUri": f"s3://{hosting.bucket}/{key}"},
            "Seed": 1,
        },
    )
    hosting.sagemaker.update_endpoint(
        EndpointName=name,
        EndpointConfigName=hosting.config(variant(model), ExplainerConfig=lines),
    )
    hosting.in_service(name)
    told = ask(hosting, name, '{"f": [5, 2, 1]}\n{"f": [1, 1, 1]}\n', "application/jsonlines")
    first, second = told["explanations"]["kernel_shap"]
    assert second is None and "feature_header" not in first[0]
    assert values(first) == pytest.approx([6.0, -3.0, 0.0], abs=1e-6)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"EnableExplanations": "a >"}, "not a valid JMESPath"),
        ({"ShapConfig": {"ShapBaselineConfig": {}}}, "Exactly one of ShapBaseline"),
    ],
)
def test_an_explainer_that_could_not_work_is_refused(hosting, changes, words):
    model = hosting.model("m")
    with pytest.raises(ClientError, match=words):
        hosting.config(variant(model), ExplainerConfig=explainer(**changes))


def test_a_baseline_that_is_not_there_is_told_before_the_endpoint_is_made(hosting):
    gone = {"ShapBaselineConfig": {"ShapBaselineUri": f"s3://{hosting.bucket}/gone.csv"}}
    config = hosting.config(variant(hosting.model("m")), ExplainerConfig=explainer(ShapConfig=gone))
    with pytest.raises(ClientError, match="Could not find the SHAP baseline"):
        hosting.endpoint(config)
