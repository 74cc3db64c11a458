"""The commands of an image that has a built-in algorithm.

`python -m clary.workloads.algorithms NAME train` runs the user's own script where the job brings
one (script mode), else the algorithm.
"""

from __future__ import annotations

import importlib
import sys

from clary.workloads.algorithms import catalogue, job, jumpstart, training

USAGE = "usage: python -m clary.workloads.algorithms NAME train"


def main(arguments: list[str]) -> int:
    if len(arguments) != 2 or arguments[1] != "train":
        print(USAGE, file=sys.stderr)
        return 2
    algorithm = catalogue.find(arguments[0])
    if algorithm is None:
        print(f"There is no algorithm named {arguments[0]!r}.", file=sys.stderr)
        return 2
    if is_script_mode(job.folders()):
        # Imported only now: the algorithms do without the toolkit.
        toolkit = importlib.import_module("clary.workloads.toolkit.train")
        code = toolkit.main()
        return code if isinstance(code, int) else 0
    return training.run(algorithm)


def is_script_mode(place: job.Folders) -> bool:
    """Whether the job names a script; a `code` channel alone says nothing of what to run.

    A script of JumpStart's is what the algorithm itself stands for.
    """
    given = place.read("hyperparameters")
    return bool(given.get("sagemaker_program")) and not jumpstart.algorithm_of(given)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
