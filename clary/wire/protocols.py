"""The choice of protocol: what one service speaks, and what one request of it is written in."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

from botocore.model import OperationModel, ServiceModel

from clary.model.errors import ApiError
from clary.wire.event_stream import EventWriter
from clary.wire.http import Request, Response
from clary.wire.json_rpc import JsonRpc
from clary.wire.query import Query
from clary.wire.rest import Rest
from clary.wire.rest_json import JsonBodies
from clary.wire.rest_xml import XmlBodies
from clary.wire.rpc_cbor import RpcCbor

FORM = "application/x-www-form-urlencoded"


class WireProtocol(Protocol):
    """One protocol of one service. Safe for several threads; plans are compiled on first use.

    Requests are hostile: `operation` and `parse` raise ApiError and nothing else. Outputs are
    ours: `serialise` raises ValueError for an output that does not fit the operation's shape.
    """

    def operation(self, request: Request) -> OperationModel:
        """Which operation is asked for; UnknownOperationException if none of the service."""
        ...

    def parse(self, request: Request) -> tuple[OperationModel, dict[str, Any]]:
        """The operation and its input: native types, unknown and null members dropped."""
        ...

    def serialise(
        self, operation: OperationModel, output: dict[str, Any], request_id: str
    ) -> Response:
        """A successful answer; members that are None are left out."""
        ...

    def serialise_error(
        self, operation: OperationModel | None, error: ApiError, request_id: str
    ) -> Response:
        """An error; `operation` is None where the request did not get that far."""
        ...

    def events(self, operation: OperationModel) -> EventWriter | None:
        """The writer of an operation's event stream, for answers that are sent as they arise."""
        ...


MAKERS: dict[str, Callable[[ServiceModel], WireProtocol]] = {
    "smithy-rpc-v2-cbor": RpcCbor,
    "json": JsonRpc,
    "query": Query,
    "ec2": lambda service: Query(service, ec2=True),
    "rest-json": lambda service: Rest(service, JsonBodies()),
    "rest-xml": lambda service: Rest(service, XmlBodies(service)),
}


class ServiceWire:
    """Every protocol of one service; make one and keep it, for it holds the compiled plans."""

    def __init__(self, service: ServiceModel) -> None:
        self.service = service
        names = service.metadata.get("protocols") or [service.protocol]
        self._protocols = {name: MAKERS[name](service) for name in names if name in MAKERS}
        if not self._protocols:
            raise ValueError(f"{service.service_name} speaks only {names}")
        self._first = next(iter(self._protocols.values()))

    @property
    def names(self) -> list[str]:
        return list(self._protocols)

    def named(self, name: str) -> WireProtocol:
        """One protocol by botocore's name of it; KeyError if the service does not speak it."""
        return self._protocols[name]

    def protocol(self, request: Request) -> WireProtocol:
        """The protocol that the request's markers name; else the service's first."""
        for name, marked in MARKERS:
            if name in self._protocols and marked(request):
                return self._protocols[name]
        return self._first


def is_cbor(request: Request) -> bool:
    return request.headers.get("smithy-protocol", "").lower() == "rpc-v2-cbor"


def is_json(request: Request) -> bool:
    return "x-amz-target" in request.headers


def is_form(request: Request) -> bool:
    kind = request.headers.get("content-type", "").lower()
    return kind.startswith(FORM) or "Action=" in request.query or request.body[:7] == b"Action="


def is_rest(_request: Request) -> bool:
    return True


# In the order of how sure each marker is.
MARKERS: tuple[tuple[str, Callable[[Request], bool]], ...] = (
    ("smithy-rpc-v2-cbor", is_cbor),
    ("json", is_json),
    ("query", is_form),
    ("ec2", is_form),
    ("rest-json", is_rest),
    ("rest-xml", is_rest),
)
