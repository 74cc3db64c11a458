"""A full disk, however a driver or the system says it, and what the client is told of it."""

from __future__ import annotations

import errno
import sqlite3

from sqlalchemy.exc import DBAPIError

from clary.model.errors import ApiError, ResourceLimitExceeded

_POSTGRESQL_DISK_FULL = "53100"


def is_disk_full(problem: BaseException) -> bool:
    if isinstance(problem, DBAPIError):
        return problem.orig is not None and is_disk_full(problem.orig)
    if isinstance(problem, sqlite3.Error):
        return getattr(problem, "sqlite_errorcode", None) == sqlite3.SQLITE_FULL
    if isinstance(problem, OSError):
        return problem.errno in (errno.ENOSPC, errno.EDQUOT)
    return getattr(problem, "sqlstate", None) == _POSTGRESQL_DISK_FULL


def object_store_full(problem: BaseException) -> ApiError | None:
    """The error for a full disk; None for another problem. Of a kind that clients do not retry."""
    if not is_disk_full(problem):
        return None
    message = "The disk that holds the object store is full. Free some space and try again."
    return ApiError(message, code="QuotaExceeded", status=400)


def home_full(problem: BaseException) -> ApiError | None:
    """As `object_store_full`, of everything else that Clary stores."""
    if not is_disk_full(problem):
        return None
    return ResourceLimitExceeded(
        "The disk that holds Clary's home or database is full; nothing was changed. Free some space and try again."
    )
