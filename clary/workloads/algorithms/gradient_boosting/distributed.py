"""Training on several hosts: XGBoost's tracker on the first, one worker on each that has data."""

from __future__ import annotations

import socket
import time
import zlib
from collections.abc import Callable
from typing import Any

import numpy as np
import xgboost
from xgboost import collective
from xgboost.tracker import RabitTracker

from clary.workloads.algorithms.errors import AlgorithmError, UserError
from clary.workloads.algorithms.job import Job, log

RESOLVE_SECONDS_MAX = 900
CONNECT_SECONDS_MAX = 300
CONNECT_TRIES_MAX = 20
# Each job takes four ports: two trackers, and a gate for each of them.
_PORT_FIRST, _JOBS = 16000, 4000
_GATE = 2


def run(job: Job, has_data: bool, work: Callable[[bool], None]) -> None:
    """Call `work(is_first)` on every host that has data, inside one communicator."""
    addresses = _resolve(job.hosts)
    port = _port(job)
    rank = job.hosts.index(job.host)
    with _Group(addresses[0], port, len(job.hosts), rank):
        flags = np.zeros(len(job.hosts), dtype=np.float32)
        flags[rank] = float(has_data)
        flags = collective.allreduce(flags, collective.Op.SUM)
        if flags.all():
            work(rank == 0)
            return
    included = [host for at, host in enumerate(job.hosts) if flags[at] > 0]
    if not included:
        raise UserError("No host has data in all channels.")
    if not has_data:
        return
    # The host that keeps the model is the first of those that train; it also runs the tracker.
    rank = included.index(job.host)
    if len(included) == 1:
        work(True)
        return
    leader = addresses[job.hosts.index(included[0])]
    with _Group(leader, port + 1, len(included), rank):
        work(rank == 0)


class _Group:
    """A communicator among `size` workers; the worker of rank 0 also runs the tracker.

    The library's own retries lose many seconds where the tracker comes late. So its host opens a
    gate beside it, a socket that only listens: whoever can connect to it knows that the tracker
    is there.
    """

    def __init__(self, address: str, port: int, size: int, rank: int) -> None:
        self.address, self.port, self.size, self.rank = address, port, size, rank
        self.tracker: Any = None
        self.gate: socket.socket | None = None
        self.context: Any = None

    def __enter__(self) -> None:
        if self.rank == 0:
            self.tracker = RabitTracker(
                host_ip=self.address, n_workers=self.size, port=self.port, sortby="task"
            )
            if _is_modern():
                self.tracker.start()
            else:
                self.tracker.start(self.size)
            self.gate = socket.create_server(
                (self.address, self.port + _GATE), backlog=max(self.size, 128)
            )
        else:
            _pass_gate(self.address, self.port + _GATE)
        self.context = collective.CommunicatorContext(
            **_worker_arguments(self.address, self.port, self.rank)
        )
        self.context.__enter__()

    def __exit__(self, *problem: Any) -> None:
        try:
            self.context.__exit__(*problem)
            if self.tracker is not None and not any(problem):
                self.tracker.wait_for() if _is_modern() else self.tracker.join()
        finally:
            if self.gate is not None:
                self.gate.close()


def _pass_gate(address: str, port: int) -> None:
    deadline = time.monotonic() + CONNECT_SECONDS_MAX
    while True:
        try:
            socket.create_connection((address, port), timeout=10).close()
            return
        except OSError as problem:
            if time.monotonic() > deadline:
                raise AlgorithmError(f"The first host ({address}) did not start.") from problem
            time.sleep(0.1)


def _is_modern() -> bool:
    return int(xgboost.__version__.split(".")[0]) >= 2


def _worker_arguments(address: str, port: int, rank: int) -> dict[str, Any]:
    if _is_modern():
        return {
            "dmlc_communicator": "rabit",
            "dmlc_tracker_uri": address,
            "dmlc_tracker_port": port,
            "dmlc_task_id": f"{rank:06d}",
            "dmlc_retry": CONNECT_TRIES_MAX,
            "dmlc_timeout": CONNECT_SECONDS_MAX,
        }
    return {
        "DMLC_TRACKER_URI": address,
        "DMLC_TRACKER_PORT": port,
        "DMLC_TASK_ID": f"{rank:06d}",
        "DMLC_WORKER_CONNECT_RETRY": CONNECT_TRIES_MAX,
    }


def _port(job: Job) -> int:
    """The same port on all hosts of a job, and hardly ever that of another job beside it."""
    name = job.environment.get("TRAINING_JOB_NAME") or str(job.folders.base)
    return _PORT_FIRST + 4 * (zlib.crc32(name.encode()) % _JOBS)


def _resolve(hosts: tuple[str, ...]) -> list[str]:
    """The addresses of all hosts, once every one of them has a name."""
    deadline = time.monotonic() + RESOLVE_SECONDS_MAX
    addresses = []
    for host in hosts:
        while True:
            try:
                addresses.append(socket.gethostbyname(host))
                break
            except OSError as problem:
                if time.monotonic() > deadline:
                    raise AlgorithmError(f"The host {host} has no address.") from problem
                log(f"Waiting for the host {host} to have an address", "DEBUG")
                time.sleep(1)
    return addresses
