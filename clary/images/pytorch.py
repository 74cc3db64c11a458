"""The PyTorch images (`pytorch-training`, `pytorch-inference`): script mode on a CPU."""

from __future__ import annotations

from clary.images.environment import Environment
from clary.images.image import Command, Family, Image
from clary.images.interpreters import Interpreters
from clary.images.reference import ImageReference
from clary.images.scientific_stack import EVERYWHERE, EVERYWHERE_IMPORTS, SERVER_PRELOAD
from clary.images.scikit_learn import ENVIRONMENT_VARIABLES
from clary.images.torch_wheels import choose_torch, packages_beside_torch, release_in

NEWEST = "2.13.0"
# Importing these starts no thread: PyTorch makes its threads when it first works in parallel.
PRELOAD = ("numpy", "pandas", "torch", "torch.nn.functional", "torch.optim", "torch.utils.data")
# What starts a script of MPI's; SDK v3's driver has its hosts meet through paramiko.
MPI = ("openmpi>=5,<6", "mpi4py>=4,<5", "paramiko>=3,<5")
TAGS = (
    "2.10.0-cpu-py313",
    "2.9.0-cpu-py312",
    "2.8.0-cpu-py312",
    "2.7.1-cpu-py312",
    "2.6.0-cpu-py312",
    "2.5.1-cpu-py311",
    "2.4.0-cpu-py311",
    "2.3.0-cpu-py311",
    "2.2.0-cpu-py310",
    "2.1.0-cpu-py310",
    "2.0.1-cpu-py310",
    "1.13.1-cpu-py39",
    "1.12.1-cpu-py38",
)


def resolve(reference: ImageReference, interpreters: Interpreters) -> Image:
    choice = choose_torch(release_in(reference, NEWEST), reference, interpreters)
    return Image(
        family="pytorch",
        uri=reference.uri,
        version=choice.version,
        environment=Environment(
            python=choice.python,
            packages=(
                choice.requirement,
                *packages_beside_torch(choice.version),
                *MPI,
                *EVERYWHERE,
            ),
            imports=(
                *PRELOAD,
                "scipy.sparse",
                "sklearn",
                "PIL.Image",
                "mpi4py",
                "paramiko",
                *EVERYWHERE_IMPORTS,
            ),
        ),
        commands={
            "train": Command(("python", "-m", "clary.workloads.toolkit.train")),
            "serve": Command(
                ("python", "-m", "clary.workloads.serving.server", "--framework", "pytorch")
            ),
            "process": None,
        },
        preload=(*PRELOAD, *SERVER_PRELOAD),
        environment_variables={
            **ENVIRONMENT_VARIABLES,
            "SAGEMAKER_TRAINING_MODULE": "sagemaker_pytorch_container.training:main",
            "SAGEMAKER_SERVING_MODULE": "sagemaker_pytorch_serving_container.serving:main",
        },
        notes=tuple(
            note
            for note in (choice.note, "PyTorch runs on the CPU here." if _on_gpu(reference) else "")
            if note
        ),
    )


def _on_gpu(reference: ImageReference) -> bool:
    return "-gpu" in reference.tag or "-cu1" in reference.tag


FAMILY = Family(
    name="pytorch",
    repositories=(
        "pytorch-training",
        "pytorch-inference",
        "pytorch-inference-graviton",
        "pytorch-inference-arm64",
        "sagemaker-pytorch",
    ),
    tags=TAGS,
    resolve=resolve,
)
