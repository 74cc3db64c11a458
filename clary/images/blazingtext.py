"""The first-party image of BlazingText: floret, a kept fork of fastText, and WordSim-353."""

from __future__ import annotations

from clary.images.first_party import RELEASES, built_in
from clary.images.image import Family, Image, UnknownImage
from clary.images.interpreters import Interpreters
from clary.images.reference import ImageReference

PYTHONS = ("3.12", "3.11", "3.10", "3.9")  # those that floret has wheels for
# gensim ships WordSim-353, which SageMaker's container judges word vectors by.
PACKAGES = ("floret>=0.10.5,<0.11", "gensim>=4.3,<5", "numpy<2", "scipy", "polars>=1.30,<2")
PRELOAD = ("numpy", "scipy.stats", "floret")


def resolve(reference: ImageReference, interpreters: Interpreters) -> Image:
    python = next((one for one in interpreters.versions() if one in PYTHONS), None)
    if python is None:
        raise UnknownImage(
            f"The image {reference.uri} needs one of Python {', '.join(PYTHONS)}, and none is on "
            "this machine. Install one and try again."
        )
    return built_in(reference, python, PACKAGES, PRELOAD, family="blazingtext")


FAMILY = Family(
    name="blazingtext", repositories=("blazingtext",), tags=tuple(RELEASES), resolve=resolve
)
