"""The detached process beside each workload host; standard library only."""
