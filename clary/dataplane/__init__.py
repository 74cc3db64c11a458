"""The door: invocations, objects, and forwarding of all else."""
