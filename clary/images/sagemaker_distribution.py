"""The SageMaker Distribution (`sagemaker-distribution-prod`): Studio's image, and notebook jobs'."""

from __future__ import annotations

import re

from clary.images.environment import Environment
from clary.images.image import Family, Image, UnknownImage
from clary.images.interpreters import Interpreters
from clary.images.reference import ImageReference
from clary.images.scientific_stack import EVERYWHERE, EVERYWHERE_IMPORTS
from clary.images.scikit_learn import ENVIRONMENT_VARIABLES
from clary.images.scikit_learn import PRELOAD as SCIKIT_LEARN_PRELOAD

PYTHONS = ("3.11", "3.12", "3.10", "3.13")
NEWEST = "3.2.0"
_TAG = re.compile(r"(?P<version>(\d+)(\.\d+){0,2})(-(cpu|gpu))?|latest-(cpu|gpu)")
PACKAGES = (
    "numpy<2.4",
    "pandas<3",
    "scipy",
    "scikit-learn",
    "pyarrow",
    "matplotlib",
    "seaborn",
    "xgboost-cpu",
    "sagemaker<3",
    "ipykernel",
    "ipywidgets",
    "nbclient",
    "nbconvert",
    "papermill",
    "s3fs",
)
PRELOAD = (*SCIKIT_LEARN_PRELOAD, "matplotlib")


def resolve(reference: ImageReference, interpreters: Interpreters) -> Image:
    match = _TAG.fullmatch(reference.tag or NEWEST)
    if match is None:
        raise UnknownImage(
            f"The image {reference.uri} has the tag {reference.tag!r}. The tags of "
            f"{reference.basename} are a release and a device, as in {NEWEST}-cpu."
        )
    python = next((one for one in PYTHONS if interpreters.has(one)), None)
    if python is None:
        raise UnknownImage(
            f"The image {reference.uri} needs one of Python {', '.join(PYTHONS)}, and none is on "
            "this machine. Install one and try again."
        )
    return Image(
        family="sagemaker-distribution",
        uri=reference.uri,
        version=match["version"] or NEWEST,
        environment=Environment(
            python=python,
            packages=(*PACKAGES, *EVERYWHERE),
            imports=(
                *PRELOAD,
                "xgboost",
                "sagemaker",
                "ipykernel",
                "papermill",
                *EVERYWHERE_IMPORTS,
            ),
            from_source=True,  # small packages of the SDK's that have no wheel
        ),
        commands={"train": None, "serve": None, "process": None},
        preload=PRELOAD,
        environment_variables={
            **{
                name: value
                for name, value in ENVIRONMENT_VARIABLES.items()
                if not name.startswith("SAGEMAKER_")
            },
            "MPLBACKEND": "Agg",
        },
        notes=(
            "Of the distribution's packages the usual ones for tables, plots, scikit-learn, "
            "XGBoost and notebooks are here, in their newest releases; PyTorch and TensorFlow "
            "are not. A requirements file adds what a job needs beside them.",
        ),
    )


FAMILY = Family(
    name="sagemaker-distribution",
    repositories=("sagemaker-distribution-prod", "sagemaker-distribution"),
    tags=("3.2.0-cpu", "2.6.0-cpu", "1.13.0-cpu"),
    resolve=resolve,
)
