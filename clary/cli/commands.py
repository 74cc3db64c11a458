"""The table of commands: what `clary --help` needs to know without importing any of them."""

from __future__ import annotations

from typing import NamedTuple  # half the import time of dataclasses


class Command(NamedTuple):
    name: str
    summary: str
    example: str

    @property
    def module(self) -> str:
        return f"clary.cli.{self.name}"


COMMANDS = (
    Command("up", "Start Clary and wait until it answers.", "clary up --port 4510"),
    Command("down", "Stop Clary; running jobs and endpoints go on.", "clary down"),
    Command("status", "Show what runs, and where.", "clary status --json"),
    Command("doctor", "Check this machine and say how to mend what is wrong.", "clary doctor"),
    Command("env", "Print the variables that point AWS clients here.", 'eval "$(clary env)"'),
    Command("run", "Run one command against Clary.", "clary run -- python train.py"),
    Command("demo", "Train, deploy and invoke a model, step by step.", "clary demo"),
    Command("logs", "Show the log of a job or an endpoint.", "clary logs -f my-training-job"),
    Command("interrupt", "Take a spot training job's instances away.", "clary interrupt my-job"),
    Command(
        "exec", "Open a shell, or run a command, inside a running job.", "clary exec my-job -- ls"
    ),
    Command("tune", "Show a tuning job and its trials, live.", "clary tune my-tuning-job"),
    Command("images", "List, build and add environments.", "clary images list"),
)
