"""`clary logs NAME`: a job's or endpoint's log, read through the API as any client reads it."""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Iterator
from typing import Any

import botocore.session
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError

from clary.cli.installation import Installation, installed
from clary.cli.output import Problem, say

POLL_SECONDS = 1.0
PAGES_MAX = 10_000
STREAMS_MAX = 500

# Group, and the operation, name member and status member that tell when a job has ended.
JOBS = {
    "/aws/sagemaker/TrainingJobs": ("describe_training_job", "TrainingJob"),
    "/aws/sagemaker/ProcessingJobs": ("describe_processing_job", "ProcessingJob"),
    "/aws/sagemaker/TransformJobs": ("describe_transform_job", "TransformJob"),
}
ENDED = ("Completed", "Failed", "Stopped")


def arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("name", help="the job or endpoint")
    parser.add_argument("-f", "--follow", action="store_true", help="go on until the job ends")
    parser.add_argument("--region", help="the region of the job (AWS_REGION, else CLARY_REGION)")


def run(options: argparse.Namespace) -> int:
    installation = installed()
    installation.require_up()
    clients = Clients(installation, options.region)
    try:
        return _show(clients, options.name, follow=options.follow)
    except (ClientError, BotoCoreError) as problem:
        raise Problem(str(problem), "See what runs: clary status") from problem


class Clients:
    """Ordinary AWS clients with the administrator's key."""

    def __init__(self, installation: Installation, region: str | None) -> None:
        keys = installation.administrator()
        session = botocore.session.get_session()
        wanted = region or session.get_config_variable("region") or installation.settings.region

        def client(service: str) -> Any:
            return session.create_client(
                service,
                region_name=wanted,
                endpoint_url=installation.url,
                aws_access_key_id=keys.access_key,
                aws_secret_access_key=keys.secret,
                config=Config(proxies={}),
            )

        self.logs = client("logs")
        self.sagemaker = client("sagemaker")


def _show(clients: Clients, name: str, *, follow: bool) -> int:
    group = _group_of(clients, name)
    if group is None:
        raise Problem(
            f"There is no log of {name}.", "Check the name; a job's log begins when it starts."
        )
    prefix = "" if group.startswith("/aws/sagemaker/Endpoints/") else f"{name}/"
    tokens: dict[str, str] = {}
    while True:
        ended = not follow or _has_ended(clients, group, name)
        for stream in _streams(clients, group, prefix):
            for message in _new_messages(clients, group, stream, tokens):
                say(f"{stream.removeprefix(prefix)}  {message}")
        if ended:
            return 0
        time.sleep(POLL_SECONDS)


def _group_of(clients: Clients, name: str) -> str | None:
    candidates: list[tuple[str, str]] = [(group, f"{name}/") for group in JOBS]
    candidates.append((f"/aws/sagemaker/Endpoints/{name}", ""))
    for group, prefix in candidates:
        if any(True for _ in _streams(clients, group, prefix)):
            return group
    return None


def _streams(clients: Clients, group: str, prefix: str) -> Iterator[str]:
    request: dict[str, Any] = {"logGroupName": group}
    if prefix:
        request["logStreamNamePrefix"] = prefix
    seen = 0
    while seen < STREAMS_MAX:
        try:
            page = clients.logs.describe_log_streams(**request)
        except clients.logs.exceptions.ResourceNotFoundException:
            return
        for stream in page["logStreams"]:
            seen += 1
            yield stream["logStreamName"]
        if not page.get("nextToken"):
            return
        request["nextToken"] = page["nextToken"]


def _new_messages(
    clients: Clients, group: str, stream: str, tokens: dict[str, str]
) -> Iterator[str]:
    """Events since the last look; the token stays the same once there is nothing new."""
    for _ in range(PAGES_MAX):
        request = {"logGroupName": group, "logStreamName": stream, "startFromHead": True}
        if stream in tokens:
            request["nextToken"] = tokens[stream]
        page = clients.logs.get_log_events(**request)
        for event in page["events"]:
            yield event["message"].rstrip("\n")
        token = page["nextForwardToken"]
        if tokens.get(stream) == token:
            return
        tokens[stream] = token


def _has_ended(clients: Clients, group: str, name: str) -> bool:
    if group not in JOBS:
        return False
    operation, noun = JOBS[group]
    describe: Callable[..., dict[str, Any]] = getattr(clients.sagemaker, operation)
    return describe(**{f"{noun}Name": name})[f"{noun}Status"] in ENDED
