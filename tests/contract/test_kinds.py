"""Every kind makes its round trip over HTTP: create, describe, list, update, tag, stop, delete, gone."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from clary.engine.registry import discover
from clary.engine.resource import BoundResource
from clary.model.service import Services
from clary.server import PACKAGES
from tests.contract.asking import Asker
from tests.contract.inputs import Inputs
from tests.contract.listing import check_lists
from tests.contract.recipe import Recipe, recipe_of

KINDS = discover(Services(), PACKAGES).resources
# Kinds whose Describe says ValidationException although its model has ResourceNotFound.
NOT_AS_MODELLED = {"TrainingJob", "ProcessingJob", "TransformJob"}
ALREADY_THERE = {"ResourceInUse", "ValidationException", "ConflictException"}
TAG = {"Key": "team", "Value": "contract"}
GONE = {
    "Model": 'Could not find model "{arn}".',
    "Endpoint": 'Could not find endpoint "{arn}".',
    "EndpointConfig": 'Could not find endpoint configuration "{arn}".',
    "TrainingJob": "Requested resource not found.",
    "ProcessingJob": "Could not find requested job with name: {name}",
    "NotebookInstanceLifecycleConfig": (
        "Unable to describe Notebook Instance Lifecycle Config '{arn}'. "
        "(Details: Notebook Instance Lifecycle Config does not exist.)"
    ),
    "CodeRepository": "Cannot find CodeRepository {arn}",
    "ModelPackageGroup": "ModelPackageGroup {arn} does not exist.",
    "Image": "No Image with the name {name} was found.",
}


@pytest.mark.parametrize("noun", sorted(KINDS))
def test_a_kind_makes_its_round_trip(noun: str, ask: Asker) -> None:
    trip = RoundTrip(KINDS[noun], ask, recipe_of(noun))
    trip.create_both()
    trip.settle()
    check_lists(trip.bound, ask, trip.recipe, trip.described)
    for shown in trip.described:
        trip.recipe.after(ask, shown)
    trip.update_both()
    trip.tag_both()
    trip.stop_both()
    trip.delete_both()


class RoundTrip:
    """Two resources of one kind, one made of the required members alone and one of every member."""

    def __init__(self, bound: BoundResource, ask: Asker, recipe: Recipe) -> None:
        self.bound, self.ask, self.recipe = bound, ask, recipe
        self.values = {**recipe.values, **recipe.before(ask)}
        self.described: list[dict[str, Any]] = []
        self.keys: list[dict[str, Any]] = []

    def verb(self, name: str) -> str:
        """The operation of a verb; empty where this trip cannot ask for it."""
        operation = self.bound.kind.verbs.get(name)
        if operation is None or operation.name in self.recipe.elsewhere:
            return ""
        if (
            name not in self.bound.resource.verbs
            and operation.name not in self.bound.resource.overrides
        ):
            return ""
        return operation.name

    def input(self, operation: str, *, rich: bool) -> dict[str, Any]:
        values = {**self.values, **self.recipe.inputs.get(operation, {})}
        left_out = self.recipe.without.get(operation, ())
        shape = self.ask.model(operation).input_shape
        made = Inputs(rich=rich, values=values, without=left_out).make(shape)
        if operation.startswith("Create") and self.bound.kind.is_named_by_caller:
            made[self.bound.kind.name_member] = self.name(rich=rich)
        return made

    def name(self, *, rich: bool) -> str:
        """The rich resource has the longest name that its kind allows."""
        short = f"contract-{'rich' if rich else 'bare'}"
        create = self.ask.model(self.bound.kind.verbs["Create"].name).input_shape
        assert create is not None
        most = min(int(create.members[self.bound.kind.name_member].metadata.get("max", 63)), 63)
        return short.ljust(most, "z") if rich else short

    def create_both(self) -> None:
        create, describe = self.verb("Create"), self.verb("Describe")
        for rich in (False, True):
            given = self.input(create, rich=rich)
            started = datetime.now(UTC) - timedelta(seconds=1)
            made = self.ask.ask(create, **given)
            self.keys.append(self.identity(given, made))
            shown = self.ask.ask(describe, **self.keys[-1])
            self.described.append(shown)
            assert_shows(given, shown)
            if self.bound.kind.created_member:
                assert (
                    started
                    <= shown[self.bound.kind.created_member]
                    <= started + timedelta(minutes=1)
                )
            if self.bound.kind.is_named_by_caller:
                code, message = self.ask.refused(create, **given)
                assert code in ALREADY_THERE and "already exist" in message.lower()

    def identity(self, given: dict[str, Any], made: dict[str, Any]) -> dict[str, Any]:
        return {member: made.get(member) or given[member] for member in self.bound.kind.identity}

    def arn(self, number: int) -> str:
        kind = self.bound.kind
        shown = self.described[number]
        names = (kind.arn_member, f"{kind.noun}Arn", "Arn")
        return next(shown[name] for name in names if shown.get(name))

    def settle(self) -> None:
        status = self.bound.kind.status_member
        if self.recipe.settles:
            for key in self.keys:
                self.ask.wait(lambda key=key: self.show(key)[status] == self.recipe.settles)
            self.described = [self.show(key) for key in self.keys]

    def show(self, key: dict[str, Any]) -> dict[str, Any]:
        return self.ask.ask(self.verb("Describe"), **key)

    def update_both(self) -> None:
        update = self.verb("Update")
        for key, rich in zip(self.keys, (False, True), strict=True):
            if update:
                before = self.show(key)
                given = {**self.input(update, rich=rich), **key}
                removed = [name for name in given if name.endswith("ToRemove")]
                changed = {name: one for name, one in given.items() if name not in removed}
                self.ask.ask(update, **changed)
                after = self.show(key)
                assert_shows(changed, after)
                modified = self.bound.kind.modified_member
                assert not modified or before[modified] <= after[modified]
                for name in removed:
                    self.remove(update, key, name, after)

    def remove(self, update: str, key: dict[str, Any], name: str, shown: dict[str, Any]) -> None:
        """`PropertiesToRemove` takes keys out of the map `Properties` and leaves the others."""
        member = name.removesuffix("ToRemove")
        first, *others = shown[member]
        self.ask.ask(update, **key, **{name: [first]})
        assert list(self.show(key).get(member, {})) == others

    def tag_both(self) -> None:
        if "Tags" not in self.bound.kind.input("Create"):
            return
        for number, rich in enumerate((False, True)):
            arn = self.arn(number)
            first = self.input(self.verb("Create"), rich=rich).get("Tags", [])
            assert self.tags(arn) == first
            self.ask.ask("AddTags", ResourceArn=arn, Tags=[TAG])
            assert self.tags(arn) == [*first, TAG]
            self.ask.ask("DeleteTags", ResourceArn=arn, TagKeys=["team"])
            assert self.tags(arn) == first

    def tags(self, arn: str) -> list[dict[str, str]]:
        return self.ask.ask("ListTags", ResourceArn=arn)["Tags"]

    def stop_both(self) -> None:
        stop, kind = self.verb("Stop"), self.bound.kind
        for key in self.keys:
            if stop:
                self.ask.ask(stop, **key)
                self.ask.wait(lambda key=key: self.show(key)[kind.status_member] == "Stopped")
                code, message = self.ask.refused(stop, **key)
                assert code == "ValidationException" and "is in status Stopped" in message

    def delete_both(self) -> None:
        delete, describe = self.verb("Delete"), self.verb("Describe")
        for number, key in enumerate(self.keys):
            if delete:
                self.ask.ask(delete, **key)
                self.ask.wait(lambda key=key: self.is_gone(key))
                name = key[self.bound.kind.name_member].rsplit("/", 1)[-1]
                words = GONE.get(self.bound.noun)
                for operation in (describe, delete):
                    code, message = self.ask.refused(operation, **key)
                    assert code == self.missing_code()
                    assert words is None or message == words.format(arn=self.arn(number), name=name)

    def is_gone(self, key: dict[str, Any]) -> bool:
        try:
            self.show(key)
        except self.ask.sagemaker.exceptions.ClientError:
            return True
        return False

    def missing_code(self) -> str:
        models = {one.name for one in self.bound.kind.verbs["Describe"].error_shapes}
        modelled = "ResourceNotFound" in models and self.bound.noun not in NOT_AS_MODELLED
        return "ResourceNotFound" if modelled else "ValidationException"


def assert_shows(given: dict[str, Any], shown: dict[str, Any]) -> None:
    """What was given is told again, unchanged; the service may add defaults beside it."""
    missing = [
        f"{name}: {value!r} became {shown.get(name)!r}"
        for name, value in given.items()
        if name in shown and not _holds(value, shown[name])
    ]
    assert missing == []


def _holds(given: Any, shown: Any) -> bool:
    if isinstance(given, dict) and isinstance(shown, dict):
        return all(name in shown and _holds(value, shown[name]) for name, value in given.items())
    if isinstance(given, list) and isinstance(shown, list):
        return len(given) == len(shown) and all(map(_holds, given, shown))
    return given == shown
