"""Members of CreateTrainingJob that this installation cannot honour: refused, rather than ignored."""

from __future__ import annotations

from typing import Any

from clary.engine.call import Call
from clary.model.errors import NotImplementedException


def _serverless(request: dict[str, Any]) -> bool:
    return bool(request.get("ServerlessJobConfig"))


def _session_tags(request: dict[str, Any]) -> bool:
    return bool((request.get("SessionChainingConfig") or {}).get("EnableSessionTagChaining"))


def _packages(request: dict[str, Any]) -> bool:
    return bool(request.get("ModelPackageConfig"))


def _mlflow(request: dict[str, Any]) -> bool:
    return bool(request.get("MlflowConfig"))


def _private_registry(request: dict[str, Any]) -> bool:
    config = request["AlgorithmSpecification"].get("TrainingImageConfig") or {}
    return bool(config.get("TrainingRepositoryAuthConfig"))


def _data_sets(request: dict[str, Any]) -> bool:
    channels = request.get("InputDataConfig") or []
    return any("DatasetSource" in channel["DataSource"] for channel in channels)


_REFUSED = (
    (_serverless, "ServerlessJobConfig: give an AlgorithmSpecification and a ResourceConfig"),
    (_session_tags, "SessionChainingConfig.EnableSessionTagChaining: a job's role has no session tags"),
    (_packages, "ModelPackageConfig: register the model with CreateModelPackage when the job is done"),
    (_mlflow, "MlflowConfig: set MLFLOW_TRACKING_URI in the job's Environment"),
    (_private_registry, "TrainingRepositoryAuthConfig: log the engine of this machine in to the registry"),
    (_data_sets, "a channel's DatasetSource: give an S3DataSource"),
)  # fmt: skip


def features_are_built(call: Call) -> None:
    for is_asked, text in _REFUSED:
        if is_asked(call.input):
            raise NotImplementedException(
                f"CreateTrainingJob does not answer this member in this version of Clary. {text}."
            )
