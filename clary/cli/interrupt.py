"""`clary interrupt JOB`: a spot interruption, asked for through the API as any client can ask for it."""

from __future__ import annotations

import argparse
import time

from botocore.exceptions import BotoCoreError, ClientError

from clary.cli.installation import installed
from clary.cli.logs import Clients
from clary.cli.output import Problem, say

TAG = "clary:interrupt"  # each new value of this tag is one interruption


def arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("name", help="a training job with EnableManagedSpotTraining")
    parser.add_argument("--region", help="the region of the job (AWS_REGION, else CLARY_REGION)")


def run(options: argparse.Namespace) -> int:
    installation = installed()
    installation.require_up()
    try:
        return _interrupt(Clients(installation, options.region), options.name)
    except (ClientError, BotoCoreError) as problem:
        raise Problem(str(problem), "See what runs: clary status") from problem


def _interrupt(clients: Clients, name: str) -> int:
    job = clients.sagemaker.describe_training_job(TrainingJobName=name)
    if not job.get("EnableManagedSpotTraining"):
        raise Problem(
            f"{name} does not train on spot instances.",
            "Create it with EnableManagedSpotTraining, MaxWaitTimeInSeconds and a CheckpointConfig.",
        )
    if job["TrainingJobStatus"] != "InProgress":
        raise Problem(
            f"{name} is {job['TrainingJobStatus']}: there is nothing to interrupt.",
            "Interrupt a job while it runs.",
        )
    tag = {"Key": TAG, "Value": f"{time.time():.3f}"}
    clients.sagemaker.add_tags(ResourceArn=job["TrainingJobArn"], Tags=[tag])
    say(f"{name} will be interrupted within seconds, and starts again from its checkpoints.")
    return 0
