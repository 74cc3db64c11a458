"""Checks of CreateHyperParameterTuningJob; each raises the error that SageMaker would give."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from clary.engine.call import Call
from clary.engine.quotas import require_instances
from clary.engine.s3_inputs import require_objects
from clary.images.image import Image, UnknownImage
from clary.model.errors import ResourceLimitExceeded, ValidationException
from clary.resources.tuning.child_jobs import resource_config
from clary.resources.tuning.definitions import Definition, definitions_of
from clary.resources.tuning.early_stopping import RESOURCE_NAMES, most_epochs

TRIALS_MAX = 750
PARALLEL_MAX = 100
METRIC_DEFINITIONS_MAX = 20


def definitions_are_complete(call: Call) -> None:
    definitions = definitions_of(call.input)
    names = [one.name for one in definitions]
    if len(set(names)) < len(names):
        raise ValidationException("DefinitionName must be unique among TrainingJobDefinitions.")
    if len(definitions) > 1 and call.input.get("WarmStartConfig"):
        raise ValidationException(
            "WarmStartConfig is not supported with several TrainingJobDefinitions."
        )
    for one in definitions:
        _resources_are_asked_for(one)
        for channel in one.given.get("InputDataConfig") or []:
            source = channel["DataSource"].get("S3DataSource")
            if source is not None:
                require_objects(call, source["S3Uri"])


def _resources_are_asked_for(definition: Definition) -> None:
    given = definition.given
    config = resource_config(given)
    # A definition that was read from Describe has both, and they mean the same.
    if given.get("ResourceConfig", config) != config:
        raise ValidationException(
            f"{definition.place}: give either ResourceConfig or "
            "HyperParameterTuningResourceConfig, but not both."
        )
    groups = config.get("InstanceGroups") or [config]
    for one in groups:
        if not one.get("InstanceType"):
            raise ValidationException(
                f"{definition.place}: ResourceConfig must give InstanceType and InstanceCount."
            )
        require_instances(one["InstanceType"], one.get("InstanceCount") or 1, "training job")


def limits_are_given(call: Call) -> None:
    config = call.input["HyperParameterTuningJobConfig"]
    limits = config["ResourceLimits"]
    most = limits.get("MaxNumberOfTrainingJobs")
    if most is not None and most > TRIALS_MAX:
        raise ResourceLimitExceeded(
            "The account-level service limit 'Maximum number of training jobs per hyperparameter "
            f"tuning job' is {TRIALS_MAX} training jobs, and {most} were asked for."
        )
    if limits["MaxParallelTrainingJobs"] > PARALLEL_MAX:
        raise ResourceLimitExceeded(
            "The account-level service limit 'Maximum number of parallel training jobs per "
            f"hyperparameter tuning job' is {PARALLEL_MAX} training jobs, and "
            f"{limits['MaxParallelTrainingJobs']} were asked for."
        )
    if most is not None and limits["MaxParallelTrainingJobs"] > most:
        raise ValidationException(
            "MaxParallelTrainingJobs cannot be greater than MaxNumberOfTrainingJobs."
        )
    criteria = config.get("TuningJobCompletionCriteria") or {}
    bounded = most or limits.get("MaxRuntimeInSeconds") or criteria or call.input.get("Autotune")
    if config["Strategy"] != "Grid" and not bounded:
        raise ValidationException(
            "ResourceLimits must give MaxNumberOfTrainingJobs or MaxRuntimeInSeconds, or there must "
            "be TuningJobCompletionCriteria."
        )


def strategy_fits(call: Call) -> None:
    config = call.input["HyperParameterTuningJobConfig"]
    strategy = config["Strategy"]
    hyperband = (config.get("StrategyConfig") or {}).get("HyperbandStrategyConfig")
    if hyperband is not None and strategy != "Hyperband":
        raise ValidationException(
            f"HyperbandStrategyConfig can be given only with the strategy Hyperband, not {strategy}."
        )
    if strategy == "Hyperband":
        if config.get("TrainingJobEarlyStoppingType") == "Auto":
            raise ValidationException(
                "TrainingJobEarlyStoppingType must be Off with the strategy Hyperband, which stops "
                "training jobs by itself."
            )
        for one in definitions_of(call.input):
            hyperband_resources(config, one)
    if strategy == "Grid":
        for one in definitions_of(call.input):
            if any(one.ranges.get(f"{kind}ParameterRanges") for kind in ("Integer", "Continuous")):
                raise ValidationException(
                    "The strategy Grid searches categorical hyperparameters only; give "
                    "CategoricalParameterRanges alone."
                )


def hyperband_resources(config: Mapping[str, Any], definition: Definition) -> tuple[int, int]:
    """MinResource and MaxResource, in epochs; the latter is inferred from the static hyperparameters."""
    given = (config.get("StrategyConfig") or {}).get("HyperbandStrategyConfig") or {}
    most = given.get("MaxResource") or most_epochs(definition.static)
    if most is None:
        names = ", ".join(RESOURCE_NAMES)
        raise ValidationException(
            "MaxResource is required in HyperbandStrategyConfig, or one of the static "
            f"hyperparameters {names} from which it can be inferred."
        )
    least = given.get("MinResource") or 1
    if least >= most:
        raise ValidationException(
            f"MinResource ({least}) of HyperbandStrategyConfig must be less than MaxResource ({most})."
        )
    return least, most


def grid_is_counted(count: int, most: int | None) -> None:
    """MaxNumberOfTrainingJobs of a grid may be left out; given, it is the number of combinations."""
    if count > TRIALS_MAX:
        raise ResourceLimitExceeded(
            f"The grid has {count} combinations, and a tuning job may have at most {TRIALS_MAX} "
            "training jobs. Give fewer values."
        )
    if most is not None and most != count:
        raise ValidationException(
            f"MaxNumberOfTrainingJobs ({most}) must equal the number of combinations of the "
            f"categorical values ({count}) with the strategy Grid, or be left out."
        )


def image_of(call: Call, definition: Definition) -> Image | None:
    """None for an image that is not known here: each training job will fail with the remedies."""
    if not definition.image:
        raise ValidationException(
            f"{definition.place}: tuning with an algorithm resource (AlgorithmName) is not built yet "
            "in this version of Clary; give the TrainingImage."
        )
    try:
        return call.parts.image(definition.image)
    except UnknownImage:
        return None


def metrics_of(image: Image | None, definition: Definition) -> list[dict[str, str]]:
    """The metric definitions to give the training jobs, which know those of their algorithm.

    Raise ValidationException if the objective is not among them all.
    """
    given = definition.given["AlgorithmSpecification"].get("MetricDefinitions") or []
    metric = definition.objective["MetricName"]
    is_built_in = (
        image is not None and image.algorithm and "sagemaker_program" not in definition.static
    )
    if not is_built_in or image is None:
        if not any(one["Name"] == metric for one in given):
            raise ValidationException(
                f"The objective metric '{metric}' is not defined: MetricDefinitions of the "
                "AlgorithmSpecification must have an entry of that name."
            )
        if len(given) > METRIC_DEFINITIONS_MAX:
            raise ValidationException(
                f"{len(given)} MetricDefinitions are given, and at most {METRIC_DEFINITIONS_MAX} "
                "can be."
            )
        return [dict(one) for one in given]
    known = [dict(one) for one in (*image.metric_definitions, *given)]
    regex = next((one["Regex"] for one in known if one["Name"] == metric), None)
    if regex is None:
        names = ", ".join(one["Name"] for one in known)
        raise ValidationException(
            f"The objective metric '{metric}' is not one of the algorithm {image.algorithm}: {names}."
        )
    return [*(dict(one) for one in given), {"Name": "ObjectiveMetric", "Regex": regex}]
