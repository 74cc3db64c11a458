"""One call of one operation: what was asked, by whom, and the parts of Clary that answer it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from clary.engine.resource import BoundResource
    from clary.identity.principals import Principal
    from clary.images.image import Image
    from clary.settings import Settings
    from clary.store.database import Store

Handler = Callable[["Call"], "dict[str, Any] | None"]


class Parts(Protocol):
    """What handlers may use of the running server; `server.py` composes it, tests build it small."""

    settings: Settings
    store: Store  # rows and events
    telemetry: Store  # log events and metric data: much written, rarely read
    objects: Any  # the object store (see store/objects.py), or a client of an external one
    clock: Callable[[], float]  # epoch seconds

    def call(
        self,
        service: str,
        operation: str,
        request: dict[str, Any],
        *,
        principal: Principal,
        region: str,
    ) -> dict[str, Any]:
        """Call an operation in process, through validation and authorisation, as `principal`."""
        ...

    def bound(self, noun: str) -> BoundResource:
        """A kind by its noun, for operations that build on the generic verbs."""
        ...

    def image(self, uri: str) -> Image:
        """What an image URI means here; raise UnknownImage with the remedies."""
        ...

    def work_credentials(self, role_arn: str, work_arn: str) -> dict[str, Any]:
        """`tokens` and first `credentials` of a host spec: of the role, and of the runner beside the work."""
        ...

    def wake(self) -> None:
        """Let the reconcile loop look again at once; a hint without payload."""
        ...


@dataclass(frozen=True, slots=True)
class Call:
    service: str  # botocore's service name: "sagemaker", "logs", "iam", ...
    operation: str
    input: dict[str, Any]
    account: str
    region: str
    principal: Principal
    request_id: str
    time: float  # epoch seconds, from the injected clock
    parts: Parts


def operation(name: str, service: str = "sagemaker") -> Callable[[Handler], Handler]:
    """Declare that a function answers one operation; the registry finds it by walking the packages."""

    def declare(handler: Handler) -> Handler:
        handler.answers = (service, name)  # type: ignore[attr-defined]
        return handler

    return declare
