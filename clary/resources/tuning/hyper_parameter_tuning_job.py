"""A hyperparameter tuning job searches the best hyperparameters by training jobs that it makes itself."""

from __future__ import annotations

import random
from dataclasses import replace
from typing import Any

from clary.engine.call import Call
from clary.engine.consultations import Adviser
from clary.engine.naming import find_row
from clary.engine.resource import Resource
from clary.engine.verbs import create
from clary.model.errors import ResourceInUse, ResourceNotFound
from clary.reconcile.lifecycles import JOB
from clary.resources.tuning.autotune import chosen_ranges
from clary.resources.tuning.child_jobs import CHILDREN, OBJECTIVE, resource_config
from clary.resources.tuning.definitions import Definition, definitions_of
from clary.resources.tuning.early_stopping import brackets
from clary.resources.tuning.range_checks import check_ranges
from clary.resources.tuning.search_space import Space
from clary.resources.tuning.suggestions import ADVISER
from clary.resources.tuning.summaries import (
    best,
    completion_details,
    consumed,
    counters,
    counters_of_objectives,
    list_training_jobs,
    overall_best,
)
from clary.resources.tuning.tuning_checks import (
    TRIALS_MAX,
    definitions_are_complete,
    grid_is_counted,
    hyperband_resources,
    image_of,
    limits_are_given,
    metrics_of,
    strategy_fits,
)
from clary.resources.tuning.tuning_plan import plan_tuning, question_of
from clary.resources.tuning.warm_start import inherited
from clary.store.rows import Row

KIND = "HyperParameterTuningJob"
CHECKS = (definitions_are_complete, limits_are_given, strategy_fits)


def _resource_limits(row: Row) -> dict[str, Any]:
    return row.document["HyperParameterTuningJobConfig"]["ResourceLimits"]


def _strategy(row: Row) -> str:
    return row.document["HyperParameterTuningJobConfig"]["Strategy"]


hyper_parameter_tuning_job = Resource(
    KIND,
    lifecycle=JOB,
    computed={
        "Strategy": _strategy,
        "ResourceLimits": _resource_limits,
        "TrainingJobStatusCounters": counters,
        "ObjectiveStatusCounters": counters_of_objectives,
        "BestTrainingJob": best,
        "OverallBestTrainingJob": overall_best,
        "TuningJobCompletionDetails": completion_details,
        "ConsumedResources": consumed,
    },
    missing=ResourceNotFound(
        "Amazon SageMaker can't find a tuning job with the name {name} in your account. Check the "
        "name and the region."
    ),
    taken=ResourceInUse(
        "Hyperparameter tuning job names must be unique within an AWS account and region, and a "
        "hyperparameter tuning job with this name already exists ({arn})"
    ),
    sorts=("name", False),
    plan=plan_tuning,
    children=CHILDREN,
    adviser=Adviser(ADVISER, question_of),
    takes_slots=False,
)


@hyper_parameter_tuning_job.operation("CreateHyperParameterTuningJob")
def create_hyper_parameter_tuning_job(call: Call) -> dict[str, Any]:
    for check in CHECKS:
        check(call)
    config = call.input["HyperParameterTuningJobConfig"]
    config.setdefault("TrainingJobEarlyStoppingType", "Off")
    definitions = definitions_of(call.input)
    images = [image_of(call, one) for one in definitions]
    searched: list[Definition] = []
    for definition, image in zip(definitions, images, strict=True):
        ranges = dict(definition.ranges)
        if call.input.get("Autotune"):
            specifications: Any = image.hyperparameters if image is not None else ()
            ranges = chosen_ranges(ranges, specifications, definition.static)
        searched.append(replace(definition, ranges=ranges))
        check_ranges(searched[-1])
    state = {
        "ranges": [one.ranges for one in searched],
        "metrics": [metrics_of(image, one) for image, one in zip(images, definitions, strict=True)],
        "seed": config.get("RandomSeed", random.SystemRandom().randrange(2**31)),
        "trials": [],
        "trials_max": _trials_max(config, searched),
        **inherited(call, definitions[0]),
    }
    if config["Strategy"] == "Hyperband":
        state["rungs"] = brackets(*hyperband_resources(config, definitions[0]))
    for one in definitions:
        # The SDK's `attach` finds both in what Describe shows of a definition.
        kept = _single_or_member(call, one)
        kept["StaticHyperParameters"] = {**one.static, OBJECTIVE: one.objective["MetricName"]}
        kept["ResourceConfig"] = resource_config(one.given)
    return create(call.parts.bound(KIND), call, state)


@hyper_parameter_tuning_job.operation("ListTrainingJobsForHyperParameterTuningJob")
def list_training_jobs_for_hyper_parameter_tuning_job(call: Call) -> dict[str, Any]:
    return list_training_jobs(find_row(call.parts.bound(KIND), call), call)


def _single_or_member(call: Call, definition: Definition) -> dict[str, Any]:
    """The definition as the request holds it."""
    several = call.input.get("TrainingJobDefinitions") or [call.input["TrainingJobDefinition"]]
    return next(one for one in several if one is definition.given)


def _trials_max(config: dict[str, Any], definitions: list[Definition]) -> int:
    most = config["ResourceLimits"].get("MaxNumberOfTrainingJobs")
    if config["Strategy"] == "Grid":
        count = sum(Space.of(one.ranges).grid_size() for one in definitions)
        grid_is_counted(count, most)
        return count
    return most or TRIALS_MAX
