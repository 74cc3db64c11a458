"""The host spec: everything control decided about one workload host, read once and never changed.

The records are named tuples rather than dataclasses: `dataclasses` pulls in `inspect`, which alone
costs a runner about a fifth of its start.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

ML = "/opt/ml"
T = TypeVar("T")


class SpecError(ValueError):
    """The spec cannot be read; the text names the member."""


class Container(NamedTuple):
    """An image that an engine runs, in place of a sandbox."""

    engine: str  # its Unix socket
    image: str
    entry_point: bool  # the program's argv stands for the image's entry point as well
    gpus: bool
    user: str  # empty: the image's own


class Program(NamedTuple):
    argv: tuple[str, ...]
    environment: Mapping[str, str]
    working_directory: str
    prefix: str
    read_only: tuple[str, ...]
    writable: tuple[str, ...]
    layered: bool  # it may install packages into its environment, for itself alone
    code: str
    fork_socket: str  # empty when the program is started afresh
    container: Container | None = None


class Input(NamedTuple):
    name: str
    uri: str
    type: str  # S3Prefix | ManifestFile | AugmentedManifestFile | S3Object
    target: str  # relative to /opt/ml
    mode: str  # File | Pipe | FastFile
    distribution: str  # FullyReplicated | ShardedByS3Key
    compression: str  # None | Gzip
    unpack: bool
    record_wrapper: str  # None | RecordIO
    attributes: tuple[str, ...]
    shuffle_seed: int | None
    hosts: tuple[str, ...] = ()  # those it goes to, where that is not every host


class Output(NamedTuple):
    name: str
    source: str  # relative to /opt/ml
    uri: str
    form: str  # tar.gz | tree
    when: str  # end | continuous
    on: tuple[str, ...]  # success | stopped | failure | timeout
    required: bool
    kms_key_id: str
    identity: str  # role | service: whose credentials write it


class Checkpoints(NamedTuple):
    uri: str
    path: str  # as the program sees it


class Log(NamedTuple):
    group: str
    stream: str


class Metric(NamedTuple):
    name: str
    regex: str


class MetricPlace(NamedTuple):
    """Where in CloudWatch metrics go."""

    namespace: str
    dimensions: Mapping[str, str]


class Limits(NamedTuple):
    seconds: float
    memory_bytes: int | None
    cpus: float | None
    processes: int | None


class Serve(NamedTuple):
    socket: str
    health_seconds: float
    ping_path: str
    port: int  # where a server of somebody else listens; 0: ours listens on the socket


class HostSpec(NamedTuple):
    work: str
    generation: int
    host: str
    hosts: tuple[str, ...]
    directory: Path
    shared: Path
    endpoint_url: str
    region: str
    account: str
    credentials_url: str
    tokens: Mapping[str, str]
    credentials: Mapping[str, Mapping[str, Any]]
    program: Program
    files: Mapping[str, str]
    inputs: tuple[Input, ...]
    outputs: tuple[Output, ...]
    checkpoints: Checkpoints | None
    log: Log | None
    metrics: tuple[Metric, ...]
    metric_namespace: str
    metric_dimensions: Mapping[str, str]
    limits: Limits
    grace_seconds: float
    network_isolation: bool
    failure_file: str
    message_file: str
    serve: Serve | None
    wake_socket: str
    role: str  # the role's ARN where control names it, for messages only
    transform: (
        Mapping[str, Any] | None
    )  # a batch transform beside the server; see transform_settings
    notes: tuple[str, ...] = ()  # for the beginning of the job's log
    rules: tuple[Mapping[str, Any], ...] = ()  # of the debugger; see debug_rules
    addresses: Mapping[str, str] = {}  # by host, where the hosts are on several machines
    utilization: MetricPlace | None = None  # where this host's use of CPU and memory is told
    no_fast_files: str = ""  # why FastFile channels must be downloaded; empty where they need not

    @property
    def ml(self) -> Path:
        """What the program sees as /opt/ml."""
        return self.directory / "ml"

    @property
    def leads(self) -> bool:
        """The first host merges and uploads what all hosts made."""
        return self.host == self.hosts[0]

    @property
    def host_index(self) -> int:
        return self.hosts.index(self.host)

    @property
    def checkpoint_directory(self) -> Path | None:
        """Where the checkpoints lie on this machine; a path outside /opt/ml must be mounted."""
        if self.checkpoints is None:
            return None
        return checkpoint_root(self) / checkpoint_relative(self)

    def __repr__(self) -> str:
        """Credentials and tokens never reach a log through a traceback or a debug print."""
        return f"HostSpec(work={self.work!r}, generation={self.generation}, host={self.host!r})"


def checkpoint_root(spec: HostSpec) -> Path:
    inside = spec.checkpoints is not None and under_ml(spec.checkpoints.path) is not None
    return spec.ml if inside else spec.directory


def checkpoint_relative(spec: HostSpec) -> str:
    inside = under_ml(spec.checkpoints.path) if spec.checkpoints else None
    return inside or "checkpoints"


def under_ml(path: str) -> str | None:
    """The part of a program's path below /opt/ml, or None where it lies elsewhere."""
    parts = [part for part in path.split("/") if part not in ("", ".")]
    if ".." in parts or parts[:2] != ["opt", "ml"] or len(parts) < 3:
        return None
    return "/".join(parts[2:])


def read(path: str | Path) -> HostSpec:
    """Read `spec.json`; raise SpecError naming what is missing or of the wrong kind."""
    try:
        document = json.loads(Path(path).read_bytes())
    except ValueError as problem:
        raise SpecError(f"{path} is not JSON: {problem}") from problem
    return parse(document)


def parse(document: Any) -> HostSpec:
    """Turn the decoded JSON into a HostSpec."""
    get = _member(document, "spec")
    if get("version", int) != 1:
        raise SpecError(f"spec: version {document['version']!r} is not known; this runner reads 1")
    hosts = tuple(get("hosts", list))
    if get("host", str) not in hosts:
        raise SpecError(f"spec: host {document['host']!r} is not among hosts {list(hosts)!r}")
    log = get("log", dict, None)
    serve = get("serve", dict, None)
    checkpoints = get("checkpoints", dict, None)
    utilization = get("utilization", dict, None)
    return HostSpec(
        work=get("work", str),
        generation=get("generation", int),
        host=get("host", str),
        hosts=hosts,
        directory=Path(get("directory", str)),
        shared=Path(get("shared", str)),
        endpoint_url=get("endpoint_url", str).rstrip("/"),
        region=get("region", str),
        account=get("account", str, ""),
        credentials_url=get("credentials_url", str, ""),
        tokens=get("tokens", dict, {}),
        credentials=get("credentials", dict, {}),
        program=_program(get("program", dict)),
        files=get("files", dict, {}),
        inputs=_each(get("inputs", list, []), "inputs", _input),
        outputs=_each(get("outputs", list, []), "outputs", _output),
        checkpoints=_checkpoints(checkpoints) if checkpoints else None,
        log=Log(_member(log, "log")("group", str), _member(log, "log")("stream", str))
        if log
        else None,
        metrics=_each(get("metrics", list, []), "metrics", _metric),
        metric_namespace=get("metric_namespace", str, "/aws/sagemaker/TrainingJobs"),
        metric_dimensions=get("metric_dimensions", dict, {}),
        limits=_limits(get("limits", dict, {})),
        grace_seconds=get("grace_seconds", (int, float), 120),
        network_isolation=get("network_isolation", bool, False),
        failure_file=get("failure_file", str, "") or "",
        message_file=get("message_file", str, "") or "",
        serve=_serve(serve) if serve else None,
        wake_socket=get("wake_socket", str, "") or "",
        role=get("role", str, "") or "",
        transform=get("transform", dict, None),
        notes=tuple(get("notes", list, [])),
        rules=tuple(get("rules", list, [])),
        addresses=get("addresses", dict, {}),
        utilization=_metric_place(utilization) if utilization else None,
        no_fast_files=_no_fast_files(document),
    )


def _no_fast_files(document: dict[str, Any]) -> str:
    """Only who starts the program knows whether this machine can mount for it."""
    if document["program"].get("container"):
        return "A container's channels are folders of the machine that it runs on."
    sandbox = document.get("sandbox") or {}
    return str(sandbox.get("no_fast_files", "This executor mounts no channels."))


def _program(document: Any) -> Program:
    get = _member(document, "program")
    fork = get("fork", dict, None)
    container = get("container", dict, None)
    return Program(
        argv=tuple(get("argv", list)),
        environment=get("environment", dict, {}),
        working_directory=get("working_directory", str, ML),
        prefix=get("prefix", str, "") or "",
        read_only=tuple(get("read_only", list, [])),
        writable=tuple(get("writable", list, [])),
        layered=bool(get("layered", bool, False)),
        code=get("code", str, "") or "",
        fork_socket=_member(fork, "program.fork")("socket", str) if fork else "",
        container=_container(container) if container else None,
    )


def _container(document: Any) -> Container:
    get = _member(document, "program.container")
    return Container(
        engine=get("engine", str),
        image=get("image", str),
        entry_point=get("entry_point", bool, False),
        gpus=get("gpus", bool, False),
        user=get("user", str, ""),
    )


def _input(document: Any, where: str) -> Input:
    get = _member(document, where)
    return Input(
        name=get("name", str),
        uri=get("uri", str),
        type=get("type", str, "S3Prefix"),
        target=get("target", str),
        mode=get("mode", str, "File"),
        distribution=get("distribution", str, "FullyReplicated"),
        compression=get("compression", str, "None") or "None",
        unpack=get("unpack", bool, False),
        record_wrapper=get("record_wrapper", str, "None") or "None",
        attributes=tuple(get("attributes", list, []) or ()),
        shuffle_seed=get("shuffle_seed", int, None),
        hosts=tuple(get("hosts", list, []) or ()),
    )


def _output(document: Any, where: str) -> Output:
    get = _member(document, where)
    return Output(
        name=get("name", str),
        source=get("source", str),
        uri=get("uri", str),
        form=get("form", str, "tar.gz"),
        when=get("when", str, "end"),
        on=tuple(get("on", list, ["success"])),
        required=get("required", bool, True),
        kms_key_id=get("kms_key_id", str, "") or "",
        identity=get("identity", str, "role"),
    )


def _checkpoints(document: Any) -> Checkpoints:
    get = _member(document, "checkpoints")
    return Checkpoints(get("uri", str), get("path", str, f"{ML}/checkpoints"))


def _metric(document: Any, where: str) -> Metric:
    get = _member(document, where)
    return Metric(get("Name", str), get("Regex", str))


def _metric_place(document: Any) -> MetricPlace:
    get = _member(document, "utilization")
    return MetricPlace(get("namespace", str), get("dimensions", dict))


def _limits(document: Any) -> Limits:
    get = _member(document, "limits")
    return Limits(
        seconds=get("seconds", (int, float), 86400),
        memory_bytes=get("memory_bytes", int, None),
        cpus=get("cpus", (int, float), None),
        processes=get("processes", int, None),
    )


def _serve(document: Any) -> Serve:
    get = _member(document, "serve")
    return Serve(
        socket=get("socket", str, "serve.sock"),
        health_seconds=get("health_seconds", (int, float), 240),
        ping_path=get("ping_path", str, "/ping"),
        port=get("port", int, 0),
    )


_REQUIRED: Any = object()


def _member(document: Any, where: str) -> Callable[..., Any]:
    """A reader of one object's members that names the member when it is missing or wrong."""
    if not isinstance(document, dict):
        raise SpecError(f"{where} must be an object")

    def get(name: str, kind: type | tuple[type, ...], default: Any = _REQUIRED) -> Any:
        value = document.get(name)
        if value is None:
            if default is _REQUIRED:
                raise SpecError(f"{where}: {name} is missing")
            return default
        if not isinstance(value, kind):
            raise SpecError(f"{where}: {name} is of the wrong kind: {type(value).__name__}")
        return value

    return get


def _each(items: list[Any], where: str, parse_one: Callable[[Any, str], T]) -> tuple[T, ...]:
    return tuple(parse_one(item, f"{where}[{index}]") for index, item in enumerate(items))
