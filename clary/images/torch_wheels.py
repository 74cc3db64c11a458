"""Which PyTorch runs here in place of the one that an image has.

A machine whose pip has a folder of CPU wheels (`find-links`) is set up for these: the nearest of
them is taken, since the wheels of the public index bring gigabytes of CUDA along. Elsewhere it is
the image's own release, on a Python that has wheels of it.
"""

from __future__ import annotations

import platform
import re
from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from urllib.parse import unquote, urlsplit

from clary.images.image import UnknownImage
from clary.images.interpreters import Interpreters, version_key
from clary.images.pip_configuration import variables_for_uv
from clary.images.reference import ImageReference

# The oldest and the newest release that has wheels for a Python on the public index.
TORCH_WHEELS: dict[str, tuple[str, str]] = {
    "3.8": ("1.4.0", "2.4.1"),
    "3.9": ("1.8.0", "2.8.0"),
    "3.10": ("1.11.0", "2.13.0"),
    "3.11": ("2.0.0", "2.13.0"),
    "3.12": ("2.2.0", "2.13.0"),
    "3.13": ("2.5.0", "2.13.0"),
    "3.14": ("2.9.0", "2.13.0"),
}
_WHEEL = re.compile(
    r"torch-(?P<version>[0-9.]+)\+cpu-cp3(?P<minor>\d+)-cp3\d+-(?P<platform>.+)\.whl"
)
_RELEASE = re.compile(r"(?P<version>\d+\.\d+(\.\d+)?)(-|$)")
_PYTHON = re.compile(r"-py3(?P<minor>\d{1,2})(-|$)")


@dataclass(frozen=True, slots=True)
class CpuWheel:
    """One file of a folder that pip looks in."""

    version: str
    python: str


@dataclass(frozen=True, slots=True)
class TorchChoice:
    """The PyTorch and the Python that stand for a wanted release."""

    wanted: str
    version: str
    python: str
    requirement: str

    @property
    def note(self) -> str:
        """How this differs from the image, or nothing."""
        if self.wanted == ".".join(self.version.split(".")[: len(self.wanted.split("."))]):
            return ""
        return (
            f"This image has PyTorch {self.wanted}; PyTorch {self.version} on Python "
            f"{self.python} is the nearest at hand and takes its place."
        )


def release_in(reference: ImageReference, newest: str) -> str:
    """The release that a tag such as `2.5.1-cpu-py311` begins with."""
    if not reference.tag:
        return newest
    match = _RELEASE.match(reference.tag)
    if match is None:
        raise UnknownImage(
            f"The tag {reference.tag!r} of the image {reference.uri} does not begin with a "
            f"release. Name one, as in {reference.basename}:{newest}-cpu-py311, or register an "
            "environment of your own for this URI with `clary images add`."
        )
    return match["version"]


def choose_torch(
    wanted: str,
    reference: ImageReference,
    interpreters: Interpreters,
    wheels: Iterable[CpuWheel] | None = None,
) -> TorchChoice:
    """A CPU wheel at hand, the nearest; else the release itself; raise UnknownImage if neither."""
    at_hand = [
        wheel
        for wheel in (cpu_wheels() if wheels is None else wheels)
        if interpreters.has(wheel.python)
    ]
    if at_hand:
        order = interpreters.versions()
        best = min(
            at_hand, key=lambda one: (_distance(one.version, wanted), order.index(one.python))
        )
        return TorchChoice(wanted, best.version, best.python, f"torch=={best.version}+cpu")
    choices = [
        (python, _nearest(wanted, *TORCH_WHEELS[python]))
        for python in _preferred(reference, interpreters)
        if python in TORCH_WHEELS
    ]
    if not choices:
        raise UnknownImage(
            f"The image {reference.uri} needs one of Python {', '.join(TORCH_WHEELS)}, and none "
            "is on this machine. Install one and try again."
        )
    python, version = min(choices, key=lambda choice: _distance(choice[1], wanted))
    # `2.5` means the newest patch of 2.5, which the index knows.
    exact = version.count(".") == 2
    return TorchChoice(
        wanted, version, python, f"torch=={version}" if exact else f"torch=={version}.*"
    )


def packages_beside_torch(version: str) -> tuple[str, ...]:
    """The numpy and its friends that a release of PyTorch runs with; before 2.3 that is NumPy 1."""
    if version_key(version)[:2] < (2, 3):
        return ("numpy<2", "pandas<2.3", "scipy<1.14", "scikit-learn<1.6", "pillow", "pyyaml")
    return ("numpy<2.4", "pandas<3", "scipy", "scikit-learn", "pillow", "pyyaml")


def cpu_wheels() -> tuple[CpuWheel, ...]:
    """The CPU wheels in the folders of this machine's pip."""
    folders = variables_for_uv().get("UV_FIND_LINKS", "").split(",")
    return _cpu_wheels(tuple(folder for folder in map(_local, folders) if folder))


@lru_cache(maxsize=4)
def _cpu_wheels(folders: tuple[str, ...]) -> tuple[CpuWheel, ...]:
    found = []
    for folder in folders:
        for path in sorted(Path(folder).glob("torch-*.whl")):
            match = _WHEEL.fullmatch(path.name)
            if match and platform.machine() in match["platform"]:
                found.append(CpuWheel(match["version"], f"3.{match['minor']}"))
    return tuple(found)


def _local(address: str) -> str:
    if address.startswith("file:"):
        return unquote(urlsplit(address).path)
    return address if address.startswith("/") else ""


def _preferred(reference: ImageReference, interpreters: Interpreters) -> list[str]:
    """The Python that the tag names comes first, the others in their usual order."""
    match = _PYTHON.search(reference.tag or "")
    named = f"3.{match['minor']}" if match else ""
    return sorted(interpreters.versions(), key=lambda version: version != named)


def _nearest(wanted: str, oldest: str, newest: str) -> str:
    if version_key(wanted) < version_key(oldest):
        return oldest
    return newest if version_key(wanted)[:2] > version_key(newest)[:2] else wanted


def _distance(version: str, wanted: str) -> tuple[int, int, bool]:
    """How far two releases are apart; of two as far, the newer is nearer."""
    one, other = ((*version_key(text), 0, 0) for text in (version, wanted))
    minors = abs(one[1] + (14 if one[0] > 1 else 0) - other[1] - (14 if other[0] > 1 else 0))
    return minors, abs(one[2] - other[2]), one < other
