"""The ports at which the hosts of one job meet."""

from __future__ import annotations

import ipaddress
import os
import socket
import zlib

_COUNT = 4000


def of_job(usual: int, first: int, master: str) -> int:
    """The usual port, or one of the job's own in [first, first + 4000) where hosts share a machine.

    Hosts that are machines have all ports to themselves. Hosts at loopback addresses are beside the
    hosts of other jobs, and a program that listens at all addresses would take their port too.
    """
    address = socket.gethostbyname(master)
    if not ipaddress.ip_address(address).is_loopback:
        return usual
    name = f"{os.environ.get('TRAINING_JOB_NAME', '')}@{address}"
    return first + zlib.crc32(name.encode()) % _COUNT
