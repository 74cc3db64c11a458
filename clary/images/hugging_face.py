"""The Hugging Face images on PyTorch (`huggingface-pytorch-training`, `-inference`)."""

from __future__ import annotations

import re

from clary.images.environment import Environment
from clary.images.image import Command, Family, Image
from clary.images.interpreters import Interpreters, version_key
from clary.images.pytorch import MPI
from clary.images.pytorch import PRELOAD as PYTORCH_PRELOAD
from clary.images.reference import ImageReference
from clary.images.scientific_stack import EVERYWHERE, EVERYWHERE_IMPORTS, SERVER_PRELOAD
from clary.images.scikit_learn import ENVIRONMENT_VARIABLES
from clary.images.torch_wheels import choose_torch, packages_beside_torch, release_in

PRELOAD = (*PYTORCH_PRELOAD, "tokenizers", "transformers", "transformers.pipelines")
TAGS = (
    "2.9.0-transformers5.3.0-cpu-py312-ubuntu22.04",
    "2.6.0-transformers4.51.3-cpu-py312-ubuntu22.04",
    "2.6.0-transformers4.49.0-cpu-py312-ubuntu22.04",
    "2.3.0-transformers4.48.0-cpu-py311-ubuntu22.04",
    "2.1.0-transformers4.37.0-cpu-py310-ubuntu22.04",
    "2.0.0-transformers4.28.1-cpu-py310-ubuntu20.04",
    "1.13.1-transformers4.26.0-cpu-py39-ubuntu20.04",
)
NEWEST_TORCH, NEWEST_TRANSFORMERS = "2.9.0", "5.3.0"
# The last release of the fourth line reads the models of all before it and runs on every PyTorch
# from 2.2 on; older ones use names that newer releases of PyTorch have dropped.
LAST_OF_FOUR = "4.57.6"
_TRANSFORMERS = re.compile(r"-transformers(?P<version>\d+\.\d+(\.\d+)?)(-|$)")


def resolve(reference: ImageReference, interpreters: Interpreters) -> Image:
    choice = choose_torch(release_in(reference, NEWEST_TORCH), reference, interpreters)
    wanted = transformers_in(reference)
    version = _transformers(wanted, choice.version, replaced=choice.note != "")
    notes = [choice.note]
    if version != wanted:
        notes.append(
            f"This image has transformers {wanted}; transformers {version} takes its place here."
        )
    return Image(
        family="hugging-face",
        uri=reference.uri,
        version=version,
        environment=Environment(
            python=choice.python,
            packages=(
                choice.requirement,
                f"transformers=={version}",
                "accelerate",
                "datasets",
                "safetensors",
                "sentencepiece",
                *packages_beside_torch(choice.version),
                *MPI,
                *EVERYWHERE,
            ),
            imports=(
                *PRELOAD,
                "accelerate",
                "datasets",
                "scipy.sparse",
                "mpi4py",
                "paramiko",
                *EVERYWHERE_IMPORTS,
            ),
        ),
        commands={
            "train": Command(("python", "-m", "clary.workloads.toolkit.train")),
            "serve": Command(
                ("python", "-m", "clary.workloads.serving.server", "--framework", "huggingface")
            ),
            "process": None,
        },
        preload=(*PRELOAD, *SERVER_PRELOAD),
        environment_variables={
            **ENVIRONMENT_VARIABLES,
            # Tokenizers' own threads would be lost in a fork, and it warns of that at length.
            "TOKENIZERS_PARALLELISM": "false",
            "SAGEMAKER_TRAINING_MODULE": "sagemaker_pytorch_container.training:main",
            "SAGEMAKER_SERVING_MODULE": "sagemaker_huggingface_inference_toolkit.serving:main",
        },
        notes=tuple(note for note in notes if note),
    )


def transformers_in(reference: ImageReference) -> str:
    """The release of transformers that a tag names."""
    match = _TRANSFORMERS.search(reference.tag or "")
    return match["version"] if match else NEWEST_TRANSFORMERS


def _transformers(wanted: str, torch: str, *, replaced: bool) -> str:
    """The image's own release where its own PyTorch runs, else the nearest that fits."""
    if version_key(wanted)[0] != 4 or not replaced:
        return wanted
    return LAST_OF_FOUR if version_key(torch)[:2] >= (2, 2) else wanted


FAMILY = Family(
    name="hugging-face",
    repositories=(
        "huggingface-pytorch-training",
        "huggingface-pytorch-inference",
        "huggingface-pytorch-inference-graviton",
    ),
    tags=TAGS,
    resolve=resolve,
)
