"""A trial is one way of answering an experiment's question: a set of components."""

from __future__ import annotations

from clary.engine.call import Call
from clary.engine.resource import Resource
from clary.model.errors import ResourceNotFound, ValidationException
from clary.store.rows import Query, Row


def experiment_exists(call: Call) -> None:
    name = call.input["ExperimentName"]
    found = call.parts.store.rows.get("Experiment", name, account=call.account, region=call.region)
    if found is None:
        raise ResourceNotFound(f"Experiment '{name}' does not exist.")


def _display_name(row: Row) -> str:
    return row.document.get("DisplayName") or row.name


def _has_component(call: Call, row: Row, name: str) -> bool:
    rows = call.parts.store.rows
    found = rows.get("TrialComponent", name, account=call.account, region=call.region)
    return found is not None and row.name in found.state.get("trials", [])


def has_no_components(call: Call, row: Row) -> None:
    query = Query(
        "TrialComponent",
        call.account,
        call.region,
        limit=1,
        matches=lambda component: row.name in component.state.get("trials", []),
    )
    components, _ = call.parts.store.rows.page(query)
    if components:
        raise ValidationException(
            f"Trial '{row.name}' cannot be deleted: the trial component '{components[0].name}' is "
            "associated with it. Disassociate its trial components first."
        )


trial = Resource(
    "Trial",
    computed={"DisplayName": _display_name},
    renamed={"TrialSource": "Source"},
    filters={"TrialComponentName": _has_component},
    admits=(experiment_exists,),
    retains=(has_no_components,),
    missing=ResourceNotFound("Trial '{name}' does not exist."),
    taken=ValidationException("Trial names must be unique: {arn} already exists."),
    arn_name=str.lower,
)
