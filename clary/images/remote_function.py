"""The images in which remote functions run by default (`sagemaker-base-python-310`, `-38`)."""

from __future__ import annotations

from clary.images.environment import Environment
from clary.images.image import Family, Image, UnknownImage
from clary.images.interpreters import Interpreters
from clary.images.reference import ImageReference
from clary.images.scientific_stack import EVERYWHERE, EVERYWHERE_IMPORTS
from clary.images.scikit_learn import ENVIRONMENT_VARIABLES
from clary.images.tags import release_of

RELEASES = {"1.0": "1.0"}
PYTHONS = {
    "sagemaker-base-python-38": "3.8",
    "sagemaker-base-python-310": "3.10",
    "sagemaker-base-python": "3.10",
}


def resolve(reference: ImageReference, interpreters: Interpreters) -> Image:
    version = RELEASES[release_of(reference, RELEASES)]
    python = PYTHONS[reference.basename]
    if not interpreters.has(python):
        raise UnknownImage(
            f"A remote function is pickled by the client's Python {python} and can only be read by "
            f"the same one, which the image {reference.uri} has and this machine has not. Install "
            f"Python {python}, or name an image of another Python in the decorator's image_uri."
        )
    return Image(
        family="remote-function",
        uri=reference.uri,
        version=version,
        environment=Environment(
            python=python,
            # The code of the second line of the SDK drives the job from inside.
            packages=("sagemaker<3", "cloudpickle", "numpy", "pandas", *EVERYWHERE),
            imports=("sagemaker.remote_function", "pandas", *EVERYWHERE_IMPORTS),
            from_source=True,  # small packages of the SDK's that have no wheel
        ),
        # The SDK names its own entry point.
        commands={"train": None, "serve": None, "process": None},
        preload=("numpy", "pandas", "boto3", "sagemaker"),
        environment_variables={
            name: value
            for name, value in ENVIRONMENT_VARIABLES.items()
            if not name.startswith("SAGEMAKER_")
        },
    )


FAMILY = Family(
    name="remote-function",
    repositories=tuple(PYTHONS),
    tags=tuple(RELEASES),
    resolve=resolve,
)
