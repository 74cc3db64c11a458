"""What agent and hosts tell each other, in the key-value store of the Ray cluster; used on both sides.

NAME:order     halt, fence, ended    written by the agent; a host without one is not wanted
NAME:state     state.json            written by the host's actor
NAME:outcome   outcome.json          written by the host's actor, once
"""

from __future__ import annotations

import json
import time
from typing import Any

from ray.experimental import internal_kv  # pyright: ignore[reportMissingImports]

STORE = b"clary"


def get_value(name: str, what: str) -> bytes | None:
    return internal_kv._internal_kv_get(_key(name, what), namespace=STORE)


def put_value(name: str, what: str, value: bytes) -> None:
    internal_kv._internal_kv_put(_key(name, what), value, overwrite=True, namespace=STORE)


def order(name: str, *, halt: bool, fence: bool, ended: list[str]) -> None:
    """Tell a host what it is to do, and which other hosts of its job have ended."""
    document = {"halt": halt, "fence": fence, "ended": ended}
    put_value(name, "order", json.dumps(document).encode())


def erase(name: str) -> None:
    for what in ("order", "state", "outcome"):
        internal_kv._internal_kv_del(_key(name, what), namespace=STORE)


def _key(name: str, what: str) -> bytes:
    return f"{name}:{what}".encode()


def outcome(result: str, began: float, failure: str) -> dict[str, Any]:
    """The outcome of a host whose runner left none."""
    client = failure.startswith("ClientError")
    return {
        "result": result,
        "exit_code": None,
        "signal": None,
        "out_of_memory": False,
        "failure": failure,
        "failure_source": None if result == "stopped" else "client" if client else "internal",
        "message": "",
        "phases": [],
        "started": began,
        "ended": time.time(),
        "metrics": {},
        "outputs": {},
        "log_tail": [],
    }
