"""User images: environments that a user has registered under an image URI of his own."""

from __future__ import annotations

import hashlib
import json
import os
import re
import subprocess
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from clary.images import interpreters
from clary.images.environment import Environment, as_document, from_document
from clary.images.image import Command, Image
from clary.images.interpreters import Interpreters
from clary.images.reference import ImageReference, parse
from clary.images.scientific_stack import EVERYWHERE, EVERYWHERE_IMPORTS
from clary.images.scikit_learn import ENVIRONMENT_VARIABLES
from clary.settings import Settings

PACKAGES_MAX = 1000
_OPTION = re.compile(r"-|https?://\S+\s|\.{0,2}/")


@dataclass(frozen=True, slots=True)
class UserImage:
    """One registration."""

    uri: str
    environment: Environment
    train: tuple[str, ...] = ()
    serve: tuple[str, ...] = ()
    process: tuple[str, ...] = ()
    environment_variables: Mapping[str, str] = field(default_factory=dict)
    created: float = 0.0


def add(
    uri: str,
    settings: Settings,
    *,
    packages: Sequence[str] = (),
    requirements_file: Path | None = None,
    python: str = "",
    existing: Path | None = None,
    train: Sequence[str] = (),
    serve: Sequence[str] = (),
    process: Sequence[str] = (),
    environment_variables: Mapping[str, str] | None = None,
) -> UserImage:
    """Register an environment under a URI, in place of an earlier one; raise ValueError.

    `train`, `serve` and `process` are command lines; without them a job runs the toolkit's script
    mode, and an endpoint the model server with the user's inference script.
    """
    parse(uri)
    if existing is not None:
        environment = _existing(existing)
    else:
        wanted = [*packages, *(read_requirements(requirements_file) if requirements_file else ())]
        environment = _described(wanted, python)
    image = UserImage(
        uri=uri,
        environment=environment,
        train=tuple(train),
        serve=tuple(serve),
        process=tuple(process),
        environment_variables=dict(environment_variables or {}),
        created=time.time(),
    )
    path = _path(uri, settings)
    path.parent.mkdir(parents=True, exist_ok=True)
    staging = path.with_suffix(f".{os.getpid()}.tmp")
    staging.write_text(json.dumps(_as_document(image), indent=1))
    staging.replace(path)
    return image


def read_requirements(path: Path) -> list[str]:
    """The packages that a requirements file names; options and local paths are refused."""
    found = []
    for line in path.read_text(encoding="utf-8").splitlines():
        line = re.split(r"(^|\s)#", line, maxsplit=1)[0].strip()
        if not line:
            continue
        if _OPTION.match(line):
            raise ValueError(
                f"{path} has the line {line!r}, which is not a package with a version. "
                "Options and local folders cannot be part of an image."
            )
        found.append(line)
    return found


def _described(packages: Sequence[str], python: str) -> Environment:
    at_hand = interpreters.find()
    version = python or at_hand.running
    if not at_hand.has(version):
        raise ValueError(
            f"Python {version} is not on this machine; there are {', '.join(at_hand.versions())}."
        )
    if len(packages) > PACKAGES_MAX:
        raise ValueError(f"An image has at most {PACKAGES_MAX} packages, this one {len(packages)}.")
    if any(package.startswith("-") or "\n" in package for package in packages):
        raise ValueError("A package is a name with a version, not an option.")
    return Environment(
        python=version,
        packages=(*packages, "numpy", *_unless_named(EVERYWHERE, packages)),
        imports=("numpy", *EVERYWHERE_IMPORTS),
        from_source=True,
    )


def _unless_named(packages: Sequence[str], named: Sequence[str]) -> tuple[str, ...]:
    def name(requirement: str) -> str:
        return re.split(r"[^A-Za-z0-9._-]", requirement, maxsplit=1)[0].lower().replace("_", "-")

    names = {name(requirement) for requirement in named}
    return tuple(package for package in packages if name(package) not in names)


def _existing(place: Path) -> Environment:
    place = place.expanduser().absolute()
    python = place / "bin" / "python"
    if not python.exists():
        raise ValueError(f"{place} is not a virtual environment: it has no bin/python.")
    code = "import sys; print('%d.%d' % sys.version_info[:2])"
    try:
        outcome = subprocess.run(
            [str(python), "-I", "-c", code], capture_output=True, text=True, timeout=30, check=True
        )
    except (OSError, subprocess.SubprocessError) as problem:
        raise ValueError(f"The Python of {place} does not run: {problem}") from problem
    return Environment(python=outcome.stdout.strip(), existing=place)


def list_images(settings: Settings) -> list[UserImage]:
    """All registrations, by URI."""
    found = []
    for path in (settings.home / "images").glob("*.json"):
        image = _read(path)
        if image is not None:
            found.append(image)
    return sorted(found, key=lambda image: image.uri)


def remove(uri: str, settings: Settings) -> bool:
    """Forget a registration; False if there is none. Its environment stays in the cache."""
    try:
        _path(uri, settings).unlink()
    except FileNotFoundError:
        return False
    return True


def lookup(reference: ImageReference, settings: Settings) -> UserImage | None:
    """The registration for a URI: the same text, or the same repository and tag in Amazon ECR."""
    exact = _read(_path(reference.uri, settings))
    if exact is not None or not reference.account:
        return exact
    for image in list_images(settings):
        other = parse(image.uri)
        if other.account and (other.repository, other.tag) == (reference.repository, reference.tag):
            return image
    return None


def as_image(registered: UserImage, reference: ImageReference, at_hand: Interpreters) -> Image:
    """The registration as an image; raise ValueError where its Python has gone."""
    train = registered.train or ("python", "-m", "clary.workloads.toolkit.train")
    serve = registered.serve or (
        "python",
        "-m",
        "clary.workloads.serving.server",
        "--framework",
        "none",
    )
    del at_hand  # a missing Python is told by the build, with the remedy
    return Image(
        family="user",
        uri=reference.uri,
        version="",
        environment=registered.environment,
        commands={
            "train": Command(train),
            "serve": Command(serve),
            "process": Command(registered.process) if registered.process else None,
        },
        environment_variables={**ENVIRONMENT_VARIABLES, **registered.environment_variables},
    )


def _path(uri: str, settings: Settings) -> Path:
    """A file name that any URI fits, and that is still readable."""
    readable = re.sub(r"[^A-Za-z0-9.]+", "-", parse(uri).basename)[:60]
    return (
        settings.home
        / "images"
        / f"{readable}-{hashlib.sha256(uri.encode()).hexdigest()[:12]}.json"
    )


def _as_document(image: UserImage) -> dict[str, object]:
    return {
        "uri": image.uri,
        "environment": as_document(image.environment),
        "train": list(image.train),
        "serve": list(image.serve),
        "process": list(image.process),
        "environment_variables": dict(image.environment_variables),
        "created": image.created,
    }


def _read(path: Path) -> UserImage | None:
    try:
        document = json.loads(path.read_text())
    except FileNotFoundError:
        return None
    return UserImage(
        uri=document["uri"],
        environment=from_document(document["environment"]),
        train=tuple(document["train"]),
        serve=tuple(document["serve"]),
        process=tuple(document["process"]),
        environment_variables=document["environment_variables"],
        created=document["created"],
    )
