"""The request chain: one ordered list of steps, each one function of the exchange.

identify → authenticate → parse → authorise → validate → dispatch → serialise → audit
"""

from __future__ import annotations

import logging
import random
import threading
import uuid
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from clary.engine.call import Call, Parts
from clary.engine.registry import Registry
from clary.gateway.audit import Trail
from clary.gateway.exchange import Exchange
from clary.gateway.roles import check_roles
from clary.gateway.service_names import service_of
from clary.gateway.targets import action_of, conditions_of, resource_of
from clary.model.errors import (
    ApiError,
    InternalFailure,
    NotImplementedException,
    UnknownOperationException,
    ValidationException,
)
from clary.model.service import Services
from clary.model.shapes import Validators
from clary.store.full_disk import home_full
from clary.wire.http import Request, Response
from clary.wire.protocols import ServiceWire, WireProtocol

if TYPE_CHECKING:
    from clary.identity.authenticate import Authenticator
    from clary.identity.authorise import Authoriser
    from clary.identity.principals import Principal

log = logging.getLogger(__name__)

# Services that call a broken constraint something else than ValidationException.
_VALIDATION_CODES = {
    "logs": "InvalidParameterException",
    "ecr": "InvalidParameterException",
    "iam": "ValidationError",
    "sts": "ValidationError",
    "cloudwatch": "ValidationError",
}

# Calls that every authenticated caller may make about himself.
_OWN = frozenset(
    ("sts", name)
    for name in ("GetCallerIdentity", "GetSessionToken", "GetAccessKeyInfo", "AssumeRole")
)


@dataclass
class Chain:
    """Answers requests; safe for many threads."""

    services: Services
    registry: Registry
    authenticator: Authenticator
    authoriser: Authoriser
    trail: Trail
    parts: Parts
    account: str
    _wires: dict[str, ServiceWire | None] = field(default_factory=dict[str, "ServiceWire | None"])
    _validators: dict[str, Validators] = field(default_factory=dict[str, Validators])
    _guard: threading.Lock = field(default_factory=threading.Lock)
    # Request ids are no secrets: a seeded generator spares each request a system call.
    _numbers: random.Random = field(default_factory=random.Random)

    @property
    def steps(self) -> tuple[Callable[[Exchange], None], ...]:
        return (
            self.identify,
            self.authenticate,
            self.parse,
            self.authorise,
            self.validate,
            self.dispatch,
        )

    def handle(self, request: Request) -> Response:
        """Answer one request; every failure becomes the error of the service that was asked."""
        exchange = Exchange(request, self._request_id(), self.parts.clock(), self.account)
        try:
            for step in (*self.steps, self.serialise):
                step(exchange)
        except ApiError as error:
            exchange.error = error
        except Exception as problem:
            log.exception("request %s failed", exchange.request_id)
            exchange.error = home_full(problem) or InternalFailure(
                f"Clary met a defect of its own. Its log (clary logs) has the traceback of request "
                f"{exchange.request_id}."
            )
        response = self.refuse(exchange) if exchange.error is not None else exchange.response
        assert response is not None
        self.trail.record(exchange)
        return response

    def call(
        self,
        service: str,
        operation: str,
        request: dict[str, Any],
        principal: Principal,
        region: str,
    ) -> dict[str, Any]:
        """One operation in process: the same steps without the wire. Raise ApiError."""
        model = self.services.get(service)
        if model is None or operation not in model.operation_names:
            raise UnknownOperationException(f"{service} has no operation {operation}.")
        local = Request("POST", "/", "", {"user-agent": "clary"})
        exchange = Exchange(local, self._request_id(), self.parts.clock(), self.account)
        exchange.service, exchange.region, exchange.principal = service, region, principal
        exchange.operation = model.operation_model(operation)
        exchange.input = request
        exchange.answer = self.registry.find(service, operation)
        try:
            for step in (self.authorise, self.validate, self.dispatch):
                step(exchange)
        except ApiError as error:
            exchange.error = error
            raise
        finally:
            self.trail.record(exchange)
        return exchange.output

    def _request_id(self) -> str:
        return str(uuid.UUID(int=self._numbers.getrandbits(128), version=4))

    def identify(self, exchange: Exchange) -> None:
        exchange.service, exchange.region = service_of(exchange.request)
        if exchange.service:
            exchange.wire = self._wire(exchange.service, exchange.request)

    def authenticate(self, exchange: Exchange) -> None:
        caller = self.authenticator.authenticate(exchange.request)
        exchange.principal, exchange.style = caller.principal, caller.style
        if exchange.wire is None:
            raise UnknownOperationException(
                f"Clary does not know the service {exchange.service!r}."
            )

    def parse(self, exchange: Exchange) -> None:
        assert exchange.wire is not None
        exchange.operation, exchange.input = exchange.wire.parse(exchange.request)
        exchange.answer = self.registry.find(exchange.service, exchange.operation.name)

    def authorise(self, exchange: Exchange) -> None:
        assert exchange.operation is not None and exchange.principal is not None
        if (exchange.service, exchange.operation.name) in _OWN:
            return
        self.authoriser.authorise(
            exchange.principal,
            action_of(exchange.service, exchange.operation.name),
            resource_of(exchange, exchange.answer),
            lambda: conditions_of(exchange),
            style=exchange.style,
        )

    def validate(self, exchange: Exchange) -> None:
        assert exchange.operation is not None
        if exchange.answer is None:
            raise not_built(exchange.service, exchange.operation.name)
        validators = self._validators.get(exchange.service)
        if validators is None:
            validators = self._validators[exchange.service] = Validators()
        try:
            validators.validate(exchange.operation.input_shape, exchange.input)
        except ValidationException as problem:
            code = _VALIDATION_CODES.get(exchange.service)
            if code is None:
                raise
            raise ApiError(problem.message, code=code, status=400) from problem
        check_roles(exchange, self.authoriser)

    def dispatch(self, exchange: Exchange) -> None:
        assert exchange.answer is not None and exchange.operation is not None
        assert exchange.principal is not None
        call = Call(
            service=exchange.service,
            operation=exchange.operation.name,
            input=exchange.input,
            account=exchange.account,
            region=exchange.region,
            principal=exchange.principal,
            request_id=exchange.request_id,
            time=exchange.time,
            parts=self.parts,
        )
        exchange.output = exchange.answer.handler(call) or {}

    def serialise(self, exchange: Exchange) -> None:
        assert exchange.wire is not None and exchange.operation is not None
        exchange.response = exchange.wire.serialise(
            exchange.operation, exchange.output, exchange.request_id
        )

    def refuse(self, exchange: Exchange) -> Response:
        """The error in the protocol of the service, or in SageMaker's where none was found."""
        wire = exchange.wire or self._wire("sagemaker", exchange.request)
        assert wire is not None and exchange.error is not None
        return wire.serialise_error(exchange.operation, exchange.error, exchange.request_id)

    def _wire(self, service: str, request: Request) -> WireProtocol | None:
        """The protocol that a request to a service is written in; None for a service that AWS does not have."""
        if service not in self._wires:
            with self._guard:
                model = self.services.get(service)
                self._wires[service] = ServiceWire(model) if model is not None else None
        found = self._wires[service]
        return found.protocol(request) if found is not None else None


def not_built(service: str, operation: str) -> NotImplementedException:
    return NotImplementedException(
        f"{operation} ({service}) is not built yet in this version of Clary. "
        "docs/compatibility.md lists what is."
    )
