"""The declaration of a kind: what the service model cannot say about it, in a dozen words.

defaults   members that the service fills in where the caller gave none
computed   members of Describe that are worked out from the row
renamed    members that Describe or List spell otherwise than Create does
wrapped    the one member that Describe's answer is wrapped in, where there is one
secret     members that are kept but never told
admits     checks of a create request, each a function whose name reads as a sentence
retains    checks of a delete request: each raises where something still depends on the row
missing    the error for a name that is not there (the code and words that clients match on)
taken      the error for a name that is there already
verbs      the generic verbs that apply; all that the API has, unless given
identifier makes the name of a kind that the service names
arn_name   how the name appears in the ARN; some kinds lower its case
filters    filters of List that are more than a member of the row being equal
sorts      the order of List where the caller asks for none
lifecycle  which status follows which; `plan` decides when
plan       (row, seen) -> decisions; pure
hosts      (row, keys, parts) -> the host specs of a launch
images     the image URIs whose environments a launch needs
children   resources of other kinds that its launches make, in place of hosts
adviser    who works out, beside the loop, what its plan asks
takes_slots  hosts of jobs queue for the machine's slots; those of endpoints do not
publishing  shows rows of the kind to other processes, with the changes that are committed within it
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from botocore.model import ServiceModel

from clary.engine.call import Call, Handler, Parts
from clary.engine.children import Children
from clary.engine.consultations import Adviser
from clary.model.errors import ApiError, ResourceInUse, ResourceNotFound, ValidationException
from clary.model.kinds import Kind, infer_kind
from clary.reconcile.decisions import Decision
from clary.reconcile.lifecycles import STATIC, Lifecycle
from clary.reconcile.seen import Seen
from clary.store.rows import Row

Computed = Callable[[Row], Any]
Filter = Callable[[Call, Row, Any], bool]
Admits = Callable[[Call], None]
Retains = Callable[[Call, Row], None]
Plan = Callable[[Row, Seen], Sequence[Decision]]
Hosts = Callable[[Row, tuple[str, ...], Parts], list[dict[str, Any]]]
# The changes are by row id; None stands for a row that goes.
Publishing = Callable[[Parts, Mapping[int, Row | None]], AbstractContextManager[None]]


@dataclass(frozen=True, eq=False)
class Resource:
    """One kind as declared; bound to the service model by `bind`."""

    noun: str
    lifecycle: Lifecycle = STATIC
    defaults: Mapping[str, Any] = field(default_factory=dict[str, Any])
    computed: Mapping[str, Computed] = field(default_factory=dict[str, Computed])
    renamed: Mapping[str, str] = field(default_factory=dict[str, str])
    wrapped: str = ""
    secret: tuple[str, ...] = ()
    admits: tuple[Admits, ...] = ()
    retains: tuple[Retains, ...] = ()
    missing: ApiError | None = None
    taken: ApiError | None = None
    verbs: tuple[str, ...] = ("Create", "Describe", "List", "Update", "Delete", "Stop")
    identifier: Callable[[Call], str] | None = None
    arn_name: Callable[[str], str] = str
    filters: Mapping[str, Filter] = field(default_factory=dict[str, Filter])
    sorts: tuple[str, bool] = ("created", True)  # column, descending
    plan: Plan | None = None
    hosts: Hosts | None = None
    images: Callable[[Row], tuple[str, ...]] | None = None
    children: Children | None = None
    adviser: Adviser | None = None
    publishing: Publishing | None = None
    takes_slots: bool = True
    overrides: dict[str, Handler] = field(default_factory=dict[str, Handler])

    def operation(self, name: str) -> Callable[[Handler], Handler]:
        """Answer one operation of this kind by a function of its own instead of the generic verb."""

        def declare(handler: Handler) -> Handler:
            if name in self.overrides:
                raise ValueError(f"two answers to {name} in {self.noun}")
            self.overrides[name] = handler
            return handler

        return declare


@dataclass(frozen=True, eq=False)
class BoundResource:
    """A declaration together with what the model says of its kind."""

    resource: Resource
    kind: Kind

    @staticmethod
    def bind(resource: Resource, service: ServiceModel) -> BoundResource:
        return BoundResource(resource, infer_kind(service, resource.noun))

    @property
    def noun(self) -> str:
        return self.resource.noun

    @cached_property
    def missing_is_modelled(self) -> bool:
        operation = self.kind.verbs.get("Describe")
        errors = operation.error_shapes if operation else []
        return any(error.name == "ResourceNotFound" for error in errors)

    def missing_error(self, name: str, arn: str) -> ApiError:
        """The error for a name that is not there, in the words that clients match on."""
        declared = self.resource.missing
        if declared is not None:
            text = declared.message.format(name=name, arn=arn)
            return type(declared)(text, code=declared.code, status=declared.status)
        if self.missing_is_modelled:
            return ResourceNotFound(f"{self.kind.noun} '{name}' does not exist.")
        return ValidationException(f'Could not find {self.kind.words} "{arn}".')

    def taken_error(self, name: str, arn: str) -> ApiError:
        declared = self.resource.taken
        if declared is not None:
            text = declared.message.format(name=name, arn=arn)
            return type(declared)(text, code=declared.code, status=declared.status)
        create = self.kind.verbs["Create"]
        if any(error.name == "ResourceInUse" for error in create.error_shapes):
            return ResourceInUse(
                f"Resource Already Exists: {self.noun} with name {name} already exists. "
                "Choose a different name."
            )
        return ValidationException(f'Cannot create already existing {self.kind.words} "{arn}".')
