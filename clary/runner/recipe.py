"""From a host spec to a sandbox recipe: what is mounted where, and what the program starts with."""

# Paths are plain strings here: they come from and go to system calls.
# ruff: noqa: PTH101, PTH110, PTH112, PTH114, PTH115, PTH118, PTH120

from __future__ import annotations

import os
from functools import lru_cache
from pathlib import Path
from typing import Any

from clary.runner import debugger, driver_programs, fast_files_mount, limits, network
from clary.runner.spec import HostSpec, under_ml

MODES = ("bubblewrap", "namespaces", "plain")
SERVE_FOLDER = "/opt/ml/.clary"

_SYSTEM = ("/usr", "/bin", "/sbin", "/lib", "/lib64", "/lib32", "/libx32")
# Only what programs need of /etc: user 0 inside can read every file that root owns outside.
_ETC = [
    "alternatives",
    "ca-certificates",
    "crypto-policies",
    "debian_version",
    "fonts",
    "gai.conf",
    "group",
    "host.conf",
    "java*",
    "ld.so.cache",
    "ld.so.conf",
    "ld.so.conf.d",
    "locale.alias",
    "localtime",
    "magic",
    "mime.types",
    "nsswitch.conf",
    "OpenCL",
    "openmpi",
    "os-release",
    "passwd",
    "pki",
    "protocols",
    "python3*",
    "R",
    "redhat-release",
    "resolv.conf",
    "services",
    "ssl",
    "terminfo",
    "timezone",
    "vulkan",
]
_ACCELERATORS = ("nvidia*", "dri", "kfd", "accel*")


def compose(
    spec: HostSpec, mode: str, group: limits.Group, *, own_network: bool = True
) -> dict[str, Any]:
    """The recipe as `channel` sends it. Writes the host's own small files (`hosts`) beside the spec.

    `own_network` says whether this machine can give a program a network of its own.
    """
    folder = spec.directory
    plain = mode == "plain"
    for name in ("ml", "tmp", "root"):
        (folder / name).mkdir(exist_ok=True)
    os.chmod(folder / "tmp", 0o1777)
    (folder / "hosts").write_text(hosts_file(spec), encoding="utf-8")
    under = debugger.debugged(spec)
    net = network.of(spec, own_network=own_network and not plain)
    return {
        "mode": mode,
        "argv": under.argv,
        "note": under.note,
        # A debugger wants an interpreter that is its own from the beginning.
        "may_fork": not under.is_on,
        "environment": environment(spec, plain, net),
        "directory": working_directory(spec, plain=plain),
        "hostname": spec.host,
        "network": net.kind,
        "peers": net.peers,
        "inward": net.inward,
        "outward": net.outward,
        "root": str(folder / "root"),
        "mounts": [] if plain else mounts(spec),
        "fast_files": fast_files_mount.of(spec),
        "groups": group.entrances(),
        "rlimits": limits.resource_limits(),
        "lock": str(folder / "program.lock"),
    }


def working_directory(spec: HostSpec, *, plain: bool) -> str:
    asked = spec.program.working_directory
    return _inside(spec, asked) if plain else asked or "/opt/ml"


def _inside(spec: HostSpec, path: str) -> str:
    """Where a plain program, which has no private root, finds a path below /opt/ml."""
    relative = under_ml(path)
    if relative is not None:
        return str(spec.ml / relative)
    return path if os.path.isdir(path) and path != "/opt/ml" else str(spec.ml)


def environment(spec: HostSpec, plain: bool, net: network.Network) -> dict[str, str]:
    """The program's environment: the platform's words, then the job's own, which win."""
    path = [spec.program.prefix + "/bin"] if spec.program.prefix else []
    path += ["/usr/local/sbin", "/usr/local/bin", "/usr/sbin", "/usr/bin", "/sbin", "/bin"]
    found = {"PATH": ":".join(path), "HOME": "/tmp", "LANG": "C.UTF-8", "LC_ALL": "C.UTF-8"}
    if spec.program.prefix and (Path(spec.program.prefix) / "pyvenv.cfg").exists():
        found["VIRTUAL_ENV"] = spec.program.prefix
    if plain:
        found["HOME"] = found["TMPDIR"] = str(spec.directory / "tmp")
        found["CLARY_ML"] = str(spec.ml)  # a plain program cannot be given an /opt/ml of its own
    if not spec.network_isolation:
        found.update(platform(spec, net))
    if net.port:
        found["SAGEMAKER_BIND_TO_PORT"] = str(net.port)
    elif spec.serve is not None:
        folder = str(spec.directory / "serve") if plain else SERVE_FOLDER
        found["CLARY_SERVE_SOCKET"] = folder + "/serve.sock"
    found.update({name: str(value) for name, value in spec.program.environment.items()})
    return found


def platform(spec: HostSpec, net: network.Network) -> dict[str, str]:
    """How a program reaches this platform, as the SDKs read it."""
    door = net.seen(spec.endpoint_url)
    # A network of its own has no way to anywhere but the door, which tunnels to other hosts.
    through = ("HTTPS_PROXY", "https_proxy") if net.outward else ()
    direct = ("NO_PROXY", "no_proxy") if net.outward else ()
    return {
        **dict.fromkeys(through, door),
        **dict.fromkeys(direct, ",".join(["127.0.0.1", "localhost", "::1", *_named(spec)])),
        "AWS_REGION": spec.region,
        "AWS_DEFAULT_REGION": spec.region,
        "AWS_ENDPOINT_URL": door,
        "S3_ENDPOINT_URL": door,
        "AWS_CONTAINER_CREDENTIALS_FULL_URI": net.seen(spec.credentials_url),
        "AWS_CONTAINER_AUTHORIZATION_TOKEN": spec.tokens.get("role", ""),
    }


def _named(spec: HostSpec) -> list[str]:
    """What the hosts of a job call each other; they are spoken to directly."""
    found = network.addresses(spec)
    return [] if spec.serve is not None else [*found, *sorted({*found.values()} - {"127.0.0.1"})]


def hosts_file(spec: HostSpec) -> str:
    """/etc/hosts: every host of the work by its SageMaker name."""
    lines = ["127.0.0.1 localhost", "::1 localhost ip6-localhost ip6-loopback"]
    lines += [f"{address} {name}" for name, address in network.addresses(spec).items()]
    return "\n".join(lines) + "\n"


def mounts(spec: HostSpec) -> list[list[str]]:
    """Kind, source and target of each mount, outermost first; see `root_filesystem` for the kinds."""
    found = list(system_mounts())
    found += [["read", path, path] for path in _environment_paths(spec)]
    if spec.program.layered and spec.program.prefix:
        prefix = os.path.normpath(spec.program.prefix)
        layer = ["layer", str(spec.directory / "layer"), prefix]
        found = [layer if entry == ["read", prefix, prefix] else entry for entry in found]
    found += [["write", path, path] for path in spec.program.writable]
    if spec.program.code:
        found.append(["read", spec.program.code, "/opt/clary"])
    found += [["proc", "", "/proc"], ["devices", "", "/dev"]]
    found += [["folder", "", path] for path in ("/run", "/var", "/home")]
    found.append(["link", "../tmp", "/var/tmp"])
    found += [["write", str(spec.ml), "/opt/ml"], ["write", str(spec.directory / "tmp"), "/tmp"]]
    found.append(["read", str(spec.directory / "hosts"), "/etc/hosts"])
    if spec.serve is not None and not spec.serve.port:
        found.append(["write", str(spec.directory / "serve"), SERVE_FOLDER])
    outside = checkpoints_outside(spec)
    if outside is not None:
        found.append(outside)
    if network.has_drivers(spec):
        found += driver_programs.mounts(spec)
    # A mount must come after the one that it lies in.
    return sorted(found, key=lambda entry: entry[2].count("/"))


@lru_cache(maxsize=1)
def system_mounts() -> list[list[str]]:
    """What every program sees of this machine; found once, because a nursery forks many runners."""
    found = []
    for path in _SYSTEM:
        if os.path.islink(path):
            found.append(["link", os.readlink(path), path])
        elif os.path.isdir(path):
            found.append(["read", path, path])
    for path in _matching("/etc", _ETC):
        found.append(["read", os.path.realpath(path), path])
    return found + [["device", path, path] for path in _matching("/dev", _ACCELERATORS)]


def _matching(folder: str, patterns: Any) -> list[str]:
    paths = {str(path) for pattern in patterns for path in Path(folder).glob(pattern)}
    return sorted(path for path in paths if os.path.exists(path) and path != "/etc/hosts")


def _environment_paths(spec: HostSpec) -> list[str]:
    """The environment, the Python installation that it builds on, and what the spec adds."""
    asked = [*spec.program.read_only]
    if spec.program.prefix:
        asked += [spec.program.prefix, *python_homes(spec.program.prefix)]
    found: list[str] = []
    for path in sorted({os.path.normpath(path) for path in asked if path}):
        inside = any(path.startswith(other + "/") for other in [*found, "/usr"])
        if not inside and os.path.exists(path):
            found.append(path)
    return found


def python_homes(prefix: str) -> list[str]:
    """The folders of the Python that a virtual environment points to, as named and as they really are."""
    home = _home(prefix)
    if home is None:
        return []
    named = os.path.dirname(home)
    return sorted({named, os.path.realpath(named)} - {"/", "/usr"})


def _home(prefix: str) -> str | None:
    try:
        with open(os.path.join(prefix, "pyvenv.cfg"), encoding="utf-8") as file:
            for line in file:
                key, _, value = line.partition("=")
                if key.strip() == "home":
                    return os.path.normpath(value.strip())
    except FileNotFoundError:
        return None  # not a virtual environment: it is complete in itself
    return None


def checkpoints_outside(spec: HostSpec) -> list[str] | None:
    """The mount of checkpoints that the program wants outside of /opt/ml."""
    source = spec.checkpoint_directory
    if spec.checkpoints is None or source is None or under_ml(spec.checkpoints.path) is not None:
        return None
    source.mkdir(parents=True, exist_ok=True)
    return ["write", str(source), os.path.normpath(spec.checkpoints.path)]
