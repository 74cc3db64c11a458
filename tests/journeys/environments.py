"""The clients' own Python environments: one for each SDK, built once by uv and shared by all sessions."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

from clary.images import build
from clary.images.environment import Environment
from clary.settings import Settings

PYTHON = "3.11"


@dataclass(frozen=True, slots=True)
class Client:
    """One client as its users install it: nothing of Clary is in its environment."""

    packages: tuple[str, ...]
    imports: tuple[str, ...]


CLIENTS = {
    "boto3": Client(("boto3==1.44.5", "scikit-learn==1.9.1"), ("boto3", "sklearn.datasets")),
    "awscli": Client(("awscli",), ("awscli.clidriver",)),
    "sagemaker_v2": Client(
        ("sagemaker==2.257.7", "scikit-learn"), ("sagemaker", "sagemaker.sklearn")
    ),
    "sagemaker_v3": Client(
        ("sagemaker==3.27.0", "scikit-learn"),
        ("sagemaker.core.resources",),
    ),
}


def python_of(name: str) -> Path:
    """The interpreter of a client's environment, which is built first if it is not there."""
    client = CLIENTS[name]
    settings = Settings.load()
    environment = Environment(PYTHON, client.packages, client.imports, from_source=True)
    return build.build(environment, replace(settings, cache=settings.cache / "journeys")) / "bin" / "python"
