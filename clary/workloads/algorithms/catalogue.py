"""The catalogue of built-in algorithms: the modules of this package that declare one."""

from __future__ import annotations

import importlib
import pkgutil

from clary.workloads import algorithms
from clary.workloads.algorithms.algorithm import Algorithm


def names() -> list[str]:
    """The names of all algorithms."""
    modules = (module.name for module in pkgutil.iter_modules(algorithms.__path__))
    return sorted(name for name in modules if not name.startswith("_") and find(name) is not None)


def find(name: str) -> Algorithm | None:
    """The algorithm of that name, which is the name of its file; `-` in it stands for `_`."""
    module_name = name.replace("-", "_")
    if not module_name.isidentifier():
        return None
    qualified = f"{algorithms.__name__}.{module_name}"
    try:
        module = importlib.import_module(qualified)
    except ModuleNotFoundError as problem:
        if problem.name != qualified:
            raise
        return None
    declared = getattr(module, "ALGORITHM", None)
    return declared if isinstance(declared, Algorithm) else None
