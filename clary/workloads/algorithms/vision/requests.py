"""Requests with an image in them, and the forms of their answers."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from PIL import Image

from clary.workloads.algorithms.channels import parse_content_type
from clary.workloads.algorithms.vision import pictures
from clary.workloads.serving.handlers import Rejected

JSON, JSON_LINES = "application/json", "application/jsonlines"
CONTENT_TYPES = ("application/x-image", "image/jpeg", "image/png")
SHORT = {"json": JSON, "jsonlines": JSON_LINES}
PAYLOAD_MEGABYTES = 6


class ImageHandler:
    """What the handlers of all algorithms for images have in common."""

    batchable = False

    def __init__(self) -> None:
        self.device = torch.device("cuda" if torch.cuda.is_available() else "cpu")

    def ping(self) -> bool:
        return True

    def execution_parameters(self) -> dict[str, object]:
        return {
            "MaxConcurrentTransforms": os.cpu_count() or 1,
            "BatchStrategy": "SINGLE_RECORD",
            "MaxPayloadInMB": PAYLOAD_MEGABYTES,
        }

    def decode(self, body: bytes, content_type: str) -> Any:
        raise NotImplementedError

    def predict(self, rows: Any) -> Any:
        raise NotImplementedError

    def encode(self, results: Any, accept: str) -> tuple[str, bytes]:
        raise NotImplementedError

    def invoke(
        self, body: bytes, content_type: str, accept: str, headers: Mapping[str, str]
    ) -> tuple[int, str, bytes]:
        """Answer one request by itself."""
        return (200, *self.encode(self.predict(self.decode(body, content_type)), accept))


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
