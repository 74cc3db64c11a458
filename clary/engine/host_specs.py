"""Host specs: what a runner needs to know to run one host of a job or an endpoint."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any

from clary.engine import instance_limits
from clary.engine.call import Parts
from clary.images import build, containers, workload_code
from clary.images.image import Image
from clary.images.packages import packages_for_jobs
from clary.settings import Settings
from clary.store.rows import Row

SPEC_VERSION = 1
GRACE_SECONDS = 120
CODE_PATH = "/opt/clary"
MODEL_SERVER = "clary.workloads.serving.server"
SERVING_PORT = 8080  # of a container, where SAGEMAKER_BIND_TO_PORT names no other
PROCESSES_MAX = 4096
UNLIMITED_SECONDS = 100 * 365 * 86_400  # of an endpoint's hosts
# Where a machine's user says which authorities it trusts: uv and Python's ssl read these in a job too.
CERTIFICATES = ("SSL_CERT_FILE", "SSL_CERT_DIR")


@dataclass(frozen=True, slots=True)
class Work:
    """What is the same for all hosts of one launch."""

    role_arn: str
    image: Image
    argv: tuple[str, ...]
    environment: Mapping[str, str]
    hosts: tuple[str, ...]  # every host of the job, also those not in this launch
    inputs: Sequence[Mapping[str, Any]] = ()
    outputs: Sequence[Mapping[str, Any]] = ()
    files: Callable[[str], Mapping[str, str]] = field(default=lambda host: {})  # by host
    stream: Callable[[str], str] = field(default=lambda host: host)
    log_group: str = ""
    metrics: Sequence[Mapping[str, str]] = ()
    metric_namespace: str = ""
    metric_dimensions: Mapping[str, str] = field(default_factory=dict[str, str])
    # Namespace and dimensions of a host's CPUUtilization; jobs have theirs beside their logs.
    utilization: Callable[[str], Mapping[str, Any]] | None = None
    checkpoints: Mapping[str, str] | None = None
    seconds_max: float | None = None
    instance_type: Callable[[str], str] = field(default=lambda host: "")  # by host
    memory_bytes: int | None = None
    grace_seconds: float = GRACE_SECONDS
    network_isolation: bool = False
    failure_file: str = "output/failure"
    message_file: str | None = None
    serve: Mapping[str, Any] | None = None
    working_directory: str = "/opt/ml"
    entry_point: bool = False  # argv stands for the entry point of the image as well


def host_directory(settings: Settings, row: Row, host: str) -> Path:
    """Where a host of a row keeps its files; the generation keeps one launch apart from the next."""
    generation = row.state.get("hosts", {}).get(host, {}).get("generation", 1)
    return settings.home / "work" / str(row.id) / f"g{generation}" / host


def host_specs(row: Row, keys: tuple[str, ...], parts: Parts, work: Work) -> list[dict[str, Any]]:
    common = _common(row, parts, work)
    specs: list[dict[str, Any]] = []
    for key in keys:
        directory = host_directory(parts.settings, row, key)
        specs.append(
            {
                **common,
                "generation": row.state["hosts"][key]["generation"],
                "host": key,
                "directory": str(directory),
                "shared": str(directory.parent),
                "files": dict(work.files(key)),
                "log": {"group": work.log_group, "stream": work.stream(key)},
                "limits": _limits(parts.settings, work, key),
                "utilization": _utilization(row, work, key),
            }
        )
    return specs


def _common(row: Row, parts: Parts, work: Work) -> dict[str, Any]:
    """What every host of a launch is told."""
    settings = parts.settings
    return {
        "version": SPEC_VERSION,
        "work": row.arn,
        "hosts": list(work.hosts),
        "endpoint_url": settings.endpoint_url,
        "region": row.region,
        "account": row.account,
        "role": work.role_arn,
        "credentials_url": f"{settings.endpoint_url}/_clary/credentials",
        **parts.work_credentials(work.role_arn, row.arn),
        "program": _program(settings, work),
        "inputs": [dict(one) for one in work.inputs],
        "outputs": [dict(one) for one in work.outputs],
        "checkpoints": dict(work.checkpoints) if work.checkpoints else None,
        "metrics": [dict(one) for one in work.metrics],
        "metric_namespace": work.metric_namespace,
        "metric_dimensions": dict(work.metric_dimensions),
        "grace_seconds": work.grace_seconds,
        "network_isolation": work.network_isolation,
        "failure_file": work.failure_file,
        "message_file": work.message_file,
        "serve": _serve(work),
        "wake_socket": str(settings.run / "wake.sock"),
        "notes": list(work.image.notes),
    }


def _utilization(row: Row, work: Work, host: str) -> Mapping[str, Any]:
    if work.utilization is not None:
        return work.utilization(host)
    return {"namespace": work.log_group, "dimensions": {"Host": f"{row.name}/{host}"}}


def _limits(settings: Settings, work: Work, host: str) -> dict[str, Any]:
    limits = instance_limits.limits_of(
        instance_limits.machine(),
        settings.instance_limits,
        work.instance_type(host),
        work.memory_bytes,
    )
    return {
        "seconds": work.seconds_max or UNLIMITED_SECONDS,
        "memory_bytes": limits.memory_bytes,
        "cpus": limits.cpus,
        "processes": PROCESSES_MAX,
    }


def _serve(work: Work) -> dict[str, Any] | None:
    """How a server is reached: Clary's own listens on the socket it is told, any other on port 8080."""
    if work.serve is None:
        return None
    return {**work.serve, "port": 0 if MODEL_SERVER in work.argv else SERVING_PORT}


def _program(settings: Settings, work: Work) -> dict[str, Any]:
    """The program, the environment it runs in, and what of this machine it sees beside that."""
    if work.image.container:
        return _container_program(settings, work)
    prefix = build.prefix(work.image.environment, settings)
    code = _code(settings, prefix)
    if not code.is_dir():  # somebody emptied the cache
        _code.cache_clear()
        code = _code(settings, prefix)
    environment = {**work.image.environment_variables, **work.environment}
    # The toolkit, the model server and the algorithms of this version, mounted beside the environment.
    paths = [CODE_PATH, environment.get("PYTHONPATH", "")]
    environment["PYTHONPATH"] = ":".join(path for path in paths if path)
    packages = packages_for_jobs(settings)
    certificates = _certificates()
    environment = {**certificates, **packages.environment, **environment}
    read_only = (*build.mounts(prefix), *packages.read_only, *certificates.values())
    return {
        "argv": list(work.argv),
        "environment": environment,
        "working_directory": work.working_directory,
        "prefix": str(prefix),
        "read_only": [str(path) for path in read_only],
        "writable": [str(path) for path in packages.writable],
        "layered": work.serve is None,
        "code": str(code),
        "preload": list(work.image.preload),
    }


def _container_program(settings: Settings, work: Work) -> dict[str, Any]:
    """An image that is run as it is: nothing of Clary or of this machine's Python is in it."""
    return {
        "argv": list(work.argv),
        "environment": dict(work.environment),
        "read_only": [],
        "writable": [],
        "prefix": "",
        "preload": [],
        "container": containers.for_runner(work.image, settings, entry_point=work.entry_point),
    }


@lru_cache(64)
def _code(settings: Settings, prefix: Path) -> Path:
    """The workload code of this process's version: hashing its files for every launch would cost a tenth of it."""
    code = workload_code.staged(settings)
    workload_code.compiled(code, prefix)
    return code


def _certificates() -> dict[str, str]:
    """Without these, a job behind a proxy of a company cannot install what its requirements name."""
    places = {name: os.environ.get(name, "") for name in CERTIFICATES}
    return {name: path for name, path in places.items() if path and Path(path).exists()}
