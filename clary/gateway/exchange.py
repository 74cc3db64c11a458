"""One request on its way through the chain: what is known of it so far."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from clary.engine.registry import Answer
from clary.model.errors import ApiError
from clary.wire.http import Request, Response

if TYPE_CHECKING:
    from botocore.model import OperationModel

    from clary.identity.principals import Principal
    from clary.wire.protocols import WireProtocol
    from clary.wire.signature_errors import Style


@dataclass(slots=True)
class Exchange:
    """Each step of the chain fills in what it found out; a step may raise ApiError."""

    request: Request
    request_id: str
    time: float
    account: str
    region: str = ""
    service: str = ""
    wire: WireProtocol | None = None
    principal: Principal | None = None
    style: Style = "json"  # how the service words its refusals
    operation: OperationModel | None = None
    input: dict[str, Any] = field(default_factory=dict[str, Any])
    answer: Answer | None = None
    output: dict[str, Any] = field(default_factory=dict[str, Any])
    error: ApiError | None = None
    response: Response | None = None
