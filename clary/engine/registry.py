"""Every operation that Clary answers, found by walking the packages of kinds and companions at start."""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from types import ModuleType

from clary.engine.call import Handler
from clary.engine.resource import BoundResource, Resource
from clary.engine.verbs import VERBS
from clary.model.service import Services


@dataclass(frozen=True)
class Answer:
    """Who answers an operation; `resource` is set where it is about a kind."""

    handler: Handler
    module: str
    resource: BoundResource | None = None


@dataclass
class Registry:
    """(service, operation) -> Answer, and the kinds by noun."""

    answers: dict[tuple[str, str], Answer] = field(default_factory=dict[tuple[str, str], Answer])
    resources: dict[str, BoundResource] = field(default_factory=dict[str, BoundResource])

    def find(self, service: str, operation: str) -> Answer | None:
        return self.answers.get((service, operation))

    def add(self, service: str, operation: str, answer: Answer) -> None:
        known = self.answers.get((service, operation))
        if known is not None:
            raise ValueError(
                f"two answers to {service}:{operation}: {known.module} and {answer.module}"
            )
        self.answers[service, operation] = answer


def discover(services: Services, packages: Sequence[str]) -> Registry:
    """Import every module below `packages`; raise ValueError for a name the API lacks or two answers to one."""
    registry = Registry()
    for module in _modules(packages):
        for value in list(vars(module).values()):
            if isinstance(value, Resource):
                if value.noun not in registry.resources:
                    _add_resource(registry, services, value, module.__name__)
            elif getattr(value, "__module__", "") == module.__name__ and hasattr(value, "answers"):
                service, operation = value.answers
                _require(services, service, operation, module.__name__)
                registry.add(service, operation, Answer(value, module.__name__))
    return registry


def _add_resource(registry: Registry, services: Services, resource: Resource, module: str) -> None:
    service = services.get("sagemaker")
    assert service is not None, "botocore without its sagemaker model"
    bound = BoundResource.bind(resource, service)
    registry.resources[resource.noun] = bound
    for verb, operation in bound.kind.verbs.items():
        if operation.name not in resource.overrides and verb in resource.verbs:
            handler = partial(VERBS[verb], bound)
            registry.add("sagemaker", operation.name, Answer(handler, module, bound))
    for name, handler in resource.overrides.items():
        _require(services, "sagemaker", name, module)
        registry.add("sagemaker", name, Answer(handler, module, bound))


def _require(services: Services, service: str, operation: str, module: str) -> None:
    model = services.get(service)
    if model is None or operation not in model.operation_names:
        raise ValueError(f"{module} answers {service}:{operation}, which the API does not have")


def _modules(packages: Sequence[str]) -> Iterator[ModuleType]:
    for package in packages:
        root = importlib.import_module(package)
        yield root
        for found in pkgutil.walk_packages(root.__path__, f"{package}."):
            yield importlib.import_module(found.name)
