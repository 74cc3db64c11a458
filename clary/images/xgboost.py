"""The XGBoost images (`sagemaker-xgboost`): the built-in algorithm, and script mode."""

from __future__ import annotations

from dataclasses import dataclass

from clary.images.environment import Environment
from clary.images.image import Command, Family, Image, UnknownImage
from clary.images.interpreters import Interpreters
from clary.images.reference import ImageReference
from clary.images.scientific_stack import (
    EVERYWHERE,
    EVERYWHERE_IMPORTS,
    SERVER_PRELOAD,
    packages_beside_scikit_learn,
)
from clary.images.scikit_learn import ENVIRONMENT_VARIABLES, PRELOAD
from clary.images.tags import release_of
from clary.workloads.algorithms.xgboost import ALGORITHM

SERVE = ("python", "-m", "clary.workloads.serving.server")
# Who answers where the endpoint names no script of its own.
HANDLER = "clary.workloads.algorithms.xgboost:handler"


@dataclass(frozen=True, slots=True)
class Release:
    """The XGBoost that an image has, and the one that runs here for it."""

    wanted: str
    version: str
    package: str
    scikit_learn: str
    pythons: tuple[str, ...]


# XGBoost 1.7.6 reads the model files of every older release and takes all their parameters.
_ONE = ("1.7.6", "xgboost==1.7.6", "1.2.2", ("3.11", "3.10", "3.9", "3.8"))
_THREE = (
    "3.0.5",
    "xgboost-cpu==3.0.5",
    "1.6.1",
    ("3.13", "3.12", "3.11", "3.10"),
)
RELEASES = {
    "3.0-5": Release("3.0.5", *_THREE),
    "1.7-1": Release("1.7.4", *_ONE),
    "1.5-1": Release("1.5.2", *_ONE),
    "1.3-1": Release("1.3.3", *_ONE),
    "1.2-2": Release("1.2.0", *_ONE),
    "1.2-1": Release("1.2.0", *_ONE),
    "1.0-1": Release("1.0.0", *_ONE),
    "0.90-2": Release("0.90", *_ONE),
    "0.90-1": Release("0.90", *_ONE),
}
# The first-party image of before the open container knows the algorithm only, as `1` or `latest`.
LEGACY = {"1": Release("0.72", *_ONE), "latest": Release("0.72", *_ONE)}


def resolve(reference: ImageReference, interpreters: Interpreters) -> Image:
    releases = LEGACY if reference.basename == "xgboost" else RELEASES
    # `xgboost:1.7-1` is how some people shorten the name; the legacy image has no such tag.
    if reference.tag and reference.tag not in LEGACY:
        releases = RELEASES
    release = releases[release_of(reference, releases)]
    python = next((one for one in interpreters.versions() if one in release.pythons), None)
    if python is None:
        raise UnknownImage(
            f"XGBoost {release.version}, which the image {reference.uri} needs, runs on Python "
            f"{', '.join(release.pythons)}, and none of these is on this machine. Install one "
            "and try again."
        )
    preload = (*PRELOAD, "polars", "xgboost")
    return Image(
        family="xgboost",
        uri=reference.uri,
        version=release.version,
        environment=Environment(
            python=python,
            packages=(
                release.package,
                *packages_beside_scikit_learn(release.scikit_learn),
                "polars>=1,<2",
                *EVERYWHERE,
            ),
            imports=(*preload, "pyarrow.csv", "pyarrow.parquet", *EVERYWHERE_IMPORTS),
        ),
        commands={
            # The dispatcher runs the user's script if the job brought one, else the algorithm.
            "train": Command(("python", "-m", "clary.workloads.algorithms", "xgboost", "train")),
            "serve": Command((*SERVE, "--framework", "xgboost", "--handler", HANDLER)),
            "process": None,
        },
        preload=(*preload, *SERVER_PRELOAD),
        environment_variables={
            **ENVIRONMENT_VARIABLES,
            "SAGEMAKER_TRAINING_MODULE": "sagemaker_xgboost_container.training:main",
            "SAGEMAKER_SERVING_MODULE": "sagemaker_xgboost_container.serving:main",
            "CLARY_ALGORITHM": "xgboost",
        },
        metric_definitions=ALGORITHM.metric_definitions(),
        hyperparameters=ALGORITHM.hyperparameter_specifications(),
        algorithm="xgboost",
        notes=_notes(release),
    )


def _notes(release: Release) -> tuple[str, ...]:
    if release.wanted == release.version:
        return ()
    return (
        f"This image has XGBoost {release.wanted}; XGBoost {release.version} takes its place here.",
    )


FAMILY = Family(
    name="xgboost",
    repositories=("sagemaker-xgboost", "xgboost"),
    tags=tuple(RELEASES),
    resolve=resolve,
)
