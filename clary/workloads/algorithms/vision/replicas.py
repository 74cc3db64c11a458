"""The hosts of a job as replicas of one network, whose gradients are averaged in every step.

PyTorch's DistributedDataParallel does it: over NCCL where each host has a GPU of its own, else gloo.
"""

from __future__ import annotations

import os
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import cast

import torch
import torch.distributed as distributed
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from clary.workloads.algorithms.errors import AlgorithmError
from clary.workloads.algorithms.job import Job

MEETING_SECONDS_MAX = 900
_PORT_FIRST, _PORTS = 28000, 4000


class Replicas:
    """What a training function needs of the other hosts; with one host, nothing happens."""

    def __init__(self, job: Job, device: torch.device) -> None:
        self.size, self.rank = len(job.hosts), job.hosts.index(job.host)
        self.device = device

    def shared(self, network: nn.Module) -> nn.Module:
        """The network as it is trained; its own weights stay in the network itself."""
        if self.size == 1:
            return network
        places = [self.device] if self.device.type == "cuda" else None
        return DistributedDataParallel(network, device_ids=places)

    def sum(self, numbers: list[float]) -> list[float]:
        if self.size == 1:
            return numbers
        total = torch.tensor(numbers, dtype=torch.float64, device=self.device)
        distributed.all_reduce(total)
        return cast("list[float]", total.tolist())


@contextmanager
def replicas(job: Job, device: torch.device) -> Iterator[Replicas]:
    """Raise AlgorithmError where another host does not come, or is lost."""
    if len(job.hosts) == 1:
        yield Replicas(job, device)
        return
    try:
        _meet(job, device)
        yield Replicas(job, device)
    except (distributed.DistError, RuntimeError) as problem:
        if isinstance(problem, distributed.DistError) or "gloo" in str(problem).lower():
            raise AlgorithmError(
                f"Another host of the training job has failed or cannot be reached: {problem}"
            ) from problem
        raise
    finally:
        if distributed.is_initialized():
            distributed.destroy_process_group()


def _meet(job: Job, device: torch.device) -> None:
    interface = job.folders.read("resourceconfig").get("network_interface_name")
    if interface or job.hosts[0].startswith("127."):
        os.environ.setdefault("GLOO_SOCKET_IFNAME", str(interface or "lo"))
        os.environ.setdefault("NCCL_SOCKET_IFNAME", str(interface or "lo"))
    name = job.environment.get("TRAINING_JOB_NAME") or "-".join(job.hosts)
    rank, size = job.hosts.index(job.host), len(job.hosts)
    limit = timedelta(seconds=MEETING_SECONDS_MAX)
    port = _PORT_FIRST + zlib.crc32(name.encode()) % _PORTS
    store = distributed.TCPStore(job.hosts[0], port, size, rank == 0, timeout=limit)
    # NCCL wants a GPU for each host; hosts of one machine may have to share theirs.
    own = device.type == "cuda" and torch.cuda.device_count() >= size
    distributed.init_process_group(
        "nccl" if own else "gloo", store=store, rank=rank, world_size=size, timeout=limit
    )
