"""What goes wrong in an algorithm, by who can help it."""

from __future__ import annotations


class UserError(Exception):
    """The job asks for something that cannot be; its owner can mend it."""


class AlgorithmError(Exception):
    """The algorithm failed for a reason of its own."""


def reason_of(problem: Exception) -> str:
    """How a job's FailureReason begins, by who can help it."""
    if isinstance(problem, UserError):
        return f"ClientError: {problem}"
    if isinstance(problem, AlgorithmError):
        return f"AlgorithmError: {problem}"
    return f"AlgorithmError: {type(problem).__name__}: {problem}"
