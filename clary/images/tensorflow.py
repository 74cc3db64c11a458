"""The TensorFlow images (`tensorflow-training`, `tensorflow-inference`): script mode and SavedModels on a CPU."""

from __future__ import annotations

import platform
import re

from clary.images.environment import Environment
from clary.images.image import Command, Family, Image, UnknownImage
from clary.images.interpreters import Interpreters, version_key
from clary.images.reference import ImageReference
from clary.images.scientific_stack import EVERYWHERE, EVERYWHERE_IMPORTS
from clary.images.scikit_learn import ENVIRONMENT_VARIABLES

# The oldest and the newest minor release that has wheels for a Python on the public index.
WHEELS: dict[str, tuple[str, str]] = {
    "3.9": ("2.5", "2.20"),
    "3.10": ("2.8", "2.21"),
    "3.11": ("2.12", "2.21"),
    "3.12": ("2.16", "2.21"),
    "3.13": ("2.20", "2.21"),
}
NEWEST = "2.19"  # of the images
PRELOAD = ("numpy", "tensorflow")
TAGS = (
    "2.19.0-cpu-py312",
    "2.18.0-cpu-py310",
    "2.16-cpu-py310",
    "2.16.1-cpu",
    "2.14.1-cpu-py310",
    "2.13.0-cpu-py310",
    "2.12.1-cpu-py310",
    "2.11.1-cpu-py39",
)
_RELEASE = re.compile(r"(?P<release>\d+\.\d+)(\.\d+)?(-|$)")


def resolve(reference: ImageReference, interpreters: Interpreters) -> Image:
    wanted = _release_in(reference)
    python, release = _choose(wanted, reference, interpreters)
    package = "tensorflow-cpu" if platform.machine() == "x86_64" else "tensorflow"
    note = ""
    if release != wanted:
        note = (
            f"This image has TensorFlow {wanted}; TensorFlow {release} on Python {python} is the "
            "nearest that runs here and takes its place."
        )
    on_gpu = "TensorFlow runs on the CPU here." if "-gpu" in (reference.tag or "") else ""
    return Image(
        family="tensorflow",
        uri=reference.uri,
        version=release,
        environment=Environment(
            python=python,
            packages=(f"{package}=={release}.*", "pandas", "scikit-learn", "pillow", *EVERYWHERE),
            imports=(*PRELOAD, "pandas", "sklearn", "PIL.Image", *EVERYWHERE_IMPORTS),
        ),
        commands={
            "train": Command(("python", "-m", "clary.workloads.toolkit.train")),
            "serve": Command(
                ("python", "-m", "clary.workloads.serving.server", "--framework", "tensorflow")
            ),
            "process": None,
        },
        preload=PRELOAD,
        environment_variables={
            **ENVIRONMENT_VARIABLES,
            "TF_CPP_MIN_LOG_LEVEL": "2",
            "SAGEMAKER_TRAINING_MODULE": "sagemaker_tensorflow_container.training:main",
            "SAGEMAKER_SERVING_MODULE": "sagemaker_tensorflow_serving_container.serving:main",
        },
        notes=tuple(one for one in (note, on_gpu) if one),
    )


def _release_in(reference: ImageReference) -> str:
    """The minor release that a tag such as `2.16.1-cpu-py310` begins with."""
    if not reference.tag:
        return NEWEST
    match = _RELEASE.match(reference.tag)
    if match is None:
        raise UnknownImage(
            f"The tag {reference.tag!r} of the image {reference.uri} does not begin with a release. "
            f"Name one, as in {reference.basename}:{TAGS[0]}, or register an environment of your own "
            "for this URI with `clary images add`."
        )
    return match["release"]


def _choose(wanted: str, reference: ImageReference, interpreters: Interpreters) -> tuple[str, str]:
    """The Python and the release nearest to the wanted one; raise UnknownImage where none can run."""
    choices = [
        (python, _nearest(wanted, *WHEELS[python]))
        for python in interpreters.versions()
        if python in WHEELS
    ]
    if not choices:
        raise UnknownImage(
            f"The image {reference.uri} needs one of Python {', '.join(WHEELS)}, and none is on this "
            "machine. Install one and try again."
        )
    return min(choices, key=lambda choice: _distance(choice[1], wanted))


def _nearest(wanted: str, oldest: str, newest: str) -> str:
    if version_key(wanted) < version_key(oldest):
        return oldest
    return newest if version_key(wanted) > version_key(newest) else wanted


def _distance(release: str, wanted: str) -> int:
    (major, minor), (wanted_major, wanted_minor) = version_key(release)[:2], version_key(wanted)[:2]
    return abs(100 * (major - wanted_major) + minor - wanted_minor)


FAMILY = Family(
    name="tensorflow",
    repositories=(
        "tensorflow-training",
        "tensorflow-inference",
        "tensorflow-inference-graviton",
        "sagemaker-tensorflow-scriptmode",
        "sagemaker-tensorflow-serving",
    ),
    tags=TAGS,
    resolve=resolve,
)
