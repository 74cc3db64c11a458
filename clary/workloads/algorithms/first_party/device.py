"""Where a neural algorithm computes: a GPU if there is one, else this host's share of the processors."""

from __future__ import annotations

import ipaddress
import socket

import torch

from clary.workloads.algorithms.job import Job

VALUES_A_THREAD = 1 << 17


def choose(job: Job, values_a_step: int) -> torch.device:
    """The device of this host; hosts of one machine share its GPUs and its processors.

    `values_a_step` is how many numbers a batch holds: small batches are left to fewer threads.
    """
    neighbours = [host for host in job.hosts if _is_here(host)] if len(job.hosts) > 1 else []
    if torch.cuda.is_available():
        place = neighbours.index(job.host) if job.host in neighbours else 0
        return torch.device("cuda", place % torch.cuda.device_count())
    # Threads meet after every operation. Where an operation is short, or a processor is busy with
    # something else, they wait far longer than they compute: thirty times, on a loaded machine.
    asked = job.environment.get("OMP_NUM_THREADS", "")
    own = int(asked) if asked.isdigit() else job.threads // max(len(neighbours), 1)
    torch.set_num_threads(max(1, min(own, values_a_step // VALUES_A_THREAD)))
    return torch.device("cpu")


def _is_here(host: str) -> bool:
    """Whether a host has an address of this machine alone."""
    try:
        return ipaddress.ip_address(socket.gethostbyname(host)).is_loopback
    except OSError:
        return False
