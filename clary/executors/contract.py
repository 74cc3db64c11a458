"""What every executor promises: start hosts at most once, tell the truth about them, stop them, forget them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol

from clary.reconcile.observations import Observation


class LaunchError(Exception):
    """Some host was not started; nothing is known to be wrong with its spec, so it may be tried again."""


class Executor(Protocol):
    """Where work runs. Called by the reconcile loop only, from any of its threads, for many works at once.

    A host is known by its directory, whose path holds the work and the generation. Every method may be
    repeated after a crash of the caller, at any point, with the same arguments, and then changes nothing.
    """

    def launch(self, specs: Sequence[dict[str, Any]]) -> None:
        """Start the hosts of one generation, each by its spec (`directory` says where).

        Idempotent: a host that runs, ran, or was halted before it ran is not started again. Returns once
        each host is running or known not to start again. Raises LaunchError when that cannot be said;
        some hosts may run then, and repeating the call is right.
        """
        ...

    def observe(self, directories: Sequence[Path]) -> list[Observation]:
        """What is known of each host, in the order asked; never raises for a host, never waits.

        Absent only where nothing was ever started; Exited only where nothing runs any more, with result
        "lost" where that is proven and no outcome was left; Unknown where it cannot be told.
        """
        ...

    def halt(self, directories: Sequence[Path]) -> None:
        """Ask hosts to stop, with the grace that their specs give; returns at once.

        A host that was never started never will be: if launched later it ends as stopped. A host that
        has ended is left as it is.
        """
        ...

    def warm(self, prefix: Path, preload: Sequence[str]) -> Path | None:
        """Have a parent of this environment's programs ready to fork; its socket, None where there is no such thing.

        Cheap to repeat. A host whose parent is not ready yet starts afresh.
        """
        ...

    def forget(self, directories: Sequence[Path]) -> None:
        """Remove everything that hosts left on this machine. Refuses, with RuntimeError, while one runs."""
        ...
