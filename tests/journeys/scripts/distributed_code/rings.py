"""MPI ranks that add up and say where they are; one may fail."""

import os
import socket
import sys

from mpi4py import MPI

world = MPI.COMM_WORLD
if "--fail" in sys.argv and world.rank == world.size - 1:
    raise ValueError(f"rank {world.rank} was told to fail")
total = world.allreduce(world.rank)
host = os.environ["SM_CURRENT_HOST"]
assert host == socket.gethostname()
print(f"rank {world.rank} of {world.size} on {host}: {total}, {os.environ.get('COLOUR')}")
