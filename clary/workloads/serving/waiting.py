"""Answers every request with 503 while the model is still loading."""

from __future__ import annotations

import selectors
import socket
import threading
import time

ANSWER = (
    b"HTTP/1.1 503 Service Unavailable\r\nContent-Type: text/plain\r\nConnection: close\r\n"
    b"Content-Length: 21\r\n\r\nThe model is loading."
)
VISITORS_MAX = 256
VISIT_SECONDS = 2.0


class WaitingRoom:
    """A context in which a thread of its own accepts, answers 503 and hangs up."""

    def __init__(self, listener: socket.socket) -> None:
        self._listener = listener
        self._leave, self._left = socket.socketpair()
        self._thread = threading.Thread(target=self._serve, name="clary-waiting", daemon=True)

    def __enter__(self) -> WaitingRoom:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._leave.close()
        self._thread.join()
        self._left.close()

    def _serve(self) -> None:
        visitors: dict[socket.socket, float] = {}
        with selectors.DefaultSelector() as selector:
            selector.register(self._left, selectors.EVENT_READ)
            selector.register(self._listener, selectors.EVENT_READ)
            while True:
                ready = [key.fileobj for key, _ in selector.select(timeout=0.5)]
                for source in ready:
                    if source is self._listener:
                        self._admit(selector, visitors)
                    elif isinstance(source, socket.socket) and source in visitors:
                        self._dismiss(selector, visitors, source)
                now = time.monotonic()
                leaving = self._left in ready
                for visitor in [v for v, since in visitors.items() if leaving or _late(since, now)]:
                    self._dismiss(selector, visitors, visitor)
                if leaving:
                    return

    def _admit(
        self, selector: selectors.BaseSelector, visitors: dict[socket.socket, float]
    ) -> None:
        try:
            visitor, _ = self._listener.accept()
        except OSError:
            return
        visitor.setblocking(False)
        if len(visitors) >= VISITORS_MAX:
            visitor.close()
            return
        visitors[visitor] = time.monotonic()
        selector.register(visitor, selectors.EVENT_READ)

    def _dismiss(
        self,
        selector: selectors.BaseSelector,
        visitors: dict[socket.socket, float],
        visitor: socket.socket,
    ) -> None:
        del visitors[visitor]
        selector.unregister(visitor)
        try:
            visitor.recv(1 << 16)
            visitor.send(ANSWER)
            visitor.shutdown(socket.SHUT_WR)
        except OSError:
            # The visitor has gone or sent nothing yet; either way there is nobody to tell.
            visitor.close()
            return
        visitor.close()


def _late(since: float, now: float) -> bool:
    return now - since > VISIT_SECONDS
