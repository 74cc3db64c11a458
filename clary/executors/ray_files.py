"""The files between control and the Ray agent: one for each group of hosts that is placed together.

<run>/ray/NAME.json     the group, written by control       <run>/ray/agent.lock   held by the agent
<run>/ray/NAME.begun    its hosts' addresses: written       <run>/ray/pulse.json   when it last looked
                        before anything of it may run
"""

from __future__ import annotations

import hashlib
import io
import json
import zipfile
from collections.abc import Container, Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from clary.runner import progress

LOCK = "agent.lock"
PULSE = "pulse.json"
GROUP = "group-"


@dataclass(frozen=True, slots=True)
class Group:
    """Hosts of one launch; each has a directory, and room for so many CPUs on its node."""

    folder: Path
    name: str
    hosts: Mapping[str, Path]
    cpus: Mapping[str, float]

    def write(self) -> None:
        self.folder.mkdir(parents=True, mode=0o700, exist_ok=True)
        hosts = {host: str(directory) for host, directory in self.hosts.items()}
        document = {"name": self.name, "hosts": hosts, "cpus": dict(self.cpus)}
        progress.replace(self._path("json"), document, durable=True)

    def exists(self) -> bool:
        return self._path("json").exists()

    def begin(self, addresses: Mapping[str, str]) -> None:
        """From here on an actor that is not there is lost, and never made again."""
        progress.replace(self._path("begun"), dict(addresses), durable=True)

    def has_begun(self) -> bool:
        return self._path("begun").exists()

    def addresses(self) -> dict[str, str]:
        return json.loads(self._path("begun").read_bytes())

    def remove(self) -> None:
        # The mark last: a group without it would be begun again.
        self._path("json").unlink(missing_ok=True)
        self._path("begun").unlink(missing_ok=True)

    def _path(self, ending: str) -> Path:
        return self.folder / f"{GROUP}{self.name.replace('/', '-')}.{ending}"


def group_name(directories: Mapping[str, Path]) -> str:
    """The same for the same hosts: of the work, the generation, and who is in the launch."""
    hosts = sorted(directories)
    first = directories[hosts[0]]
    which = hashlib.sha256("\0".join(hosts).encode()).hexdigest()[:8]
    return f"{first.parent.parent.name}/{first.parent.name}-{which}"


def read_groups(folder: Path, known: Container[str]) -> list[Group]:
    """The groups that are not known yet."""
    found: list[Group] = []
    for path in sorted(folder.glob(f"{GROUP}*.json")):
        try:
            document = json.loads(path.read_bytes())
        except FileNotFoundError:
            continue
        if document["name"] not in known:
            hosts = {host: Path(place) for host, place in document["hosts"].items()}
            found.append(Group(folder, document["name"], hosts, document["cpus"]))
    return found


@lru_cache(2)
def packed_code(code: Path) -> bytes:
    """The staged runner and workloads (half a megabyte), for a node that does not have this folder."""
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as archive:
        for path in sorted((code / "clary").rglob("*")):
            if path.is_file() and "__pycache__" not in path.parts:
                archive.write(path, path.relative_to(code))
    return packed.getvalue()
