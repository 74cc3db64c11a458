"""References to S3 objects, in every spelling that clients use."""

from __future__ import annotations

import re
from urllib.parse import unquote

from clary.model.errors import ValidationException

_PATH_STYLE = re.compile(r"https?://s3[.-][^/]*amazonaws\.com(?:\.cn)?/([^/]+)/?(.*)")
_HOST_STYLE = re.compile(r"https?://([^/]+)\.s3[.-][^/]*amazonaws\.com(?:\.cn)?/?(.*)")


def parse_s3_uri(text: str) -> tuple[str, str]:
    """(bucket, key) of `s3://b/k` or an S3 web address; raise ValidationException for anything else."""
    if text.startswith("s3://"):
        bucket, _, key = text.removeprefix("s3://").partition("/")
        if bucket:
            return bucket, key
    for pattern in (_PATH_STYLE, _HOST_STYLE):
        found = pattern.fullmatch(text)
        if found:
            return found.group(1), unquote(found.group(2))
    raise ValidationException(
        f"Invalid S3Uri provided: '{text}' is not of the form s3://bucket/key."
    )


def join_s3_uri(prefix: str, *names: str) -> str:
    """Names below a prefix; the slashes where they meet are made one, those inside are the user's own."""
    return "/".join([prefix.rstrip("/"), *(name.strip("/") for name in names)])
