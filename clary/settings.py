"""Every setting of Clary, typed, in one place; each is an environment variable `CLARY_<NAME>`."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path

INSTANCE_LIMITS = ("machine", "instance-type")
EXECUTORS = ("sandbox", "ray")


def default_home() -> Path:
    return Path(os.environ.get("XDG_DATA_HOME") or Path.home() / ".local" / "share") / "clary"


def default_cache() -> Path:
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "clary"


@dataclass(frozen=True, slots=True)
class Settings:
    """What an operator can decide; the defaults serve a laptop."""

    home: Path = Path()  # all state of this installation; empty means the user's data folder
    cache: Path = Path()  # environments and packages, shared by all homes of this user
    host: str = "127.0.0.1"  # the address the door listens on; loopback unless told otherwise
    port: int = 4510
    account: str = "123456789012"
    region: str = "us-east-1"  # used where a client names none
    database_url: str = ""  # empty means SQLite in the home
    object_store_url: str = ""  # empty means plain files in the home; else an external S3 endpoint
    executor: str = "sandbox"  # or "ray": jobs run on a Ray cluster, endpoints on this machine
    ray_address: str = ""  # of the cluster: ray://HOST:10001, or HOST:6379 on one of its nodes
    ray_python: str = ""  # the Python that has Ray, of the cluster's versions; empty: Clary's own
    ray_silence_seconds: float = 20.0  # that a node may be cut off until its hosts end themselves
    advertised_url: str = ""  # the door as other machines reach it; empty: as this one does
    containers: str = "auto"  # "never", or the socket of the engine that runs container images
    slots: int = 0  # hosts that may run at once; 0 means twice the number of cores
    instance_limits: str = "machine"  # or "instance-type": hosts get the memory and vCPUs of theirs
    job_memory_bytes: int = 0  # of each host of a training job; 0 sets no limit
    file_systems: str = ""  # folders that stand for EFS and FSx: "fs-0123456789=/folder,..."
    spot_interruption_seconds: float = 0.0  # mean time to a random interruption of spot; 0 is never
    spot_price: float = 0.3  # of the on-demand price: what BillableTimeInSeconds of spot counts
    body_bytes_max: int = 64 * 1024 * 1024  # of one control-plane request
    objects_durable: bool = (
        False  # True waits for the disk at every S3 write, as a power cut demands
    )
    sqlite_synchronous: str = "NORMAL"  # FULL also survives a power cut, at one fsync a write

    @staticmethod
    def load(environment: Mapping[str, str] | None = None) -> Settings:
        """Read `CLARY_*`; raise ValueError naming the variable that cannot be read."""
        environment = os.environ if environment is None else environment
        found: dict[str, object] = {}
        for field in fields(Settings):
            variable = f"CLARY_{field.name.upper()}"
            text = environment.get(variable)
            if not text:
                continue
            try:
                found[field.name] = _parsed(type(field.default), text)
            except ValueError as problem:
                raise ValueError(f"{variable}={text!r} is not a valid {field.type}") from problem
        if found.get("instance_limits", "machine") not in INSTANCE_LIMITS:
            raise ValueError(
                f"CLARY_INSTANCE_LIMITS={found['instance_limits']!r} is neither machine nor "
                "instance-type"
            )
        if found.get("executor", "sandbox") not in EXECUTORS:
            raise ValueError(f"CLARY_EXECUTOR={found['executor']!r} is neither sandbox nor ray")
        found["home"] = Path(found.get("home") or default_home()).expanduser().absolute()  # type: ignore[arg-type]
        found["cache"] = Path(found.get("cache") or default_cache()).expanduser().absolute()  # type: ignore[arg-type]
        return Settings(**found)  # type: ignore[arg-type]

    @property
    def database(self) -> str:
        return self.database_url or f"sqlite:///{self.home / 'clary.db'}"

    @property
    def endpoint_url(self) -> str:
        return f"http://{self.host}:{self.port}"

    @property
    def run(self) -> Path:
        """Sockets, process ids and snapshots of the running server."""
        return self.home / "run"


def _parsed(kind: type, text: str) -> object:
    if kind is bool:
        if text.lower() not in ("true", "false", "1", "0"):
            raise ValueError(f"{text!r} is neither true nor false")
        return text.lower() in ("true", "1")
    return kind(text)
