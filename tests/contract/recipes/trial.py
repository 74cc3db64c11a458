"""Trial: it belongs to an experiment, and is found by a component of it."""

from typing import Any

from tests.contract.asking import Asker
from tests.contract.recipe import Recipe


def an_experiment(ask: Asker) -> dict[str, Any]:
    ask.ask("CreateExperiment", ExperimentName="trial-of-contract")
    return {"ExperimentName": "trial-of-contract"}


def a_component(shown: dict[str, Any], ask: Asker) -> str:
    name = "component-of-contract"
    ask.ask("CreateTrialComponent", TrialComponentName=name)
    ask.ask("AssociateTrialComponent", TrialComponentName=name, TrialName=shown["TrialName"])
    return name


def without_components(ask: Asker, shown: dict[str, Any]) -> None:
    """A trial with components is not deleted."""
    trial = shown["TrialName"]
    found = ask.ask("ListTrialComponents", TrialName=trial)["TrialComponentSummaries"]
    for name in (one["TrialComponentName"] for one in found):
        ask.ask("DisassociateTrialComponent", TrialComponentName=name, TrialName=trial)
        ask.ask("DeleteTrialComponent", TrialComponentName=name)


recipe = Recipe(
    "Trial",
    before=an_experiment,
    filters={"TrialComponentName": a_component},
    after=without_components,
)
