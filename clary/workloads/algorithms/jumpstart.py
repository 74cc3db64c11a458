"""JumpStart's training scripts, which are told by where a job says that they are.

A JumpStart job names a framework's image and a script in AWS's public bucket, for example

    sagemaker_submit_directory = s3://jumpstart-cache-prod-us-east-1/source-directory-tarballs/
                                 lightgbm/transfer_learning/classification/v2.1.3/sourcedir.tar.gz

That bucket is out of reach, and its scripts are thin: the algorithm of the same name runs instead.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

SOURCE = "sagemaker_submit_directory"
_BUCKET = re.compile(r"s3://jumpstart-(private-)?cache-[a-z]+-[a-z0-9-]+/(?P<key>.*)")
_SCRIPTS = "source-directory-tarballs/"
# What the folder of a script holds, and the algorithm that it is.
ALGORITHMS = {
    "tabtransformer": "tabtransformer",
    "lightgbm": "lightgbm",
    "catboost": "catboost",
    "autogluon": "autogluon-tabular",
    "tc": "text-classification",
    "text-classification": "text-classification",
}


def algorithm_of(hyperparameters: Mapping[str, object]) -> str | None:
    """The algorithm that stands for the script of a job, if it is one of JumpStart's."""
    found = _BUCKET.match(str(hyperparameters.get(SOURCE) or "").strip().strip('"'))
    if found is None or not found["key"].startswith(_SCRIPTS):
        return None
    folders = found["key"].lower().split("/")
    for mark, algorithm in ALGORITHMS.items():
        # `pytorch/transfer_learning/tabtransformerclassification`, but `tensorflow/…/tc`.
        if any(one == mark or (len(mark) > 2 and one.startswith(mark)) for one in folders):
            return algorithm
    return None


def is_replaced_model(channel: str, uri: str, hyperparameters: Mapping[str, object]) -> bool:
    """Whether a channel is the untrained model beside such a script, which has no use here."""
    return (
        channel == "model"
        and _BUCKET.match(uri) is not None
        and algorithm_of(hyperparameters) is not None
    )
