"""A trial component is one step of a trial: its parameters, metrics and artifacts."""

from __future__ import annotations

from typing import Any

from clary.engine.call import Call
from clary.engine.naming import arn_of
from clary.engine.resource import Resource
from clary.engine.verbs import change_row, delete_row
from clary.model.errors import ResourceNotFound, ValidationException
from clary.store.rows import Row


def _display_name(row: Row) -> str:
    return row.document.get("DisplayName") or row.name


def _sources(row: Row) -> list[dict[str, Any]] | None:
    source = row.document.get("Source")
    return [source] if source else None


def _source_arn(row: Row) -> str | None:
    return (row.document.get("Source") or {}).get("SourceArn")


def _is_of_experiment(call: Call, row: Row, experiment: str) -> bool:
    """A component belongs to the experiments of its trials."""
    rows = call.parts.store.rows
    trials = (
        rows.get("Trial", name, account=call.account, region=call.region)
        for name in row.state.get("trials", [])
    )
    return any(one and one.document["ExperimentName"] == experiment for one in trials)


trial_component = Resource(
    "TrialComponent",
    computed={
        "DisplayName": _display_name,
        # A caller's own times, which the kernel's stand-ins for creation must not replace.
        "StartTime": lambda row: row.document.get("StartTime"),
        "Sources": _sources,
    },
    filters={
        "TrialName": lambda call, row, name: name in row.state.get("trials", []),
        "ExperimentName": lambda call, row, name: _is_of_experiment(call, row, name),
        "SourceArn": lambda call, row, arn: _source_arn(row) == arn,
    },
    renamed={"TrialComponentSource": "Source"},
    missing=ResourceNotFound("Trial component '{name}' does not exist."),
    taken=ValidationException("Trial component names must be unique: {arn} already exists."),
    arn_name=str.lower,
)


@trial_component.operation("AssociateTrialComponent")
def associate_trial_component(call: Call) -> dict[str, Any]:
    """Put a component into a trial; doing it again changes nothing."""
    trial = _trial(call)

    def join(row: Row) -> None:
        trials = row.state.get("trials", [])
        row.state["trials"] = [*trials, trial.name] if trial.name not in trials else trials

    row = change_row(call.parts.bound("TrialComponent"), call, join)
    return {"TrialComponentArn": row.arn, "TrialArn": trial.arn}


@trial_component.operation("DisassociateTrialComponent")
def disassociate_trial_component(call: Call) -> dict[str, Any]:
    trial = _trial(call)

    def leave(row: Row) -> None:
        row.state["trials"] = [name for name in row.state.get("trials", []) if name != trial.name]

    row = change_row(call.parts.bound("TrialComponent"), call, leave)
    return {"TrialComponentArn": row.arn, "TrialArn": trial.arn}


@trial_component.operation("DeleteTrialComponent")
def delete_trial_component(call: Call) -> dict[str, Any]:
    row = delete_row(call.parts.bound("TrialComponent"), call, _is_of_no_trial)
    return {"TrialComponentArn": row.arn}


def _is_of_no_trial(row: Row) -> None:
    if row.state.get("trials"):
        raise ValidationException(
            f"Trial component '{row.name}' cannot be deleted: it is associated with the trials "
            f"{', '.join(row.state['trials'])}. Disassociate it first."
        )


def _trial(call: Call) -> Row:
    bound, name = call.parts.bound("Trial"), call.input["TrialName"]
    row = call.parts.store.rows.get("Trial", name, account=call.account, region=call.region)
    if row is None:
        raise bound.missing_error(name, arn_of(bound, call, "", name))
    return row
