"""The training job definitions of a tuning job, one or several, in one form."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from clary.model.errors import ValidationException


@dataclass(frozen=True, slots=True)
class Definition:
    """One training job definition with what it tunes and for what; `name` is empty where there is only one."""

    name: str
    given: Mapping[str, Any]
    objective: Mapping[str, Any]
    ranges: Mapping[str, Any]

    @property
    def static(self) -> Mapping[str, str]:
        return self.given.get("StaticHyperParameters") or {}

    @property
    def image(self) -> str:
        return self.given["AlgorithmSpecification"].get("TrainingImage") or ""

    @property
    def hyperparameter_count(self) -> int:
        """Those that are fixed and those that are tuned, but not what the service adds to them."""
        fixed = sum(not name.startswith("_") for name in self.static)
        return fixed + sum(len(found) for found in self.ranges.values())

    @property
    def place(self) -> str:
        return f"TrainingJobDefinition {self.name}" if self.name else "TrainingJobDefinition"


def definitions_of(document: Mapping[str, Any]) -> list[Definition]:
    """Of a request, or of a row's document; raise ValidationException where both or neither form is given."""
    config = document["HyperParameterTuningJobConfig"]
    single = document.get("TrainingJobDefinition")
    several = document.get("TrainingJobDefinitions")
    if bool(single) == bool(several):
        raise ValidationException(
            "You must specify either TrainingJobDefinition or TrainingJobDefinitions, but not both."
        )
    if single:
        objective = config.get("HyperParameterTuningJobObjective") or single.get("TuningObjective")
        ranges = config.get("ParameterRanges") or single.get("HyperParameterRanges") or {}
        if not objective:
            raise ValidationException(
                "HyperParameterTuningJobObjective is required in HyperParameterTuningJobConfig."
            )
        return [Definition(single.get("DefinitionName") or "", single, objective, ranges)]
    for member in ("HyperParameterTuningJobObjective", "ParameterRanges"):
        if config.get(member):
            raise ValidationException(
                f"{member} of HyperParameterTuningJobConfig cannot be given together with "
                "TrainingJobDefinitions; give TuningObjective and HyperParameterRanges in each."
            )
    return [_of_several(one) for one in several or []]


def _of_several(given: Mapping[str, Any]) -> Definition:
    for member in ("DefinitionName", "TuningObjective"):
        if not given.get(member):
            raise ValidationException(f"{member} is required in each of TrainingJobDefinitions.")
    ranges = given.get("HyperParameterRanges") or {}
    return Definition(given["DefinitionName"], given, given["TuningObjective"], ranges)
