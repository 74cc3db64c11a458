"""Faults that the user caused: what the runner reports as `ClientError: <text>`."""

from __future__ import annotations

import errno

from .s3_answers import S3Error

DOWNLOAD = "Data download failed:"
UPLOAD = "Artifact upload failed:"
_OWN_ERRNOS = frozenset(
    (errno.ENOSPC, errno.EDQUOT, errno.ENAMETOOLONG, errno.EACCES, errno.EPERM, errno.EFBIG)
)


class ClientFault(Exception):
    """The text is SageMaker's wording without its `ClientError: ` prefix."""


def blame(prefix: str, problem: Exception) -> Exception:
    """The ClientFault that a problem amounts to; the problem itself where the user is not at fault.

    S3 answering with a 4xx, a full disk and an impossible name are the user's to mend; a server
    that fails or cannot be reached is not.
    """
    if isinstance(problem, S3Error) and problem.status < 500:
        return ClientFault(f"{prefix}{problem}: {problem.where}")
    if isinstance(problem, OSError) and problem.errno in _OWN_ERRNOS:
        where = f": {problem.filename}" if isinstance(problem.filename, str) else ""
        return ClientFault(f"{prefix}{problem.strerror}{where}")
    return problem
