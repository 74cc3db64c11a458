"""Conditional requests: If-Match and its kin, for readers, writers and sources of copies."""

from __future__ import annotations

from collections.abc import Mapping
from email.utils import formatdate, parsedate_to_datetime
from functools import lru_cache

from clary.dataplane.objects.errors import HEADERS, not_implemented
from clary.model.errors import ApiError
from clary.store.objects import Condition, ObjectInfo


def etags(text: str) -> tuple[str, ...]:
    """The ETags of a header, without quotes; "*" stands for any."""
    found = (tag.strip().removeprefix("W/").strip('"') for tag in text.split(","))
    return tuple(tag for tag in found if tag)


def seconds(text: str) -> int | None:
    """Epoch seconds of an HTTP date; None, which is no condition, if it cannot be read."""
    if not text:
        return None
    try:
        return int(parsedate_to_datetime(text).timestamp())
    except (ValueError, TypeError):
        return None


@lru_cache(8192)
def http_date(epoch: int) -> str:
    return formatdate(epoch, usegmt=True)


def check_read(info: ObjectInfo, headers: Mapping[str, str], prefix: str = "") -> None:
    """Raise PreconditionFailed, or 304, as RFC 9110 orders the conditions; `prefix` is that of a copy's source,
    whose failed conditions are all 412."""
    modified = int(info.modified)
    match, none_match = headers.get(f"{prefix}if-match"), headers.get(f"{prefix}if-none-match")
    before = seconds(headers.get(f"{prefix}if-unmodified-since", ""))
    after = seconds(headers.get(f"{prefix}if-modified-since", ""))
    if match is not None and not {"*", info.etag} & set(etags(match)):
        raise precondition_failed("If-Match")
    if match is None and before is not None and modified > before:
        raise precondition_failed("If-Unmodified-Since")
    if none_match is not None and {"*", info.etag} & set(etags(none_match)):
        raise precondition_failed("If-None-Match") if prefix else not_modified(info)
    if none_match is None and after is not None and modified <= after:
        raise precondition_failed("If-Modified-Since") if prefix else not_modified(info)


def precondition_failed(condition: str) -> ApiError:
    return ApiError(
        "At least one of the pre-conditions you specified did not hold",
        code="PreconditionFailed",
        status=412,
        Condition=condition,
    )


def not_modified(info: ObjectInfo) -> ApiError:
    headers = {"etag": f'"{info.etag}"', "last-modified": http_date(int(info.modified))}
    return ApiError("Not Modified", code="NotModified", status=304, **{HEADERS: headers})


def of_write(headers: Mapping[str, str]) -> Condition | None:
    """The condition of a PUT: only `If-None-Match: *` and If-Match exist."""
    match, none_match = headers.get("if-match"), headers.get("if-none-match")
    if match is None and none_match is None:
        return None
    if none_match is not None and (none_match.strip() != "*" or match is not None):
        raise not_implemented("If-None-Match with other than *")
    return Condition(etags(match or ""), etags(none_match or ""))


def of_deletion(headers: Mapping[str, str]) -> Condition | None:
    match = headers.get("if-match")
    size = headers.get("x-amz-if-match-size", "")
    modified = seconds(headers.get("x-amz-if-match-last-modified-time", ""))
    if match is None and not size and modified is None:
        return None
    return Condition(
        etags(match or ""), size=int(size) if size.isdigit() else None, modified=modified
    )
