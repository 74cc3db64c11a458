"""The first-party images (`linear-learner`, `kmeans`, ...): one environment for all tabular ones."""

from __future__ import annotations

from clary.images.environment import Environment
from clary.images.image import Command, Family, Image, UnknownImage
from clary.images.interpreters import Interpreters
from clary.images.reference import ImageReference
from clary.images.scientific_stack import (
    EVERYWHERE,
    EVERYWHERE_IMPORTS,
    choose_scikit_learn,
    packages_beside_scikit_learn,
)
from clary.images.tags import release_of
from clary.workloads.algorithms import catalogue

REPOSITORIES = (
    "linear-learner",
    "kmeans",
    "pca",
    "knn",
    "factorization-machines",
    "randomcutforest",
    "lda",
)
RELEASES = {"1": "1", "latest": "1"}
SCIKIT_LEARN = "1.6.1"
PACKAGES = ("polars>=1.30,<2", "faiss-cpu>=1.9", "threadpoolctl")

PRELOAD = (
    "numpy",
    "scipy.linalg",
    "scipy.optimize",
    "scipy.sparse",
    "scipy.special",
    "sklearn.cluster",
    "sklearn.metrics",
    "polars",
    "faiss",
    "orjson",
    "threadpoolctl",
)
ENVIRONMENT_VARIABLES = {
    "PYTHONUNBUFFERED": "1",
    "PYTHONDONTWRITEBYTECODE": "1",
    "PYTHONIOENCODING": "UTF-8",
    "LC_ALL": "C.UTF-8",
    "LANG": "C.UTF-8",
}


def built_in(
    reference: ImageReference,
    python: str,
    packages: tuple[str, ...],
    preload: tuple[str, ...],
    notes: tuple[str, ...] = (),
    *,
    family: str = "first-party",
) -> Image:
    """The image of the built-in algorithm that the repository is named after."""
    algorithm = catalogue.find(reference.basename)
    if algorithm is None:
        raise UnknownImage(f"The image {reference.uri} names no built-in algorithm.")
    module = algorithm.name.replace("-", "_")
    handler = f"clary.workloads.algorithms.{module}:handler"
    server = ("python", "-m", "clary.workloads.serving.server")
    return Image(
        family=family,
        uri=reference.uri,
        version=RELEASES[release_of(reference, RELEASES)],
        environment=Environment(
            python=python,
            packages=(*packages, *EVERYWHERE),
            imports=(*preload, *EVERYWHERE_IMPORTS),
        ),
        commands={
            "train": Command(
                ("python", "-m", "clary.workloads.algorithms", algorithm.name, "train")
            ),
            "serve": Command((*server, "--handler", handler)),
            "process": None,
        },
        preload=preload,
        environment_variables={**ENVIRONMENT_VARIABLES, "CLARY_ALGORITHM": algorithm.name},
        metric_definitions=algorithm.metric_definitions(),
        hyperparameters=algorithm.hyperparameter_specifications(),
        algorithm=algorithm.name,
        notes=notes,
    )


def resolve(reference: ImageReference, interpreters: Interpreters) -> Image:
    choice = choose_scikit_learn(SCIKIT_LEARN, interpreters)
    if choice is None:
        raise UnknownImage(
            f"The image {reference.uri} needs Python 3.9 to 3.13, and none is on this machine. "
            "Install one and try again."
        )
    packages = (*packages_beside_scikit_learn(choice.version), *PACKAGES)
    return built_in(reference, choice.python, packages, PRELOAD)


FAMILY = Family(
    name="first-party", repositories=REPOSITORIES, tags=tuple(RELEASES), resolve=resolve
)
