"""Which model servers take pipelined requests."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from clary.images.image import Command, UnknownImage
from clary.resources.inference.model_server import MODULE, pipelined_workers


def parts(argv, **environment):
    serve = None if argv is None else Command(tuple(argv))
    image = SimpleNamespace(commands={"serve": serve}, environment_variables=environment)
    return SimpleNamespace(image=lambda uri: image)


OURS = ("python", "-m", MODULE, "--framework", "sklearn")


@pytest.mark.parametrize(
    ("argv", "environment", "workers"),
    [
        (OURS, {}, 1),
        (OURS, {"SAGEMAKER_MODEL_SERVER_WORKERS": "4"}, 4),
        (OURS, {"SAGEMAKER_MODEL_SERVER_WORKERS": "many"}, 1),
        (OURS, {"SAGEMAKER_MODEL_SERVER_WORKERS": "0"}, 1),
        (("gunicorn", "app"), {}, 0),
        (None, {}, 0),
    ],
)
def test_only_clary_s_own_server_is_sent_several_requests_at_once(argv, environment, workers):
    container = {"Image": "x", "Environment": environment}
    assert pipelined_workers(parts(argv), container) == workers


def test_an_unknown_image_is_sent_one_request_at_a_time():
    def unknown(uri):
        raise UnknownImage(uri)

    assert pipelined_workers(SimpleNamespace(image=unknown), {"Image": "x"}) == 0
