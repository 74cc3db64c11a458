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


recipe = Recipe("Trial", before=an_experiment, filters={"TrialComponentName": a_component})
