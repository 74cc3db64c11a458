"""Which network a host's program gets, and what is relayed into and out of it.

Jobs have this machine's network, so that hosts meet at loopback addresses; isolated ones have a network
of their own, which the hosts of a job share. So have several hosts that SDK v3's drivers start, because
these meet at the same ports in every job, 7777 and 22; each has a relay back to the door. A server of
somebody else listens on port 8080 whatever else does so on this machine: each has a network of its own,
with a relay to the port and, unless it is isolated, one back to the door.
"""

from __future__ import annotations

import hashlib
import socket
from typing import Any, NamedTuple
from urllib.parse import urlsplit, urlunsplit

from clary.runner.spec import HostSpec

LOOPBACK = "127.0.0.1"
DRIVERS = "sm_drivers"  # the channel that SDK v3's drivers come in
BIND_TO_PORT = "SAGEMAKER_BIND_TO_PORT"
_SCHEME_PORTS = {"http": 80, "https": 443}


class Network(NamedTuple):
    kind: str  # host | own
    peers: list[str]  # the program.lock of each host that may share it
    port: int  # where a server of somebody else listens; 0 if there is none
    inward: dict[str, Any] | None  # socket, port: relayed from the Unix socket to the port inside
    outward: dict[str, Any] | None  # host, port, address: relayed from inside to the door

    def seen(self, url: str) -> str:
        """A URL of the door as the program reaches it."""
        if self.outward is None:
            return url
        inside = f"{self.outward['host']}:{self.outward['port']}"
        return urlunsplit(urlsplit(url)._replace(netloc=inside))


def of(spec: HostSpec, *, own_network: bool) -> Network:
    """Decide; where no network of its own can be had, a server listens on a port that is free now."""
    serve = spec.serve
    if serve is None:
        return _of_job(spec, own_network=own_network)
    if not serve.port:
        return Network("own" if spec.network_isolation else "host", [], 0, None, None)
    asked = _asked(spec)
    port = asked or (serve.port if own_network else _free_port())
    inward = {"socket": str(spec.directory / "serve" / "serve.sock"), "port": port}
    if not own_network:
        return Network("host", [], port, inward, None)
    outward = None if spec.network_isolation else _outward(spec.endpoint_url, LOOPBACK, port)
    return Network("own", [], port, inward, outward)


def _of_job(spec: HostSpec, *, own_network: bool) -> Network:
    if spec.network_isolation:
        return Network("own", _peers(spec), 0, None, None)
    several = len(spec.hosts) > 1 and not spec.addresses
    if not (own_network and several and has_drivers(spec)):
        return Network("host", [], 0, None, None)
    # Each host has a relay of its own, which ends with it: they listen at different addresses.
    outward = _outward(spec.endpoint_url, addresses(spec)[spec.host])
    return Network("own", _peers(spec), 0, None, outward)


def has_drivers(spec: HostSpec) -> bool:
    """Is the program started by SDK v3's drivers, in a sandbox? An image of its own brings what it needs."""
    given = any(channel.name == DRIVERS for channel in spec.inputs)
    return given and spec.serve is None and spec.program.container is None


def addresses(spec: HostSpec) -> dict[str, str]:
    """The address of every host of the work, by its SageMaker name.

    The hosts of one work share this machine's network, or one that is theirs alone. Each gets a loopback
    address of its own, out of a range that belongs to the work, so that they do not meet on one port
    unless they ask for all addresses. Hosts on several machines have the addresses of these.
    """
    if spec.addresses:
        return {name: spec.addresses[name] for name in spec.hosts if name in spec.addresses}
    if len(spec.hosts) == 1 or spec.serve is not None:
        return dict.fromkeys(spec.hosts, LOOPBACK)
    block = hashlib.sha256(f"{spec.work}/{spec.generation}".encode()).digest()
    start = f"127.{block[0] % 254 + 1}.{block[1]}"
    return {name: f"{start}.{index + 1}" for index, name in enumerate(spec.hosts)}


def _peers(spec: HostSpec) -> list[str]:
    return [str(spec.shared / host / "program.lock") for host in spec.hosts if host != spec.host]


def _asked(spec: HostSpec) -> int:
    text = str(spec.program.environment.get(BIND_TO_PORT, ""))
    return int(text) if text.isascii() and text.isdigit() and 0 < int(text) < 65536 else 0


def _outward(url: str, host: str, taken: int = 0) -> dict[str, Any]:
    """The door keeps its port inside, unless the server needs just that one."""
    parts = urlsplit(url)
    port = parts.port or _SCHEME_PORTS.get(parts.scheme, 80)
    inside = port if port not in (taken, 80, 443) else 4510 if taken != 4510 else 4511
    return {"host": host, "port": inside, "address": [parts.hostname or LOOPBACK, port]}


def _free_port() -> int:
    with socket.create_server((LOOPBACK, 0)) as found:
        return found.getsockname()[1]
