"""A linear model by DistributedDataParallel over gloo: the processes must end with equal weights."""

import argparse
import os
from pathlib import Path

import torch
import torch.distributed as dist
from torch.nn.parallel import DistributedDataParallel

parser = argparse.ArgumentParser()
parser.add_argument("--steps", type=int)
parser.add_argument("--fail", type=int, default=-1)
options = parser.parse_args()
torch.set_num_threads(1)
dist.init_process_group("gloo")
rank, size = dist.get_rank(), dist.get_world_size()
if rank == options.fail:
    raise ValueError(f"rank {rank} was told to fail")
torch.manual_seed(rank)
model = DistributedDataParallel(torch.nn.Linear(8, 1))
optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
for _ in range(options.steps):
    optimizer.zero_grad()
    features = torch.randn(16, 8)
    ((model(features) - features.sum(1, keepdim=True)) ** 2).mean().backward()
    optimizer.step()
weights = torch.cat([one.detach().flatten() for one in model.parameters()])
all_weights = [torch.empty_like(weights) for _ in range(size)]
dist.all_gather(all_weights, weights)
assert all(torch.equal(weights, other) for other in all_weights)
host = os.environ["SM_CURRENT_HOST"]
print(f"rank {rank} of {size} on {host}, local {os.environ['LOCAL_RANK']}: equal weights")
if rank == 0:
    torch.save(model.module.state_dict(), Path(os.environ["SM_MODEL_DIR"]) / "model.pt")
dist.destroy_process_group()
