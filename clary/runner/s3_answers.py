"""What S3 says in XML and in headers: listings, errors and checksums."""

from __future__ import annotations

import base64
import re
from collections.abc import Mapping
from typing import NamedTuple
from urllib.parse import unquote_plus
from xml.parsers import expat

from .connections import Answer

RETRIED_CODES = frozenset(
    ("SlowDown", "InternalError", "ServiceUnavailable", "RequestTimeout", "Throttling")
)
EXPIRED_CODES = frozenset(("ExpiredToken", "ExpiredTokenException", "InvalidToken"))
UNFIT_FOR_XML = re.compile("[\x00-\x08\x0b-\x1f\ufffe\uffff]")
_BARE_CODES = {
    403: ("Forbidden", "Access Denied"),
    404: ("NoSuchKey", "The specified key does not exist."),
    412: ("PreconditionFailed", "The object has changed."),
}


class S3Error(Exception):
    """What S3 answered when it did not do what was asked."""

    def __init__(self, status: int, code: str, message: str, where: str = "") -> None:
        self.status = status
        self.code = code
        self.message = message
        self.where = where  # s3://bucket/key
        super().__init__(f"{code} ({status}): {message}")

    @property
    def may_pass(self) -> bool:
        """Whether the same request may be answered otherwise a little later."""
        return self.status >= 500 or self.code in RETRIED_CODES or self.code in EXPIRED_CODES


class Listed(NamedTuple):
    key: str
    size: int
    etag: str


def uri_of(bucket: str, key: str) -> str:
    return f"s3://{bucket}/{key}" if key else f"s3://{bucket}"


def escape(text: str) -> str:
    """Text as an XML element holds it."""
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


def text_of(name: bytes, body: bytes) -> str:
    """The text of the first element of that name, empty where there is none."""
    found = re.search(rb"<" + name + rb">([^<]*)</" + name + rb">", body)
    if found is None:
        return ""
    text = found.group(1).decode("utf-8", "replace")
    for escaped, plain in (("&lt;", "<"), ("&gt;", ">"), ("&quot;", '"'), ("&amp;", "&")):
        text = text.replace(escaped, plain)
    return text


def read_error(answer: Answer, bucket: str, key: str) -> S3Error:
    """The error that an answer carries, read to its end."""
    body = answer.read(bound=1024 * 1024)
    code = text_of(b"Code", body)
    message = text_of(b"Message", body)
    if not code:
        code, message = _BARE_CODES.get(answer.status, ("HTTPError", "S3 gave no reason"))
    return S3Error(answer.status, code, message, uri_of(bucket, key))


def raise_hidden_error(body: bytes, bucket: str, key: str) -> None:
    """Copy, complete and delete may answer 200 and tell of a failure in the body."""
    if b"<Error>" in body:
        code, message = text_of(b"Code", body), text_of(b"Message", body)
        raise S3Error(200, code, message, uri_of(bucket, key))


def crc_value(headers: Mapping[str, str]) -> int | None:
    """The CRC32 of the whole body, where the server sent one."""
    text = headers.get("x-amz-checksum-crc32", "")
    # "-3" ends the checksum of the checksums of three parts, which says nothing of the whole.
    if not text or "-" in text or headers.get("x-amz-checksum-type") == "COMPOSITE":
        return None
    try:
        return int.from_bytes(base64.b64decode(text), "big")
    except ValueError:
        return None


def parse_page(body: bytes) -> tuple[list[Listed], str]:
    """The objects of one page of ListObjectsV2, and the next page's token, empty at the end."""
    found: list[Listed] = []
    record: dict[str, str] = {}
    page: dict[str, str] = {}
    stack: list[str] = []
    text: list[str] = []

    def start(name: str, attributes: object) -> None:
        stack.append(name)
        text.clear()
        if name == "Contents":
            record.clear()

    def end(name: str) -> None:
        stack.pop()
        if name == "Contents":
            found.append(Listed(record["Key"], int(record["Size"]), record.get("ETag", "")))
        elif stack and stack[-1] == "Contents":
            record[name] = "".join(text)
        elif len(stack) == 1:
            page[name] = "".join(text)

    parser = expat.ParserCreate()
    parser.StartElementHandler = start
    parser.EndElementHandler = end
    parser.CharacterDataHandler = text.append
    try:
        parser.Parse(body, True)
    except (expat.ExpatError, KeyError, ValueError) as problem:
        raise S3Error(500, "InternalError", f"the listing cannot be read: {problem}") from problem
    if page.get("EncodingType") == "url":
        found = [item._replace(key=unquote_plus(item.key)) for item in found]
    token = page.get("NextContinuationToken", "") if page.get("IsTruncated") == "true" else ""
    return found, token
