"""The conversation between a runner and the process that starts its program: JSON lines on a Unix socket.

runner                                   supervisor
  ── recipe (length, JSON) + 2 descriptors ──▶      standard output and standard error
  ◀──────────────── {"started": pid} ──────────     or {"failed": reason}
  ── {"signal": 15} ──▶                             any number of times; end of file means kill
  ◀──────────────── {"exited": wait status} ───     the last line
"""

from __future__ import annotations

import array
import json
import os
import socket
import struct
from typing import Any

_HEAD = struct.Struct("=I")
_RECIPE_BYTES_MAX = 16 * 1024 * 1024
_LINE_BYTES_MAX = 64 * 1024
_DESCRIPTORS_MAX = 16


def send_recipe(connection: socket.socket, recipe: dict[str, Any], descriptors: list[int]) -> None:
    body = json.dumps(recipe).encode()
    passed = array.array("i", descriptors)
    # Descriptors travel with the first bytes; they are received with the head, in one piece.
    connection.sendmsg(
        [_HEAD.pack(len(body))], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, passed.tobytes())]
    )
    connection.sendall(body)


def receive_recipe(connection: socket.socket, count: int = 0) -> tuple[dict[str, Any], list[int]]:
    """Also returns the descriptors, `count` of them, or as many as the recipe names.

    Raise OSError or ValueError when the other side sends something else, or nothing.
    """
    size = array.array("i").itemsize
    head, ancillary, _, _ = connection.recvmsg(
        _HEAD.size, socket.CMSG_SPACE(_DESCRIPTORS_MAX * size)
    )
    descriptors = array.array("i")
    for level, kind, data in ancillary:
        if level == socket.SOL_SOCKET and kind == socket.SCM_RIGHTS:
            descriptors.frombytes(data[: len(data) - len(data) % size])
    for descriptor in descriptors:
        os.set_inheritable(descriptor, False)
    try:
        recipe = _receive_body(connection, head)
        if len(descriptors) != (count or len(recipe["descriptors"])):
            raise ValueError(f"{len(descriptors)} descriptors came with the recipe")
    except BaseException:
        for descriptor in descriptors:
            os.close(descriptor)
        raise
    return recipe, list(descriptors)


def _receive_body(connection: socket.socket, head: bytes) -> dict[str, Any]:
    if len(head) < _HEAD.size:
        raise ValueError("a recipe was expected")
    length = _HEAD.unpack(head)[0]
    if length > _RECIPE_BYTES_MAX:
        raise ValueError(f"the recipe has {length} bytes; at most {_RECIPE_BYTES_MAX} fit")
    body = bytearray()
    while len(body) < length:
        piece = connection.recv(min(length - len(body), 1 << 16))
        if not piece:
            raise ValueError("the recipe ended early")
        body += piece
    return json.loads(bytes(body))


def send(connection: socket.socket, message: dict[str, Any]) -> None:
    connection.sendall(json.dumps(message).encode() + b"\n")


class Lines:
    """Reads messages as they arrive, without blocking longer than one `recv`."""

    def __init__(self, connection: socket.socket) -> None:
        self._connection = connection
        self._rest = b""
        self._kept: list[dict[str, Any]] = []

    def put_back(self, messages: list[dict[str, Any]]) -> None:
        """Messages that the next `receive` returns first, without reading."""
        self._kept = messages

    def has_kept(self) -> bool:
        return bool(self._kept)

    def receive(self) -> list[dict[str, Any]] | None:
        """The messages that one read completes; None once the other side has closed."""
        if self._kept:
            kept, self._kept = self._kept, []
            return kept
        try:
            piece = self._connection.recv(1 << 16)
        except ConnectionError:
            return None
        if not piece:
            return None
        *whole, self._rest = (self._rest + piece).split(b"\n")
        if len(self._rest) > _LINE_BYTES_MAX:
            raise ValueError(f"a message is longer than {_LINE_BYTES_MAX} bytes")
        return [json.loads(line) for line in whole if line]
