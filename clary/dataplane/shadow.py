"""Shadow variants: a sample of the requests is copied to them, and what they answer is counted and thrown away."""

from __future__ import annotations

import logging
from collections.abc import Callable

from clary.dataplane.answer_heads import AnswerHead
from clary.dataplane.invocation import Invocation, Settled
from clary.dataplane.routes import EndpointRoute, Variant
from clary.model.errors import ApiError

log = logging.getLogger(__name__)

Make = Callable[[EndpointRoute, Variant, Settled], Invocation]


class Unheard:
    """Hears how copies ended: their metrics and captures are kept, and no client is told."""

    def __init__(self, audience: Settled, choose: Callable[[], float]) -> None:
        self._audience = (
            audience  # counts and captures; it tells `done`, which for a copy is nobody
        )
        self._choose = choose

    def succeeded(self, invocation: Invocation, head: AnswerHead, body: bytes) -> None:
        self._audience.succeeded(invocation, head, body)

    def failed(self, invocation: Invocation, problem: ApiError) -> None:
        self._audience.failed(invocation, problem)

    def again(self, invocation: Invocation) -> None:
        self.send(invocation)

    def send(self, invocation: Invocation) -> None:
        try:
            invocation.send(self._choose)
        except ApiError as problem:
            self._audience.failed(invocation, problem)

    def copy(self, route: EndpointRoute, make: Make) -> None:
        """Send a copy to every shadow whose turn it is by chance; never raises into the request itself."""
        for shadow in route.shadows:
            if not shadow.instances or self._choose() >= shadow.weight:
                continue
            try:
                self.send(make(route, shadow, self))
            except ApiError as problem:
                log.info("shadow %s of %s was left out: %s", shadow.name, route.name, problem)


def nobody(invocation: Invocation, outcome: AnswerHead | ApiError, content: bytes) -> None:
    """The client of a copy."""
