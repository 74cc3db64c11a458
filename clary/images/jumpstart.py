"""JumpStart jobs: the image of the algorithm that stands for a script of JumpStart's.

Such a job names an image of a framework (`pytorch-training`) and a script in AWS's public bucket.
Here it is a job of the algorithm's own image, so that it has the libraries that the script wants.
"""

from __future__ import annotations

from collections.abc import Mapping

from clary.workloads.algorithms.jumpstart import algorithm_of, is_replaced_model

__all__ = ["image_uri", "is_replaced_model"]


def image_uri(uri: str, hyperparameters: Mapping[str, object] | None) -> str:
    """The image that a training job runs in: the one it names, or an algorithm's."""
    algorithm = algorithm_of(hyperparameters or {})
    if algorithm is None:
        return uri
    registry, slash, _ = uri.rpartition("/")
    return f"{registry}{slash}{algorithm}:1"
