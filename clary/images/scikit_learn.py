"""The scikit-learn images (`sagemaker-scikit-learn`): training, processing and hosting."""

from __future__ import annotations

from clary.images.environment import Environment
from clary.images.image import Command, Family, Image, UnknownImage
from clary.images.interpreters import Interpreters
from clary.images.reference import ImageReference
from clary.images.scientific_stack import (
    EVERYWHERE,
    EVERYWHERE_IMPORTS,
    SERVER_PRELOAD,
    choose_scikit_learn,
    packages_beside_scikit_learn,
)
from clary.images.tags import release_of

# SageMaker's tag (without its `-cpu-py3`) and the release of scikit-learn in that image.
RELEASES = {
    "1.4-2": "1.4.2",
    "1.2-1": "1.2.1",
    "1.0-1": "1.0.2",
    "0.23-1": "0.23.2",
    "0.20.0": "0.20.0",
}

PRELOAD = (
    "numpy",
    "scipy.sparse",
    "scipy.stats",
    "scipy.linalg",
    "scipy.special",
    "scipy.optimize",
    "pandas",
    "joblib",
    "sklearn",
    "sklearn.compose",
    "sklearn.datasets",
    "sklearn.decomposition",
    "sklearn.ensemble",
    "sklearn.impute",
    "sklearn.linear_model",
    "sklearn.metrics",
    "sklearn.model_selection",
    "sklearn.naive_bayes",
    "sklearn.neighbors",
    "sklearn.pipeline",
    "sklearn.preprocessing",
    "sklearn.svm",
    "sklearn.tree",
    "sklearn.cluster",
    "sklearn.feature_extraction.text",
)

ENVIRONMENT_VARIABLES = {
    "PYTHONUNBUFFERED": "1",
    "PYTHONDONTWRITEBYTECODE": "1",
    "PYTHONIOENCODING": "UTF-8",
    "LC_ALL": "C.UTF-8",
    "LANG": "C.UTF-8",
    "SAGEMAKER_TRAINING_MODULE": "sagemaker_sklearn_container.training:main",
    "SAGEMAKER_SERVING_MODULE": "sagemaker_sklearn_container.serving:main",
}


def resolve(reference: ImageReference, interpreters: Interpreters) -> Image:
    wanted = RELEASES[release_of(reference, RELEASES)]
    choice = choose_scikit_learn(wanted, interpreters)
    if choice is None:
        raise UnknownImage(
            f"The image {reference.uri} needs Python 3.8 to 3.14, and none is on this machine. "
            "Install one and try again."
        )
    return Image(
        family="scikit-learn",
        uri=reference.uri,
        version=choice.version,
        environment=Environment(
            python=choice.python,
            packages=(*packages_beside_scikit_learn(choice.version), *EVERYWHERE),
            imports=(*PRELOAD, "pyarrow", *EVERYWHERE_IMPORTS),
        ),
        commands={
            "train": Command(("python", "-m", "clary.workloads.toolkit.train")),
            "serve": Command(
                ("python", "-m", "clary.workloads.serving.server", "--framework", "sklearn")
            ),
            "process": None,
        },
        preload=(*PRELOAD, *SERVER_PRELOAD),
        environment_variables=ENVIRONMENT_VARIABLES,
        notes=_notes(wanted, choice.version, choice.python),
    )


def _notes(wanted: str, version: str, python: str) -> tuple[str, ...]:
    if version == wanted:
        return ()
    return (
        f"scikit-learn {wanted} has no wheel for a Python of this machine; scikit-learn {version} "
        f"on Python {python} is the nearest and takes its place.",
    )


FAMILY = Family(
    name="scikit-learn",
    repositories=("sagemaker-scikit-learn",),
    tags=tuple(f"{tag}-cpu-py3" for tag in RELEASES),
    resolve=resolve,
)
