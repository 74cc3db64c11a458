"""The first-party images of neural algorithms (`seq2seq`, `image-classification`, ...): PyTorch for them all."""

from __future__ import annotations

from dataclasses import replace

from clary.images.first_party import RELEASES, built_in
from clary.images.image import Family, Image
from clary.images.interpreters import Interpreters
from clary.images.pytorch import NEWEST
from clary.images.reference import ImageReference
from clary.images.torch_wheels import choose_torch, packages_beside_torch
from clary.workloads.algorithms import catalogue

NEURAL = (
    "ntm",
    "object2vec",
    "ipinsights",
    "seq2seq",
    "forecasting-deepar",
    "image-classification",
    "object-detection",
    "semantic-segmentation",
    "tabtransformer",
)
REPOSITORIES = tuple(name for name in NEURAL if catalogue.find(name) is not None)
# Tables are read as in the tabular algorithms' images.
PACKAGES = ("polars>=1.30,<2", "threadpoolctl")
PRELOAD = (
    "numpy",
    "scipy.sparse",
    "torch",
    "torch.nn.functional",
    "torch.optim",
    "torch._dynamo",  # the first optimiser imports it, which takes seconds
    "PIL.Image",
    "polars",
)
# Of one algorithm: the others' warm parents need not hold them.
OWN_PRELOAD = {"tabtransformer": ("pandas", "sklearn.metrics")}


def resolve(reference: ImageReference, interpreters: Interpreters) -> Image:
    choice = choose_torch(NEWEST, reference, interpreters)
    packages = (choice.requirement, *packages_beside_torch(choice.version), *PACKAGES)
    notes = (choice.note,) * bool(choice.note)
    image = built_in(reference, choice.python, packages, PRELOAD, notes, family="first-party-torch")
    own = OWN_PRELOAD.get(reference.basename, ())
    return replace(image, preload=(*image.preload, *own)) if own else image


FAMILY = Family(
    name="first-party-torch", repositories=REPOSITORIES, tags=tuple(RELEASES), resolve=resolve
)
