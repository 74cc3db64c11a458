"""TrialComponent: found by its trial, by the experiment of its trial, and by its source."""

from typing import Any

from tests.contract.asking import Asker
from tests.contract.recipe import Recipe

NAMES = {"ExperimentName": "experiment-of-component", "TrialName": "trial-of-component"}


def a_trial(ask: Asker) -> dict[str, Any]:
    ask.ask("CreateExperiment", ExperimentName=NAMES["ExperimentName"])
    ask.ask("CreateTrial", **NAMES)
    return {}


def joined(member: str) -> Any:
    def join(shown: dict[str, Any], ask: Asker) -> str:
        component = shown["TrialComponentName"]
        ask.ask(
            "AssociateTrialComponent", TrialComponentName=component, TrialName=NAMES["TrialName"]
        )
        return NAMES[member]

    return join


def leave_the_trial(ask: Asker, shown: dict[str, Any]) -> None:
    """A component of a trial cannot be deleted."""
    name = shown["TrialComponentName"]
    ask.ask("DisassociateTrialComponent", TrialComponentName=name, TrialName=NAMES["TrialName"])


recipe = Recipe(
    "TrialComponent",
    before=a_trial,
    filters={member: joined(member) for member in NAMES},
    after=leave_the_trial,
    elsewhere={"ListTrialComponents.SourceArn": "only the components of jobs have a source"},
)
