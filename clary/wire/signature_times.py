"""When a signed request is too old, too new, or its presigned URL has expired."""

from __future__ import annotations

import calendar
import re
import time
from functools import lru_cache

from clary.model.errors import ApiError
from clary.wire.signature_errors import Style, refusal

SKEW_SECONDS_MAX = 15 * 60

_ISO_BASIC = re.compile(r"\d{8}T\d{6}Z")


def check_time(stamp: str, date: str, expires: int | None, now: float, style: Style) -> None:
    """Raise unless the request was signed within 15 minutes of `now`, or its URL still lives.

    `stamp` is the signed X-Amz-Date, `date` that of the credential scope, `expires` the life of
    a presigned URL.
    """
    when = epoch_of(stamp)
    if when is None:
        message = (
            f"Date must be in ISO-8601 'basic format'. Got '{stamp[:64]}'. "
            "See http://en.wikipedia.org/wiki/ISO_8601"
        )
        raise refusal("incomplete", style, message)
    if date != stamp[:8]:
        message = (
            "Date in Credential scope does not match YYYYMMDD from ISO-8601 version of date"
            " from HTTP: "
            f"'{date}' != '{stamp[:8]}', from '{stamp}'."
        )
        raise refusal("mismatch", style, message)
    if expires is not None:
        _check_presigned(stamp, when, expires, now, style)
    elif style == "s3" and abs(now - when) > SKEW_SECONDS_MAX:
        message = "The difference between the request time and the current time is too large."
        raise refusal(
            "skewed",
            style,
            message,
            RequestTime=stamp,
            ServerTime=_iso(now),
            MaxAllowedSkewMilliseconds=str(SKEW_SECONDS_MAX * 1000),
        )
    elif now - when > SKEW_SECONDS_MAX:
        raise _too_old(stamp, now, SKEW_SECONDS_MAX, style)
    elif when - now > SKEW_SECONDS_MAX:
        raise _too_new(stamp, now, style)


def _check_presigned(stamp: str, when: int, seconds: int, now: float, style: Style) -> None:
    if now - when > seconds:
        if style != "s3":
            raise _too_old(stamp, now, seconds, style)
        times = {"Expires": _iso(when + seconds), "ServerTime": _iso(now)}
        raise refusal(
            "expired", style, "Request has expired", **{"X-Amz-Expires": str(seconds)}, **times
        )
    if when - now > SKEW_SECONDS_MAX:
        if style != "s3":
            raise _too_new(stamp, now, style)
        raise refusal("expired", style, "Request is not yet valid", ServerTime=_iso(now))


def _too_old(signed: str, now: float, seconds: int, style: Style) -> ApiError:
    current, limit = stamp_of(now), stamp_of(now - seconds)
    span = f"{seconds // 60} min" if seconds % 60 == 0 else f"{seconds} sec"
    message = f"Signature expired: {signed} is now earlier than {limit} ({current} - {span}.)"
    return refusal("skewed", style, message)


def _too_new(signed: str, now: float, style: Style) -> ApiError:
    current, limit = stamp_of(now), stamp_of(now + SKEW_SECONDS_MAX)
    message = (
        f"Signature not yet current: {signed} is still later than {limit} ({current} + 15 min.)"
    )
    return refusal("skewed", style, message)


def _iso(epoch: float) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(epoch))


@lru_cache(1024)
def epoch_of(stamp: str) -> int | None:
    """Epoch seconds of YYYYMMDDTHHMMSSZ, None if it is not of that form."""
    if not _ISO_BASIC.fullmatch(stamp):
        return None
    try:
        return calendar.timegm(time.strptime(stamp, "%Y%m%dT%H%M%SZ"))
    except ValueError:
        return None


def stamp_of(epoch: float) -> str:
    return time.strftime("%Y%m%dT%H%M%SZ", time.gmtime(epoch))


def is_stamp(text: str) -> bool:
    return _ISO_BASIC.fullmatch(text) is not None
