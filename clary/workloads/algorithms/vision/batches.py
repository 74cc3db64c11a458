"""Batches of samples: read and decoded by threads, a few batches before they are needed."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

import numpy as np

Loaded = TypeVar("Loaded")
AHEAD = 3


def batches(
    plan: Sequence[np.ndarray], load: Callable[[int], Loaded], threads: int
) -> Iterator[list[Loaded]]:
    """What `load` makes of the samples of each batch of a plan, in the plan's order."""
    with ThreadPoolExecutor(threads) as pool:
        waiting: deque[list[Future[Loaded]]] = deque()
        try:
            for chosen in plan:
                waiting.append([pool.submit(load, int(at)) for at in chosen])
                if len(waiting) > AHEAD:
                    yield [future.result() for future in waiting.popleft()]
            while waiting:
                yield [future.result() for future in waiting.popleft()]
        finally:
            pool.shutdown(cancel_futures=True)


def shuffled(count: int, size: int, steps: int, random: np.random.Generator) -> list[np.ndarray]:
    """`steps` full batches of `count` samples, which begin again where they do not suffice."""
    rounds = -(-steps * size // count)
    order = np.concatenate([random.permutation(count) for _ in range(rounds)])
    return [order[step * size : (step + 1) * size] for step in range(steps)]


def in_order(count: int, size: int) -> list[np.ndarray]:
    return [np.arange(start, min(start + size, count)) for start in range(0, count, size)]
