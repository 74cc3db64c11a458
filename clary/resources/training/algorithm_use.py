"""Training with an algorithm resource: what its specification asks of a job that names it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from clary.engine.call import Call
from clary.model.arns import Arn, last_segment, sagemaker_arn
from clary.model.errors import ValidationException
from clary.store.rows import Row

_RANGES = {
    "Integer": ("IntegerParameterRangeSpecification", int),
    "Continuous": ("ContinuousParameterRangeSpecification", float),
}


def algorithm_row(call: Call) -> Row | None:
    """The algorithm that a request names, by name or ARN; None where it names none."""
    given = (call.input.get("AlgorithmSpecification") or {}).get("AlgorithmName")
    if not given:
        return None
    arn = Arn.parse(given)
    name = last_segment(given)
    wanted = given if arn else sagemaker_arn(call.region, call.account, "algorithm", name)
    row = call.parts.store.rows.by_arn(str(wanted))
    if row is None or row.kind != "Algorithm":
        raise ValidationException(f'Could not find algorithm "{wanted}".')
    return row


def algorithm_of(call: Call) -> dict[str, Any]:
    """What the job remembers of its algorithm, which may be deleted while it runs."""
    row = algorithm_row(call)
    if row is None:
        return {}
    specification = row.document["TrainingSpecification"]
    return {
        "training_image": specification["TrainingImage"],
        "metric_definitions": specification.get("MetricDefinitions") or [],
    }


def algorithm_is_used_well(call: Call) -> None:
    """Fill in what the algorithm has defaults for, and refuse what it does not support."""
    row = algorithm_row(call)
    if row is None:
        return
    if call.input["AlgorithmSpecification"].get("MetricDefinitions"):
        raise ValidationException(
            "MetricDefinitions must not be given together with AlgorithmName: the algorithm has "
            "its own."
        )
    if row.status != "Completed":
        raise ValidationException(
            f"Algorithm {row.name} is in status {row.status}: only one in status Completed can be "
            "trained with."
        )
    specification = row.document["TrainingSpecification"]
    check_instances(specification, call.input["ResourceConfig"], row.name)
    mode = call.input["AlgorithmSpecification"]["TrainingInputMode"]
    check_channels(specification, call.input.get("InputDataConfig") or [], mode, row.name)
    given = call.input.get("HyperParameters") or {}
    call.input["HyperParameters"] = hyperparameters(specification, given, row.name)


def check_instances(
    specification: Mapping[str, Any], config: Mapping[str, Any], algorithm: str
) -> None:
    groups = config.get("InstanceGroups") or [config]
    supported = specification["SupportedTrainingInstanceTypes"]
    for group in groups:
        if group["InstanceType"] not in supported:
            raise ValidationException(
                f"Instance type {group['InstanceType']} is not supported by algorithm {algorithm}; "
                f"it supports {', '.join(supported)}."
            )
    hosts = sum(group.get("InstanceCount") or 1 for group in groups)
    if hosts > 1 and not specification.get("SupportsDistributedTraining"):
        raise ValidationException(
            f"Algorithm {algorithm} does not support distributed training: give an InstanceCount "
            "of 1."
        )


def check_channels(
    specification: Mapping[str, Any], channels: list[Any], mode: str, algorithm: str
) -> None:
    known = {one["Name"]: one for one in specification["TrainingChannels"]}
    given = {channel["ChannelName"]: channel for channel in channels}
    for name, one in known.items():
        if one.get("IsRequired") and name not in given:
            raise ValidationException(
                f"Channel '{name}' is required by algorithm {algorithm} and is missing in "
                "InputDataConfig."
            )
    for name, channel in given.items():
        if name not in known:
            raise ValidationException(
                f"Channel '{name}' is not a channel of algorithm {algorithm}; it has "
                f"{', '.join(known)}."
            )
        one = known[name]
        asked = (
            (channel.get("InputMode") or mode, one["SupportedInputModes"], "input mode"),
            (channel.get("ContentType"), one["SupportedContentTypes"], "content type"),
            (channel.get("CompressionType"), one.get("SupportedCompressionTypes"), "compression"),
        )
        for value, supported, word in asked:
            if value and supported and value not in supported:
                raise ValidationException(
                    f"Channel '{name}': {word} {value} is not supported by algorithm {algorithm}; "
                    f"it supports {', '.join(supported)}."
                )


def hyperparameters(
    specification: Mapping[str, Any], given: Mapping[str, str], algorithm: str
) -> dict[str, str]:
    """Those given, checked, with the defaults of the others."""
    known = {one["Name"]: one for one in specification.get("SupportedHyperParameters") or []}
    found = dict(given)
    for name, value in given.items():
        if name.startswith(("sagemaker_", "_tuning_")):
            continue  # of the SDK's script mode, and of a tuner
        if known and name not in known:
            raise ValidationException(
                f"Hyperparameter '{name}' is not a hyperparameter of algorithm {algorithm}."
            )
        if name in known:
            check_value(known[name], value)
    for name, one in known.items():
        if name in found:
            continue
        if "DefaultValue" in one:
            found[name] = one["DefaultValue"]
        elif one.get("IsRequired"):
            raise ValidationException(
                f"Hyperparameter '{name}' is required by algorithm {algorithm} and is missing."
            )
    return found


def check_value(one: Mapping[str, Any], value: str) -> None:
    """Raise ValidationException unless a value is one that a HyperParameterSpecification allows."""
    name, ranges = one["Name"], one.get("Range") or {}
    if one["Type"] == "Categorical":
        allowed = (ranges.get("CategoricalParameterRangeSpecification") or {}).get("Values")
        if allowed and value not in allowed:
            raise ValidationException(
                f"Hyperparameter '{name}': '{value}' is not one of {', '.join(allowed)}."
            )
        return
    if one["Type"] not in _RANGES:
        return
    member, number = _RANGES[one["Type"]]
    try:
        found = number(value)
    except ValueError:
        words = "an integer" if number is int else "a number"
        raise ValidationException(f"Hyperparameter '{name}': '{value}' is not {words}.") from None
    bounds = ranges.get(member) or {}
    least, most = bounds.get("MinValue"), bounds.get("MaxValue")
    # Negated, so that a value that is no number (nan) is outside of every range.
    if (least is not None and not found >= float(least)) or (
        most is not None and not found <= float(most)
    ):
        raise ValidationException(
            f"Hyperparameter '{name}': {value} is not between {least} and {most}."
        )
