"""The images of AutoGluon, with the kinds of models that run without a neural library."""

from __future__ import annotations

from dataclasses import replace

from clary.images.first_party import RELEASES, built_in
from clary.images.image import Family, Image, UnknownImage
from clary.images.interpreters import Interpreters
from clary.images.reference import ImageReference

PYTHONS = ("3.11", "3.12", "3.10", "3.13")
PACKAGES = (
    "autogluon.tabular[catboost,imodels,lightgbm]>=1.4,<2",
    "xgboost-cpu>=2",
    "polars>=1.30,<2",
    "threadpoolctl",
)
PRELOAD = ("numpy", "pandas", "polars", "sklearn.metrics")
IMPORTS = (*PRELOAD, "autogluon.tabular", "lightgbm", "catboost")


def resolve(reference: ImageReference, interpreters: Interpreters) -> Image:
    python = next((one for one in interpreters.versions() if one in PYTHONS), None)
    if python is None:
        raise UnknownImage(
            f"The image {reference.uri} needs one of Python {', '.join(sorted(PYTHONS))}, and none "
            "is on this machine. Install one and try again."
        )
    notes = (
        "AutoGluon trains its tree, linear and nearest-neighbour models here, no neural ones.",
    )
    # The framework's own images run a user's script; without one they have the algorithm.
    own = replace(reference, repository="autogluon-tabular", tag="1")
    return replace(
        built_in(own, python, PACKAGES, IMPORTS, notes), family="autogluon", preload=PRELOAD
    )


FAMILY = Family(
    name="autogluon",
    repositories=("autogluon-tabular", "autogluon-training", "autogluon-inference"),
    tags=tuple(RELEASES),
    resolve=resolve,
)
