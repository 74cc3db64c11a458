"""Plans made on first use: compiled by one thread, published whole, read by all without a lock."""

from __future__ import annotations

from collections.abc import Callable
from threading import Lock
from typing import Generic, TypeVar

K = TypeVar("K")
V = TypeVar("V")


class Plans(Generic[K, V]):
    """A table of what `make` returned; tables that share a compiler must share its lock.

    A compiler registers a shape before it has compiled its members, so nothing it made may be
    used before the whole compilation ends; the table gains an entry only then.
    """

    def __init__(self, make: Callable[[K], V], lock: Lock) -> None:
        self._make = make
        self._made: dict[K, V] = {}
        self._lock = lock

    def __getitem__(self, key: K) -> V:
        plan = self._made.get(key)
        if plan is None:
            with self._lock:
                plan = self._made.get(key)
                if plan is None:
                    plan = self._made[key] = self._make(key)
        return plan
