"""Requests with an image in them, and the forms of their answers."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any, Protocol, TypeVar

import torch
from PIL import Image
from torch import nn

from clary.workloads.algorithms.channels import parse_content_type
from clary.workloads.algorithms.execution_parameters import SINGLE_RECORD, execution_parameters
from clary.workloads.algorithms.vision import pictures
from clary.workloads.serving.handlers import Rejected

JSON, JSON_LINES = "application/json", "application/jsonlines"
CONTENT_TYPES = ("application/x-image", "image/jpeg", "image/png")
SHORT = {"json": JSON, "jsonlines": JSON_LINES}
Network = TypeVar("Network", bound=nn.Module)


class Model(Protocol):
    """What an algorithm for images serves."""

    batchable: bool  # whether images of several requests are looked at together

    def decode(self, body: bytes, content_type: str) -> Any:
        """The image of a request as the network takes it; refuses with 400 or 415."""
        ...

    def predict(self, rows: Any) -> Any:
        """What the network says of it."""
        ...

    def encode(self, results: Any, accept: str) -> tuple[str, bytes]:
        """The content type and the body; refuses with 406."""
        ...


class ImageHandler:
    """Answers requests with one model."""

    def __init__(self, model: Model) -> None:
        self.batchable = model.batchable
        self.decode, self.predict, self.encode = model.decode, model.predict, model.encode

    def ping(self) -> bool:
        return True

    def execution_parameters(self) -> dict[str, object]:
        return execution_parameters(SINGLE_RECORD)

    def invoke(
        self, body: bytes, content_type: str, accept: str, headers: Mapping[str, str]
    ) -> tuple[int, str, bytes]:
        """Answer one request by itself."""
        return (200, *self.encode(self.predict(self.decode(body, content_type)), accept))


def placed(network: Network) -> tuple[Network, torch.device]:
    """A network that is ready to answer, and where it does."""
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    return network.eval().to(device, memory_format=torch.channels_last), device


def picture(body: bytes, content_type: str, mode: str = "RGB") -> Image.Image:
    """The image of a request; refuses with 415 or 400."""
    kind, _ = parse_content_type(content_type or "")
    if kind not in CONTENT_TYPES:
        raise Rejected(
            415,
            f"Content-type {content_type or '(none)'} not supported. Supported content-types: "
            f"{', '.join(CONTENT_TYPES)}.",
        )
    if not body:
        raise Rejected(400, "unable to evaluate payload provided: the request body is empty")
    try:
        return pictures.decode(body, "of the request", mode)
    except pictures.BrokenImage as problem:
        raise Rejected(400, f"unable to evaluate payload provided: {problem}") from problem


def chosen_accept(
    accept: str, offered: Sequence[str] = (JSON, JSON_LINES)
) -> tuple[str, Mapping[str, str]]:
    """The first type of an Accept header that is offered, and its parameters; refuses with 406."""
    for one in (accept or "").split(","):
        kind, parameters = parse_content_type(one)
        if kind in ("", "*/*"):
            return offered[0], parameters
        kind = SHORT.get(kind, kind)
        if kind in offered:
            return kind, parameters
    raise Rejected(
        406, f"Accept type {accept} is not supported. Supported types: {', '.join(offered)}."
    )


def as_json(value: Any) -> bytes:
    return json.dumps(value).encode()
