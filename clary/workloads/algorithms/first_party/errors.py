"""The errors of the first-party algorithms, in the words of their containers."""

from __future__ import annotations

from clary.workloads.algorithms.errors import UserError


class ClientError(UserError):
    """The job's data or configuration is wrong; its owner can mend it."""


def unreadable(channel: str, content_type: str, cause: str) -> ClientError:
    """The data of a channel is not what the job says it is; `cause` names the place."""
    return ClientError(
        f"Unable to read data channel '{channel}'. Requested content-type is '{content_type}'. "
        f"Please verify the data matches the requested content-type. (caused by: {cause})"
    )
