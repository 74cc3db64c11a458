"""MPI ranks on two hosts that add up and say where they are; the first writes the model."""

import argparse
import json
import os
import socket
from pathlib import Path

from mpi4py import MPI

parser = argparse.ArgumentParser()
parser.add_argument("--factor", type=int)
factor = parser.parse_args().factor
world = MPI.COMM_WORLD
assert world.size == 2
host = os.environ["SM_CURRENT_HOST"]
assert host == socket.gethostname() == f"algo-{world.rank + 1}"
total = world.allreduce(factor * (world.rank + 1))
assert total == 9
print(f"rank {world.rank} of {world.size} on {host}: {total}")
if world.rank == 0:
    document = {"total": total, "hosts": json.loads(os.environ["SM_HOSTS"])}
    (Path(os.environ["SM_MODEL_DIR"]) / "total.json").write_text(json.dumps(document))
