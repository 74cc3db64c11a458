"""What a host has beside its program, as the life of a host asks for it: data in, lines and data out."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

from clary.runner.progress import Progress
from clary.runner.spec import HostSpec


class Parts(Protocol):
    """Called in this order, by one thread each time; ClientFault is the user's to mend."""

    def stage(self) -> object:
        """Lay out /opt/ml with data and checkpoints; gives up soon when `Progress.stopping` is set."""
        ...

    def begin(self) -> object:
        """Start what goes on beside the program. Raises ClientFault."""
        ...

    def write(self, line: bytes) -> object:
        """Take one line of output, without its end; may wait, which slows the program down."""
        ...

    def fault(self) -> Exception | None:
        """What broke beside the program and leaves it nothing to do; asked again and again."""
        ...

    def end_logs(self) -> object:
        """Ship the last lines, within bounds; the program has ended, or never began."""
        ...

    def metrics(self) -> dict[str, tuple[float, float]]:
        """The last value and time of each metric."""
        ...

    def upload(self, result: str) -> dict[str, Any]:
        """Store what this result calls for. Raises ClientFault."""
        ...


MakeParts = Callable[[HostSpec, Progress], Parts]
