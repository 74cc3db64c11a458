"""Real endpoints of several containers and of many models."""

from __future__ import annotations

import json
import os
import signal

import pytest
from botocore.exceptions import ClientError

from tests.journeys.conftest import SKLEARN, archive, wait_until
from tests.resources.inference.conftest import SCRIPT, VARIABLES, refusal, unique, variant

pytestmark = pytest.mark.xdist_group("endpoints")


def test_a_pipeline_hands_each_answer_on_to_the_next_container(hosting):
    containers = [hosting.container("one"), hosting.container("two"), hosting.container("three")]
    name = hosting.endpoint(hosting.config(variant(hosting.model("", Containers=containers))))
    assert hosting.invoke(name) == "three(two(one(x)))"
    images = hosting.described(name)["ProductionVariants"][0]["DeployedImages"]
    assert len(images) == 3
    code, message = refusal(
        hosting.runtime.invoke_endpoint, EndpointName=name, Body="x", TargetContainerHostname="a"
    )
    assert code == "ValidationError" and "Direct mode" in message


def test_an_error_within_a_pipeline_names_its_container(hosting):
    broken = hosting.container("two")
    broken["Environment"] = {**VARIABLES, "SAGEMAKER_PROGRAM": "inference.py"}
    key = f"{unique('broken')}/model.tar.gz"
    script = SCRIPT.replace('return f"{model}({body})"', 'raise ValueError("no such row")')
    packed = archive({"name.txt": "two", "code/inference.py": script})
    hosting.s3.put_object(Bucket=hosting.bucket, Key=key, Body=packed)
    broken["ModelDataUrl"] = f"s3://{hosting.bucket}/{key}"
    model = hosting.model("", Containers=[hosting.container("one"), broken])
    name = hosting.endpoint(hosting.config(variant(model)))
    code, message = refusal(
        hosting.runtime.invoke_endpoint, EndpointName=name, Body="x", ContentType="text/plain"
    )
    assert code == "ModelError"
    assert message.startswith("Received server error (500) from container_2 with message")


def test_a_direct_endpoint_asks_the_container_that_is_named(hosting):
    containers = [
        hosting.container("one", ContainerHostname="first"),
        hosting.container("two", ContainerHostname="second"),
    ]
    model = hosting.model("", Containers=containers, InferenceExecutionConfig={"Mode": "Direct"})
    name = hosting.endpoint(hosting.config(variant(model)))
    assert hosting.invoke(name, TargetContainerHostname="second") == "two(x)"
    assert hosting.invoke(name, TargetContainerHostname="first") == "one(x)"
    invoke = hosting.runtime.invoke_endpoint
    code, message = refusal(invoke, EndpointName=name, Body="x")
    assert code == "ValidationError" and "TargetContainerHostname" in message
    code, message = refusal(invoke, EndpointName=name, Body="x", TargetContainerHostname="third")
    assert code == "ValidationError" and "no container third" in message


@pytest.fixture
def shelf(hosting):
    """A multi-model endpoint, and a way to put models under its prefix."""
    prefix = f"{unique('models')}/"
    container = {
        "Image": SKLEARN,
        "Mode": "MultiModel",
        "ModelDataUrl": f"s3://{hosting.bucket}/{prefix}",
        "Environment": VARIABLES,
    }

    def put(key: str, says: str, files: dict[str, str] | None = None) -> None:
        packed = archive(files or {"name.txt": says, "code/inference.py": SCRIPT})
        hosting.s3.put_object(Bucket=hosting.bucket, Key=prefix + key, Body=packed)

    put("a.tar.gz", "a")
    put("more/b.tar.gz", "b")
    model = hosting.model("", PrimaryContainer=container)
    return hosting.endpoint(hosting.config(variant(model))), put


def test_a_multi_model_endpoint_loads_a_model_when_it_is_first_asked(hosting, shelf):
    name, put = shelf
    assert hosting.invoke(name, TargetModel="a.tar.gz") == "a(x)"
    assert hosting.invoke(name, TargetModel="/more/b.tar.gz") == "b(x)"
    put("c.tar.gz", "c")
    assert hosting.invoke(name, TargetModel="c.tar.gz") == "c(x)"
    invoke = hosting.runtime.invoke_endpoint
    code, message = refusal(invoke, EndpointName=name, Body="x", TargetModel="none.tar.gz")
    assert code == "ValidationError"
    assert message.startswith(f"Failed to download model data(bucket: {hosting.bucket}, key: ")
    code, message = refusal(invoke, EndpointName=name, Body="x")
    assert code == "ValidationError" and "TargetModel" in message
    put("bad.tar.gz", "", {"name.txt": "no code here", "code/inference.py": "import nothing_there"})
    code, message = refusal(invoke, EndpointName=name, Body="x", TargetModel="bad.tar.gz")
    assert code == "ModelError" and "nothing_there" in message


def test_a_model_that_the_server_has_lost_is_loaded_again(hosting, shelf, server):
    name, _ = shelf
    assert hosting.invoke(name, TargetModel="a.tar.gz") == "a(x)"
    os.kill(_program_of(server), signal.SIGKILL)
    # The server is started again, empty; what the door remembers of it is wrong.
    wait_until(lambda: _answers(hosting, name))


def _answers(hosting, name: str) -> bool:
    try:
        return hosting.invoke(name, TargetModel="a.tar.gz") == "a(x)"
    except ClientError as problem:
        assert problem.response["Error"]["Code"] in ("ModelError", "ServiceUnavailable"), problem
        return False


def _program_of(server) -> int:
    """The model server of the newest endpoint's only host."""
    newest = max(server.home.glob("work/*"), key=lambda path: int(path.name))
    (state,) = newest.glob("g1/*/state.json")
    return json.loads(state.read_bytes())["program_pid"]


def several_models(hosting, *keys: str) -> dict:
    """A multi-model container whose models each say their key."""
    prefix = f"{unique('models')}/"
    for key in keys:
        packed = archive({"name.txt": key[0], "code/inference.py": SCRIPT})
        hosting.s3.put_object(Bucket=hosting.bucket, Key=prefix + key, Body=packed)
    return {
        "Image": SKLEARN,
        "Mode": "MultiModel",
        "ModelDataUrl": f"s3://{hosting.bucket}/{prefix}",
        "Environment": VARIABLES,
    }


@pytest.mark.parametrize("first", [False, True])
def test_one_container_of_a_pipeline_may_host_several_models(hosting, first):
    models = several_models(hosting, "a.tar.gz", "b.tar.gz")
    plain = hosting.container("one")
    containers = [models, plain] if first else [plain, models]
    name = hosting.endpoint(hosting.config(variant(hosting.model("", Containers=containers))))
    for target in ("a", "b", "a"):
        said = f"one({target}(x))" if first else f"{target}(one(x))"
        assert hosting.invoke(name, TargetModel=f"{target}.tar.gz") == said
    invoke = hosting.runtime.invoke_endpoint
    code, message = refusal(invoke, EndpointName=name, Body="x")
    assert code == "ValidationError" and "name one in TargetModel" in message
    code, message = refusal(
        invoke, EndpointName=name, Body="x", ContentType="text/plain", TargetModel="none.tar.gz"
    )
    assert code == "ValidationError" and "Failed to download model data" in message


def test_models_cannot_be_chained_twice_nor_chosen_beside_containers(hosting):
    models = several_models(hosting)
    create = hosting.sagemaker.create_endpoint
    for request, text in (
        ({"Containers": [models, models]}, "Only one container of an inference pipeline"),
        (
            {
                "Containers": [
                    {**models, "ContainerHostname": "a"},
                    hosting.container("one", ContainerHostname="b"),
                ],
                "InferenceExecutionConfig": {"Mode": "Direct"},
            },
            "cannot be used with InferenceExecutionConfig Mode Direct",
        ),
    ):
        config = hosting.config(variant(hosting.model("", **request)))
        code, message = refusal(create, EndpointName=unique("e"), EndpointConfigName=config)
        assert code == "ValidationException" and text in message
