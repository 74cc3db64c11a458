"""An experiment collects trials that answer one question."""

from __future__ import annotations

from clary.engine.call import Call
from clary.engine.resource import Resource
from clary.model.errors import ResourceNotFound, ValidationException
from clary.store.rows import Query, Row


def has_no_trials(call: Call, row: Row) -> None:
    query = Query(
        "Trial",
        call.account,
        call.region,
        limit=1,
        matches=lambda trial: trial.document["ExperimentName"] == row.name,
    )
    trials, _ = call.parts.store.rows.page(query)
    if trials:
        raise ValidationException(
            f"Experiment '{row.name}' cannot be deleted: it has trials, '{trials[0].name}' among "
            "them. Delete its trials first."
        )


experiment = Resource(
    "Experiment",
    computed={
        # The name is shown where no display name was given, as SageMaker does.
        "DisplayName": lambda row: row.document.get("DisplayName") or row.name,
    },
    retains=(has_no_trials,),
    missing=ResourceNotFound("Experiment '{name}' does not exist."),
    taken=ValidationException("Experiment names must be unique: {arn} already exists."),
    arn_name=str.lower,
)
