"""The environment of an image: one Python and the packages in it, named by the hash of both."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path

# Raised when the way of building changes, so that environments built the old way are not taken.
BUILD_FORMAT = 1


@dataclass(frozen=True, slots=True)
class Environment:
    """What has to be installed; two images with equal environments share one folder."""

    python: str  # "3.11"
    packages: tuple[str, ...] = ()
    imports: tuple[str, ...] = ()  # what must be importable once it is built
    from_source: bool = False  # whether source distributions may be compiled
    existing: Path | None = None  # a virtual environment of the user's own, taken as it is

    @property
    def key(self) -> str:
        """The content hash, which names the folder in the cache."""
        document = json.dumps(
            [
                BUILD_FORMAT,
                self.python,
                sorted(self.packages),
                sorted(self.imports),
                self.from_source,
                str(self.existing or ""),
            ]
        )
        return hashlib.sha256(document.encode()).hexdigest()[:20]


def as_document(environment: Environment) -> dict[str, object]:
    """The environment as JSON data."""
    return {
        "python": environment.python,
        "packages": list(environment.packages),
        "imports": list(environment.imports),
        "from_source": environment.from_source,
        "existing": str(environment.existing) if environment.existing else None,
    }


def from_document(document: dict[str, object]) -> Environment:
    """The opposite of `as_document`; raise ValueError if the data is none."""
    packages, imports = document.get("packages"), document.get("imports")
    existing = document.get("existing")
    if not isinstance(packages, list) or not isinstance(imports, list):
        raise ValueError("This is not the description of an environment.")
    return Environment(
        python=str(document.get("python", "")),
        packages=tuple(str(package) for package in packages),
        imports=tuple(str(module) for module in imports),
        from_source=bool(document.get("from_source")),
        existing=Path(str(existing)) if existing else None,
    )
