"""LightGBM's own network: the addresses of all hosts, and a port for each.

The library finds itself in the list of machines by address and port, and knows of loopback only
127.0.0.1; hosts that share a machine are told apart by their ports.
"""

from __future__ import annotations

import socket
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import lightgbm
import numpy as np

from clary.workloads.algorithms.errors import AlgorithmError
from clary.workloads.algorithms.first_party.hosts import Group
from clary.workloads.algorithms.job import Job, log

CONNECT_MINUTES_MAX = 15
_PORT_FIRST, _PORTS = 30000, 2000


@contextmanager
def joined(job: Job, group: Group) -> Iterator[dict[str, Any]]:
    """Parameters that make training a common one; no parameters where there is one host."""
    if group.size == 1:
        yield {}
        return
    name = job.environment.get("TRAINING_JOB_NAME") or "-".join(job.hosts)
    first = _PORT_FIRST + zlib.crc32(name.encode()) % (_PORTS // group.size) * group.size
    machines = [f"{_address(host)}:{first + at}" for at, host in enumerate(job.hosts)]
    log(f"Distributed training with {group.size} hosts: {list(job.hosts)}")
    learner = job.hyperparameters["tree_learner"]
    # All hosts have read their data; none of them waits for another's files inside the library.
    group.sum(np.zeros(1))
    try:
        yield {
            "machines": ",".join(machines),
            "local_listen_port": first + group.rank,
            "num_machines": group.size,
            "time_out": CONNECT_MINUTES_MAX,
            "pre_partition": True,
            "tree_learner": "data" if learner == "serial" else learner,
        }
    finally:
        lightgbm.basic._LIB.LGBM_NetworkFree()


def _address(host: str) -> str:
    try:
        address = socket.gethostbyname(host)
    except OSError as problem:
        raise AlgorithmError(f"The host {host} has no address.") from problem
    return "127.0.0.1" if address.startswith("127.") else address
