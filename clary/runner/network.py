"""Which network a host's program gets, and what is relayed into and out of it.

Jobs have this machine's network, so that hosts meet at loopback addresses; isolated ones have a network
of their own, which the hosts of a job share. A server of somebody else listens on port 8080 whatever
else does so on this machine: each has a network of its own, with a relay to the port and, unless it is
isolated, one back to the door.
"""

from __future__ import annotations

import socket
from typing import Any, NamedTuple
from urllib.parse import urlsplit, urlunsplit

from clary.runner.spec import HostSpec

BIND_TO_PORT = "SAGEMAKER_BIND_TO_PORT"
_SCHEME_PORTS = {"http": 80, "https": 443}


class Network(NamedTuple):
    kind: str  # host | own
    peers: list[str]  # the program.lock of each host that may share it
    port: int  # where a server of somebody else listens; 0 if there is none
    inward: dict[str, Any] | None  # socket, port: relayed from the Unix socket to the port inside
    outward: dict[str, Any] | None  # port, address: relayed from the port inside to the door

    def seen(self, url: str) -> str:
        """A URL of the door as the program reaches it."""
        if self.outward is None:
            return url
        parts = urlsplit(url)
        return urlunsplit(parts._replace(netloc=f"127.0.0.1:{self.outward['port']}"))


def of(spec: HostSpec, *, own_network: bool) -> Network:
    """Decide; where no network of its own can be had, a server listens on a port that is free now."""
    serve = spec.serve
    if serve is None or not serve.port:
        kind = "own" if spec.network_isolation else "host"
        return Network(kind, [] if serve else _peers(spec), 0, None, None)
    asked = _asked(spec)
    port = asked or (serve.port if own_network else _free_port())
    inward = {"socket": str(spec.directory / "serve" / "serve.sock"), "port": port}
    if not own_network:
        return Network("host", [], port, inward, None)
    outward = None if spec.network_isolation else _outward(spec.endpoint_url, port)
    return Network("own", [], port, inward, outward)


def _peers(spec: HostSpec) -> list[str]:
    if not spec.network_isolation:
        return []
    return [str(spec.shared / host / "program.lock") for host in spec.hosts if host != spec.host]


def _asked(spec: HostSpec) -> int:
    text = str(spec.program.environment.get(BIND_TO_PORT, ""))
    return int(text) if text.isascii() and text.isdigit() and 0 < int(text) < 65536 else 0


def _outward(url: str, taken: int) -> dict[str, Any]:
    """The door keeps its port inside, unless the server needs just that one."""
    parts = urlsplit(url)
    port = parts.port or _SCHEME_PORTS.get(parts.scheme, 80)
    inside = port if port not in (taken, 80, 443) else 4510 if taken != 4510 else 4511
    return {"port": inside, "address": [parts.hostname or "127.0.0.1", port]}


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as found:
        return found.getsockname()[1]
