"""A bounded crowd of threads that makes many small movements, and stops at the first fault."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from typing import Callable  # noqa: UP035 - the one of collections.abc takes no arguments in 3.8

Count = Callable[[int], None]
Task = Callable[[Count], object]

THREADS = 4  # over loopback one is nearly as quick; from another machine they hide its distance
REPORT_SECONDS = 0.2


class Abandoned(Exception):
    """Raised inside a task when another one failed, or the caller gave up."""


class _Crowd:
    def __init__(self, tasks: Sequence[Task]) -> None:
        self.condition = threading.Condition()
        self.tasks = tasks
        self.next_index = 0
        self.moved = 0
        self.running = 0
        self.fault: BaseException | None = None

    def count(self, size: int) -> None:
        with self.condition:
            if self.fault is not None:
                raise Abandoned
            self.moved += size

    def take(self) -> Task | None:
        with self.condition:
            if self.fault is not None or self.next_index == len(self.tasks):
                self.running -= 1
                self.condition.notify_all()
                return None
            self.next_index += 1
            return self.tasks[self.next_index - 1]

    def stop(self, fault: BaseException) -> None:
        with self.condition:
            if self.fault is None:
                self.fault = fault
            self.condition.notify_all()

    def work(self) -> None:
        while True:
            task = self.take()
            if task is None:
                return
            try:
                task(self.count)
            except BaseException as fault:  # noqa: BLE001 - handed to the caller's thread as it is
                self.stop(fault)


def run_all(
    tasks: Sequence[Task], progress: Callable[[int], None] | None = None, *, threads: int = THREADS
) -> int:
    """Run every task and return the bytes they counted; raise the first fault once all stopped.

    `progress` is told the bytes so far, in the caller's thread; it may raise to give up.
    """
    if len(tasks) <= 1:
        return _run_here(tasks, progress)
    crowd = _Crowd(tasks)
    crowd.running = min(threads, len(tasks))
    workers = [
        threading.Thread(target=crowd.work, name=f"transfer-{index}", daemon=True)
        for index in range(crowd.running)
    ]
    for worker in workers:
        worker.start()
    while True:
        with crowd.condition:
            if crowd.running:
                crowd.condition.wait(REPORT_SECONDS)
            moved, running = crowd.moved, crowd.running
        if progress is not None and crowd.fault is None:
            try:
                progress(moved)
            except BaseException as fault:  # noqa: BLE001 - raised below, when the workers stopped
                crowd.stop(fault)
        if not running:
            break
    for worker in workers:
        worker.join()
    if crowd.fault is not None:
        raise crowd.fault
    return crowd.moved


def _run_here(tasks: Sequence[Task], progress: Callable[[int], None] | None) -> int:
    moved = 0

    def count(size: int) -> None:
        nonlocal moved
        moved += size
        if progress is not None:
            progress(moved)

    for task in tasks:
        task(count)
    return moved
