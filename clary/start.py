"""Starts control or the door: `python -m clary.start clary.server`, quickly and with its bytecode kept.

Where Python may not write bytecode beside the sources, as in most containers, compiling them would be more than
half of every start: it is then kept in Clary's own cache.
"""

from __future__ import annotations

import gc
import importlib
import os
import sys


def main(arguments: list[str]) -> int:
    """The exit code of the named module's `main`."""
    (name,) = arguments
    cache = os.environ.get("CLARY_CACHE", "")
    if sys.dont_write_bytecode and sys.pycache_prefix is None and cache:
        sys.dont_write_bytecode = False
        sys.pycache_prefix = os.path.join(cache, "bytecode")  # noqa: PTH118  pathlib would be compiled first
    gc.disable()  # nothing that is imported is garbage
    module = importlib.import_module(name)
    gc.freeze()  # nor will it be: no collection looks at it again while requests wait
    gc.enable()
    return module.main()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
