"""A recipe tells the round trip of a kind what the service model cannot: what must be real, and what excludes what.

A recipe is a module of `tests/contract/recipes` with a value `recipe`; most kinds need none.
"""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cache
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tests.contract.asking import Asker

Values = Mapping[str, Any]
Before = Callable[["Asker"], Values]
After = Callable[["Asker", "dict[str, Any]"], None]


def nothing_before(ask: Asker) -> Values:
    return {}


def nothing_after(ask: Asker, shown: dict[str, Any]) -> None:
    return None


@dataclass(frozen=True)
class Recipe:
    """`values` are members by path, for the inputs of all verbs; `before` makes what must be there and adds more."""

    noun: str
    before: Before = nothing_before
    values: Values = field(default_factory=dict[str, Any])
    # Paths left out of the input of an operation, since they exclude others.
    without: Mapping[str, tuple[str, ...]] = field(default_factory=dict[str, tuple[str, ...]])
    # Values for the input of one operation: {"UpdateX": {"Path": value}}.
    inputs: Mapping[str, Values] = field(default_factory=dict[str, Values])
    # What a filter of List finds the described resource by, where no member of its name tells.
    filters: Mapping[str, Callable[[dict[str, Any], Asker], Any]] = field(
        default_factory=dict[str, Any]
    )
    # Undoes for each resource what the filters had to do to find it.
    after: After = nothing_after
    # The status to wait for before the resource is changed or deleted.
    settles: str = ""
    # Operations (or filters: "ListX.Member") that this round trip cannot ask for, and why or where they are.
    elsewhere: Mapping[str, str] = field(default_factory=dict[str, str])


@cache
def recipes() -> Mapping[str, Recipe]:
    package = importlib.import_module("tests.contract.recipes")
    found: dict[str, Recipe] = {}
    for module in pkgutil.iter_modules(package.__path__, f"{package.__name__}."):
        for value in vars(importlib.import_module(module.name)).values():
            if isinstance(value, Recipe):
                assert found.setdefault(value.noun, value) is value, f"two recipes of {value.noun}"
    return found


def recipe_of(noun: str) -> Recipe:
    return recipes().get(noun) or Recipe(noun)
