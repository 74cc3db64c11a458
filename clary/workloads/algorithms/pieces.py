"""Files in pieces: how long a piece is, and threads that read some of them ahead of their use."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, TypeVar

PIECE_BYTES = 4 << 20
THREADS_MAX = 16  # each holds a piece and what was read of it

T = TypeVar("T")


def in_threads(
    parts: Iterable[tuple[Any, ...]], work: Callable[..., T], threads: int | None = None
) -> Iterator[T]:
    """`work(*part)` of each part, in their order; as many are read ahead as there are threads."""
    count = min(threads or processors(), THREADS_MAX)
    with ThreadPoolExecutor(count) as pool:
        ahead: deque[Future[T]] = deque()
        try:
            for part in parts:
                ahead.append(pool.submit(work, *part))
                if len(ahead) > count:
                    yield ahead.popleft().result()
            while ahead:
                yield ahead.popleft().result()
        finally:
            for future in ahead:
                future.cancel()


def processors() -> int:
    """How many processors this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else 1
