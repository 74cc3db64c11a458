"""What goes wrong in an algorithm, by who can help it."""

from __future__ import annotations


class UserError(Exception):
    """The job asks for something that cannot be; its owner can mend it."""


class AlgorithmError(Exception):
    """The algorithm failed for a reason of its own."""
