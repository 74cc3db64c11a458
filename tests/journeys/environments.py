"""The clients' own Python environments: one for each SDK, built once by uv and shared by all sessions."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from clary.images import build
from clary.images.environment import Environment
from clary.settings import Settings

PYTHON = "3.11"

# What a user installs, and what must be importable after: nothing of Clary is in these environments.
CLIENTS = {
    "boto3": (("boto3==1.44.5", "scikit-learn"), ("boto3", "sklearn.datasets")),
    "awscli": (("awscli",), ("awscli.clidriver",)),
    "s3fs": (("s3fs>=2025.1",), ("s3fs",)),
    "sagemaker_v2": (("sagemaker==2.257.7", "scikit-learn"), ("sagemaker", "sagemaker.sklearn")),
    "sagemaker_v3": (("sagemaker==3.27.0", "scikit-learn"), ("sagemaker.core.resources",)),
}


def programs_of(client: str) -> Path:
    """The folder of a client's `python`, `aws`, ...; its environment is built first if it is not there.

    Sessions that ask at the same time share one build: the folder is locked while it is made.
    """
    packages, imports = CLIENTS[client]
    settings = Settings.load()
    settings = replace(settings, cache=settings.cache / "journeys")
    environment = Environment(PYTHON, packages, imports, from_source=True)
    return build.build(environment, settings) / "bin"
