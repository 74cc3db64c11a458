"""Kinds: what the API's operations say about each noun they share, such as Model or TrainingJob.

A kind's verbs, identity, ARN, status, list filters and summary shape are all inferred here, once, from the model.
What the model cannot say is declared with the kind (`clary.engine.resource`).
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property

from botocore.model import ListShape, OperationModel, ServiceModel, StructureShape

VERBS = ("Create", "Describe", "List", "Update", "Delete", "Stop", "Start")
IDEMPOTENCY_TOKENS = ("ClientRequestToken", "ClientToken")
CREATED = ("CreationTime", "CreatedAt", "CreatedTime", "CreateDate", "StartTime")
MODIFIED = (
    "LastModifiedTime",
    "LastModifiedAt",
    "LastUpdatedTime",
    "LastUpdateDate",
    "LastUpdatedAt",
)
# Kinds whose plural is not "add an s".
_PLURALS = {"CodeRepository": "CodeRepositories", "HumanTaskUi": "HumanTaskUis"}


@dataclass(frozen=True)
class Kind:
    """One noun of the API and the operations about it."""

    noun: str
    verbs: Mapping[str, OperationModel] = field(default_factory=dict[str, OperationModel])

    def input(self, verb: str) -> Mapping[str, object]:
        operation = self.verbs.get(verb)
        shape = operation.input_shape if operation else None
        return shape.members if isinstance(shape, StructureShape) else {}

    def output(self, verb: str) -> Mapping[str, object]:
        operation = self.verbs.get(verb)
        shape = operation.output_shape if operation else None
        return shape.members if isinstance(shape, StructureShape) else {}

    @cached_property
    def identity(self) -> tuple[str, ...]:
        """The members that name one resource in Describe: parents first, the name last."""
        operation = self.verbs.get("Describe") or self.verbs.get("Update") or self.verbs["Delete"]
        shape = operation.input_shape
        required = tuple(shape.required_members) if shape is not None else ()
        members = required or tuple(self.input(operation.name.removesuffix(self.noun)))
        return tuple(sorted(members, key=self._is_name))

    def _is_name(self, member: str) -> bool:
        return member in (f"{self.noun}Name", f"{self.noun}Arn", f"{self.noun}Id")

    @property
    def name_member(self) -> str:
        """The member that holds the name (`ModelName`), or the generated id (`DomainId`, `ArtifactArn`)."""
        return self.identity[-1]

    @property
    def parent_members(self) -> tuple[str, ...]:
        return self.identity[:-1]

    @property
    def is_named_by_caller(self) -> bool:
        return self.name_member in self.input("Create")

    @cached_property
    def arn_member(self) -> str:
        """The member of Create's answer (or Describe's) that holds the ARN."""
        for verb in ("Create", "Describe"):
            arns = [name for name in self.output(verb) if name.endswith("Arn")]
            exact = [name for name in arns if name == f"{self.noun}Arn"]
            if exact or arns:
                return (exact or arns)[0]
        return f"{self.noun}Arn"

    @cached_property
    def arn_segment(self) -> str:
        """The part of the ARN before the name, from the ARN shape's pattern, else the noun in kebab case."""
        for verb in ("Create", "Describe"):
            shape = self.output(verb).get(self.arn_member)
            pattern = str(getattr(shape, "metadata", {}).get("pattern", ""))
            found = re.search(r":([a-z][a-z-]+)/[^|]*$", pattern)
            if found:
                return found.group(1)
        return re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "-", self.noun).lower()

    @cached_property
    def status_member(self) -> str:
        described = self.output("Describe")
        for name in (f"{self.noun}Status", "Status"):
            if name in described:
                return name
        short = [
            name
            for name in described
            if name.endswith("Status") and self.noun.endswith(name.removesuffix("Status"))
        ]
        return short[0] if short else ""

    @cached_property
    def created_member(self) -> str:
        return next((name for name in CREATED if name in self.output("Describe")), "")

    @cached_property
    def modified_member(self) -> str:
        return next((name for name in MODIFIED if name in self.output("Describe")), "")

    @cached_property
    def items_member(self) -> str:
        """The member of List's answer that holds the items."""
        lists = [
            name for name, shape in self.output("List").items() if isinstance(shape, ListShape)
        ]
        return lists[0] if lists else ""

    @property
    def summary_shape(self) -> StructureShape | None:
        shape = self.output("List").get(self.items_member)
        item = shape.member if isinstance(shape, ListShape) else None
        return item if isinstance(item, StructureShape) else None

    @cached_property
    def words(self) -> str:
        """The noun as AWS's messages write it: `EndpointConfig` gives `endpoint config`."""
        return re.sub(r"(?<=[a-z0-9])(?=[A-Z])", " ", self.noun).lower()


def infer_kind(service: ServiceModel, noun: str) -> Kind:
    """Collect a noun's operations; raise KeyError if the API has none for it."""
    names = set(service.operation_names)
    verbs: dict[str, OperationModel] = {}
    for verb in VERBS:
        subject = plural(noun) if verb == "List" else noun
        if f"{verb}{subject}" in names:
            verbs[verb] = service.operation_model(f"{verb}{subject}")
    if not verbs:
        raise KeyError(f"the {service.service_name} API has no operation about {noun!r}")
    return Kind(noun, verbs)


def nouns(service: ServiceModel) -> Iterator[str]:
    """Every noun that can be created or described, in alphabetical order."""
    found: set[str] = set()
    for name in service.operation_names:
        for verb in ("Create", "Describe"):
            if name.startswith(verb):
                found.add(name.removeprefix(verb))
    yield from sorted(found)


def plural(noun: str) -> str:
    return _PLURALS.get(noun, f"{noun}s")
