"""What goes wrong in an algorithm, by who can help it."""

from __future__ import annotations


class UserError(Exception):
    """The job asks for something that cannot be; its owner can mend it."""


class AlgorithmError(Exception):
    """The algorithm failed for a reason of its own."""


class RequestRefused(Exception):
    """An inference request that is answered with an HTTP error status and a text."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status
        self.message = message
