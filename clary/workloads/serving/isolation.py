"""Keeps the modules of many models apart that share a process: every `inference.py` is its own.

While a model loads, its modules stand in `sys.modules` under their plain names, as pickles and
frameworks expect. Then they are taken out again and kept with the model. An import in the model's
own code that runs later (inside `predict_fn`) still finds them, because its modules have an
`__import__` of their own. Packages of the environment are shared as ever.

Loads that import a script wait for each other; predictions never wait for them. A module that is
imported late while another model loads does without `sys.modules`.
"""

from __future__ import annotations

import builtins
import contextlib
import importlib.abc
import importlib.util
import os
import sys
import threading
from collections.abc import Iterator, Sequence
from importlib.machinery import ModuleSpec, PathFinder, SourceFileLoader, SourcelessFileLoader
from types import ModuleType
from typing import Any

_plain_import = builtins.__import__


class Isolations(importlib.abc.MetaPathFinder):
    """Finds modules for whichever model's code asks, and lets one model load at a time."""

    def __init__(self) -> None:
        self.lock = threading.RLock()
        self.asking = threading.local()

    def install(self) -> None:
        """Become the first that is asked for a module."""
        sys.meta_path.insert(0, self)

    def remove(self) -> None:
        """Stop finding modules."""
        sys.meta_path.remove(self)

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """Find a module of the model that this thread imports for."""
        isolation = getattr(self.asking, "isolation", None)
        return isolation.find(fullname, path) if isolation is not None else None


class Isolation:
    """The modules of one model's own code."""

    def __init__(self, paths: Sequence[str], shared: Isolations) -> None:
        self._paths = list(paths)
        self._shared = shared
        self._own: set[str] | None = None  # the top-level names that the model's folders have
        self._found: set[str] = set()
        self._modules: dict[str, ModuleType] = {}
        self._depth = 0
        self._lock = threading.RLock()  # of this model's imports that do without the shared one
        self._builtins = {**vars(builtins), "__import__": self._import}

    @contextlib.contextmanager
    def loading(self) -> Iterator[None]:
        """Let the plain names of `sys.modules` be this model's for a while."""
        with self._shared.lock:
            if self._own is None:
                # As on any search path, what the process has imported already comes first.
                self._own = _top_names(self._paths) - set(sys.modules)
            before = getattr(self._shared.asking, "isolation", None)
            self._depth += 1
            self._shared.asking.isolation = self
            sys.modules.update(self._modules)
            try:
                yield
            finally:
                self._shared.asking.isolation = before
                self._depth -= 1
                if not self._depth:
                    self._take_out()

    def _take_out(self) -> None:
        for name in self._found:
            module = sys.modules.pop(name, None)
            if module is not None:
                self._modules[name] = module

    def find(self, fullname: str, path: Sequence[str] | None) -> ModuleSpec | None:
        """Find a module in the model's folders and let it import through this object."""
        if fullname.partition(".")[0] not in (self._own or ()):
            return None
        spec = PathFinder.find_spec(fullname, self._paths if path is None else path)
        if spec is None:
            return None
        self._found.add(fullname)
        loader = spec.loader
        if isinstance(loader, (SourceFileLoader, SourcelessFileLoader)):
            execute = loader.exec_module

            def exec_module(module: ModuleType) -> None:
                module.__dict__["__builtins__"] = self._builtins
                execute(module)

            loader.exec_module = exec_module  # type: ignore[method-assign]
        return spec

    def _import(
        self,
        name: str,
        globals: Any = None,
        locals: Any = None,
        fromlist: Sequence[str] = (),
        level: int = 0,
    ) -> Any:
        """What `import` means in the model's own code."""
        if self._depth:
            return self._import_while_loading(name, globals, locals, fromlist, level)
        absolute = name
        if level:
            absolute = importlib.util.resolve_name("." * level + name, globals["__package__"])
        if absolute.partition(".")[0] not in (self._own or ()):
            return _plain_import(name, globals, locals, fromlist, level)
        found = self._loaded(absolute, fromlist, level)
        if found is not None:
            return found
        if not self._shared.lock.acquire(blocking=False):
            return self._import_apart(absolute, fromlist, level)
        try:
            with self.loading():
                return _plain_import(name, globals, locals, fromlist, level)
        finally:
            self._shared.lock.release()

    def _import_apart(self, absolute: str, fromlist: Sequence[str], level: int) -> ModuleType:
        """Import without the plain names, which another model has at the moment."""
        with self._lock:
            module = self._module(absolute)
            for word in fromlist or ():
                child = f"{absolute}.{word}"
                path = getattr(module, "__path__", None)
                if not hasattr(module, word) and path and PathFinder.find_spec(child, path):
                    self._module(child)
        return module if fromlist or level else self._modules[absolute.partition(".")[0]]

    def _module(self, absolute: str) -> ModuleType:
        if absolute in self._modules:
            return self._modules[absolute]
        parent_name, _, last = absolute.rpartition(".")
        parent = self._module(parent_name) if parent_name else None
        spec = self.find(absolute, getattr(parent, "__path__", ()) if parent else None)
        if spec is None or spec.loader is None:
            raise ModuleNotFoundError(f"No module named {absolute!r}", name=absolute)
        module = self._modules[absolute] = importlib.util.module_from_spec(spec)
        try:
            spec.loader.exec_module(module)
        except BaseException:
            del self._modules[absolute]
            raise
        if parent is not None:
            setattr(parent, last, module)
        return module

    def _import_while_loading(self, *asked: Any) -> Any:
        """Threads that the loading model has started find its modules too."""
        before = getattr(self._shared.asking, "isolation", None)
        self._shared.asking.isolation = self
        try:
            return _plain_import(*asked)
        finally:
            self._shared.asking.isolation = before

    def _loaded(self, absolute: str, fromlist: Sequence[str], level: int) -> ModuleType | None:
        """The module without any lock, if all that is asked for is there."""
        module = self._modules.get(absolute)
        if module is None:
            return None
        if not fromlist:
            return module if level else self._modules.get(absolute.partition(".")[0])
        complete = all(word != "*" and hasattr(module, word) for word in fromlist)
        return module if complete else None


def _top_names(paths: Sequence[str]) -> set[str]:
    """The names of modules and packages in some folders."""
    found = set()
    for path in paths:
        with contextlib.suppress(OSError), os.scandir(path) as entries:
            found |= {entry.name.partition(".")[0] for entry in entries}
    return {name for name in found if name.isidentifier()}
