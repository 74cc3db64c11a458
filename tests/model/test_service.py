"""Service models are found by botocore's name and by the name that requests are signed for."""

from __future__ import annotations

from clary.model.service import Services


def test_a_model_is_found_by_either_name_and_read_once() -> None:
    services = Services()
    model = services.get("cloudwatch")
    assert model is not None and model.service_name == "cloudwatch"
    assert services.get("monitoring") is model


def test_an_unknown_service_has_no_model() -> None:
    services = Services()
    assert services.get("teapot") is None
    assert services.get("../sagemaker") is None
    assert "sagemaker" in services.names
