"""`python -m clary.workloads.tuning`: a question a line on standard input, its answer a line on standard output."""

from __future__ import annotations

import json
import sys
import traceback

import numpy as np

from clary.workloads.tuning.suggest import suggest


def main() -> int:
    for line in sys.stdin:
        try:
            answer = suggest(json.loads(line))
        except (ArithmeticError, ValueError, KeyError, IndexError, np.linalg.LinAlgError):
            # The search goes on without this answer; what went wrong is for control's log.
            traceback.print_exc()
            answer = {}
        print(json.dumps(answer), flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
