"""The image of text classification, in the environment of the Hugging Face images."""

from __future__ import annotations

from dataclasses import replace

from clary.images import hugging_face
from clary.images.first_party import RELEASES, built_in
from clary.images.image import Family, Image
from clary.images.interpreters import Interpreters
from clary.images.reference import ImageReference

TAG = "2.6.0-transformers4.51.3-cpu-py312-ubuntu22.04"
PRELOAD = (
    "numpy",
    "sklearn.metrics",
    "torch",
    "torch.nn.functional",
    "torch.optim",
    "torch._dynamo",  # the first optimiser imports it, which takes seconds
    "tokenizers",
    # transformers itself imports what it offers when that is first asked for.
    "transformers.models.auto.modeling_auto",
    "transformers.models.bert.modeling_bert",
    "transformers.models.distilbert.modeling_distilbert",
    "transformers.tokenization_utils_fast",
)


def resolve(reference: ImageReference, interpreters: Interpreters) -> Image:
    framework = hugging_face.resolve(
        replace(reference, repository="huggingface-pytorch-training", tag=TAG), interpreters
    )
    image = built_in(reference, framework.environment.python, (), PRELOAD)
    variables = {**image.environment_variables, "TOKENIZERS_PARALLELISM": "false"}
    return replace(
        image,
        family="text-classification",
        environment=framework.environment,
        environment_variables=variables,
    )


FAMILY = Family(
    name="text-classification",
    repositories=("text-classification",),
    tags=tuple(RELEASES),
    resolve=resolve,
)
