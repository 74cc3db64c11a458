"""What a job needs to install the packages of its requirements.txt: uv, the user's indexes, and a shared cache."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from urllib.parse import unquote, urlsplit

from uv import find_uv_bin

from clary.images.pip_configuration import variables_for_uv
from clary.settings import Settings

# A job's own pip, which the SDK's drivers call, asks the same indexes as this machine's.
_PIP = ("PIP_INDEX_URL", "PIP_EXTRA_INDEX_URL", "PIP_FIND_LINKS", "PIP_TRUSTED_HOST", "PIP_CERT")


@dataclass(frozen=True, slots=True)
class Packages:
    environment: Mapping[str, str]
    read_only: tuple[Path, ...]  # uv itself, and folders of wheels
    writable: tuple[Path, ...]  # installed requirements, found again by the next job


@lru_cache(4)
def packages_for_jobs(settings: Settings) -> Packages:
    """All jobs of this user share the cache: who may run jobs here may also install for them."""
    cache = settings.cache / "packages"
    cache.mkdir(parents=True, exist_ok=True)
    variables = variables_for_uv()
    environment = {
        "CLARY_PACKAGES_CACHE": str(cache / "requirements"),
        "CLARY_UV": find_uv_bin(),
        "UV_CACHE_DIR": str(cache / "uv"),
        **variables,
        **{name: os.environ[name] for name in _PIP if os.environ.get(name)},
    }
    links = {path for value in variables.values() for path in _folders(value)}
    return Packages(environment, (Path(find_uv_bin()), *sorted(links)), (cache,))


def _folders(value: str) -> list[Path]:
    """Folders of this machine that a setting of an index names, as paths or as file: addresses."""
    found: list[Path] = []
    for word in value.replace(",", " ").split():
        address = urlsplit(word)
        path = Path(unquote(address.path)) if address.scheme in ("", "file") else None
        if path is not None and path.is_absolute() and path.is_dir():
            # The pages of an index lead to files beside it.
            found.append(path.parent if path.name == "simple" else path)
    return found
