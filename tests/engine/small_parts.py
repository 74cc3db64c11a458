"""Parts with a real store and nothing else: enough for the verbs of kinds."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from clary.engine.call import Call
from clary.engine.registry import Registry
from clary.engine.resource import BoundResource, Resource
from clary.engine.verbs import VERBS
from clary.identity.principals import Principal
from clary.model.errors import ApiError
from clary.model.service import Services
from clary.settings import Settings
from clary.store.database import Store

ACCOUNT, REGION = "123456789012", "us-east-1"
USER = f"arn:aws:iam::{ACCOUNT}:user/ada"
SERVICE = Services().get("sagemaker")
assert SERVICE is not None


class SmallParts:
    """A clock that a test turns, a store in a folder, and the kinds that the test declares."""

    def __init__(self, home: Path, *resources: Resource) -> None:
        self.settings = Settings(home=home)
        self.now = 1_700_000_000.0
        self.store = Store.open(f"sqlite:///{home}/clary.db", clock=self.clock)
        self.telemetry = self.store
        self.objects = None
        self.woken = 0
        self.registry = Registry()
        for resource in resources:
            assert SERVICE is not None
            self.registry.resources[resource.noun] = BoundResource.bind(resource, SERVICE)

    def clock(self) -> float:
        return self.now

    def bound(self, noun: str) -> BoundResource:
        return self.registry.resources[noun]

    def wake(self) -> None:
        self.woken += 1

    def image(self, uri: str) -> Any:
        raise LookupError(uri)

    def work_credentials(self, role_arn: str, work_arn: str) -> dict[str, Any]:
        raise LookupError(role_arn)

    def call(self, *_: Any, **__: Any) -> dict[str, Any]:
        raise LookupError("no other operations here")

    def ask(self, operation: str, *, region: str = REGION, **members: Any) -> dict[str, Any]:
        """Answer an operation of one of the declared kinds."""
        principal = Principal(ACCOUNT, USER, "AIDA", "user", "ada")
        call = Call(
            "sagemaker", operation, members, ACCOUNT, region, principal, "r", self.now, self
        )
        return self._handler(operation)(call) or {}

    def refused(self, operation: str, **members: Any) -> tuple[str, str]:
        try:
            self.ask(operation, **members)
        except ApiError as error:
            return error.code, error.message
        raise AssertionError(f"{operation} was not refused")

    def _handler(self, operation: str) -> Callable[[Call], dict[str, Any] | None]:
        for bound in self.registry.resources.values():
            override = bound.resource.overrides.get(operation)
            if override is not None:
                return override
            for verb, model in bound.kind.verbs.items():
                if model.name == operation:
                    return lambda call, bound=bound, verb=verb: VERBS[verb](bound, call)
        raise LookupError(operation)


@contextmanager
def small_parts(home: Path, *resources: Resource) -> Iterator[SmallParts]:
    parts = SmallParts(home, *resources)
    try:
        yield parts
    finally:
        parts.store.close()
