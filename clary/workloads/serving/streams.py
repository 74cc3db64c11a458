"""An answer whose body a model makes piece by piece.

    model's thread:  next() ─▶ piece        next() ─▶ piece        close(), if the client has gone
    event loop:                └─▶ write ─▶ pull ─┘  └─▶ write ...

The next piece is asked for when the last one has been written and the connection takes more, so a
slow client slows its model's iterator down and nothing piles up. Between two pieces the thread is
free for other requests.
"""

from __future__ import annotations

import logging
import time
from asyncio import CancelledError
from collections.abc import Callable, Iterator
from typing import Any, Protocol

log = logging.getLogger("clary.serving")

# What a model's code may raise without ending the server; some scripts call sys.exit().
FOREIGN = (Exception, SystemExit, CancelledError, GeneratorExit)
_END = object()
_FAILED = object()


class Thread(Protocol):
    """Where pieces are made; see worker.py."""

    def run(
        self, work: Callable[[Any], Any], subject: Any, finished: Callable[[Any, Any], None]
    ) -> None: ...


class Sink(Protocol):
    """Where pieces go: the connection that waits for them."""

    def write(self, piece: bytes) -> bool:
        """Send a piece; False while no more should come."""
        ...

    def end(self) -> None: ...

    def fail(self) -> None:
        """End in a way that the client cannot take for the end of the answer."""
        ...


def is_stream(result: Any) -> bool:
    """Say whether a handler's result is an iterator of pieces."""
    return hasattr(result, "__next__") and hasattr(result, "__iter__")


class Stream:
    """The rest of one answer: an iterator in the model's thread, and who waits for its pieces."""

    def __init__(self, pieces: Iterator[Any]) -> None:
        self._pieces = pieces
        self._first: Any = None
        self._thread: Thread | None = None
        self._sink: Sink | None = None
        self._busy = False
        self._ended = False
        self._finished: Callable[[Stream], None] = _nothing
        self.pulled = 0.0

    def open(self) -> Stream:
        """Make the first piece, in the model's thread: until then an error is a plain answer."""
        self._first = self._next()
        return self

    def attach(self, thread: Thread, finished: Callable[[Stream], None]) -> None:
        """Name the thread for the further pieces, and who hears when there are no more."""
        self._thread = thread
        self._finished = finished

    def start(self, sink: Sink) -> None:
        """Begin to send, on the event loop."""
        self._sink = sink
        first, self._first = self._first, None
        self._hand(first)

    def pull(self) -> None:
        """Ask for the next piece, unless it is being made."""
        if self._busy or self._ended or self._thread is None:
            return
        self._busy = True
        self.pulled = time.monotonic()
        self._thread.run(Stream._take, self, Stream._hand)

    def cancel(self) -> None:
        """The client has gone: let the iterator clean up, in its own thread."""
        if self._ended:
            return
        self._close()
        self._clean_up()

    def fail(self) -> None:
        """Break the answer off."""
        if self._ended:
            return
        sink = self._sink
        self._close()
        self._clean_up()
        if sink is not None:
            sink.fail()

    @property
    def waits_since(self) -> float:
        """When the piece that is being made was asked for; 0 if none is."""
        return self.pulled if self._busy else 0.0

    def _close(self) -> None:
        self._ended = True
        self._finished(self)

    def _clean_up(self) -> None:
        if self._thread is not None:
            self._thread.run(Stream._dispose, self, _ignore)

    def _hand(self, outcome: Any) -> None:
        """Pass a piece on; called on the event loop."""
        self._busy = False
        if self._ended or self._sink is None:
            return
        if outcome is _END:
            self._close()
            self._sink.end()
        elif outcome is _FAILED:
            self.fail()
        elif self._sink.write(outcome):
            self.pull()

    def _take(self) -> Any:
        if self._ended:
            return _END
        try:
            return self._next()
        except FOREIGN:
            log.exception("The stream broke off.")
            return _FAILED

    def _next(self) -> Any:
        """The next piece with something in it: an empty chunk would end the answer."""
        for piece in self._pieces:
            content = piece.encode("utf-8") if isinstance(piece, str) else piece
            if not isinstance(content, (bytes, bytearray, memoryview)):
                raise TypeError(
                    f"the stream yielded {type(piece).__name__}; it must yield text or bytes"
                )
            if len(content):
                return bytes(content)
        return _END

    def _dispose(self) -> None:
        close = getattr(self._pieces, "close", None)
        if close is None:
            return
        try:
            close()
        except FOREIGN:
            log.exception("The stream could not be closed.")


def _nothing(stream: Stream) -> None:
    """Nobody waits for the end."""


def _ignore(subject: Any, outcome: Any) -> None:
    """Nobody waits for the outcome."""
