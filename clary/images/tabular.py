"""The images of boosted trees (`lightgbm`, `catboost`): one environment for both."""

from __future__ import annotations

from dataclasses import replace

from clary.images.first_party import RELEASES, SCIKIT_LEARN, built_in
from clary.images.image import Family, Image, UnknownImage
from clary.images.interpreters import Interpreters
from clary.images.reference import ImageReference
from clary.images.scientific_stack import choose_scikit_learn, packages_beside_scikit_learn

REPOSITORIES = ("lightgbm", "catboost")
PACKAGES = ("lightgbm>=4.6,<5", "catboost>=1.2.7,<2", "polars>=1.30,<2", "threadpoolctl")
PRELOAD = ("numpy", "pandas", "polars", "sklearn.metrics", "threadpoolctl")


def resolve(reference: ImageReference, interpreters: Interpreters) -> Image:
    choice = choose_scikit_learn(SCIKIT_LEARN, interpreters)
    if choice is None:
        raise UnknownImage(
            f"The image {reference.uri} needs Python 3.9 to 3.13, and none is on this machine. "
            "Install one and try again."
        )
    packages = (*packages_beside_scikit_learn(choice.version), *PACKAGES)
    image = built_in(reference, choice.python, packages, (*PRELOAD, *REPOSITORIES))
    # The environment has both libraries; a warm parent imports the one that its jobs use.
    return replace(image, family="tabular", preload=(*PRELOAD, reference.basename))


FAMILY = Family(name="tabular", repositories=REPOSITORIES, tags=tuple(RELEASES), resolve=resolve)
