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
from typing import Any, Dict, List, Optional, Tuple

_HEAD = struct.Struct("=I")
_RECIPE_BYTES_MAX = 16 * 1024 * 1024
_LINE_BYTES_MAX = 64 * 1024


def send_recipe(connection: socket.socket, recipe: Dict[str, Any], descriptors: List[int]) -> None:
    body = json.dumps(recipe).encode()
    passed = array.array("i", descriptors)
    # Descriptors travel with the first bytes; they are received with the head, in one piece.
    connection.sendmsg(
        [_HEAD.pack(len(body))], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, passed.tobytes())]
    )
    connection.sendall(body)


def receive_recipe(connection: socket.socket) -> Tuple[Dict[str, Any], List[int]]:
    """Raise OSError or ValueError when the other side sends something else, or nothing."""
    size = array.array("i").itemsize
    head, ancillary, _, _ = connection.recvmsg(_HEAD.size, socket.CMSG_SPACE(4 * size))
    descriptors = array.array("i")
    for level, kind, data in ancillary:
        if level == socket.SOL_SOCKET and kind == socket.SCM_RIGHTS:
            descriptors.frombytes(data[: len(data) - len(data) % size])
    for descriptor in descriptors:
        os.set_inheritable(descriptor, False)
    if len(head) < _HEAD.size or len(descriptors) != 2:
        raise ValueError("a recipe with two descriptors was expected")
    length = _HEAD.unpack(head)[0]
    if length > _RECIPE_BYTES_MAX:
        raise ValueError("the recipe has %d bytes; at most %d fit" % (length, _RECIPE_BYTES_MAX))
    body = bytearray()
    while len(body) < length:
        piece = connection.recv(min(length - len(body), 1 << 16))
        if not piece:
            raise ValueError("the recipe ended early")
        body += piece
    return json.loads(bytes(body)), list(descriptors)


def send(connection: socket.socket, message: Dict[str, Any]) -> None:
    connection.sendall(json.dumps(message).encode() + b"\n")


class Lines:
    """Reads messages as they arrive, without blocking longer than one `recv`."""

    def __init__(self, connection: socket.socket) -> None:
        self._connection = connection
        self._rest = b""
        self._kept: List[Dict[str, Any]] = []

    def put_back(self, messages: List[Dict[str, Any]]) -> None:
        """Messages that the next `receive` returns first, without reading."""
        self._kept = messages

    def has_kept(self) -> bool:
        return bool(self._kept)

    def receive(self) -> Optional[List[Dict[str, Any]]]:
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
            raise ValueError("a message is longer than %d bytes" % _LINE_BYTES_MAX)
        return [json.loads(line) for line in whole if line]
