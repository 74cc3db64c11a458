"""The checksums of S3 uploads: which one is promised, where, and whether it holds.

A client promises a checksum in a header, or in a trailer after an aws-chunked body; it is verified, kept with the
object, and given back to readers of the whole object. Of a multipart object it is either the checksum of the parts'
checksums (COMPOSITE), or, for the CRCs, of all bytes (FULL_OBJECT), joined from the parts' without reading them again.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import zlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from anycrc import Model

from clary.dataplane.objects.errors import invalid_argument
from clary.model.errors import ApiError

PREFIX = "x-amz-checksum-"
FULL_OBJECT = "FULL_OBJECT"
COMPOSITE = "COMPOSITE"


class Digest(Protocol):
    def update(self, data: bytes | memoryview, /) -> object: ...

    def digest(self) -> bytes: ...


class Crc:
    """A cyclic redundancy check with the interface of hashlib."""

    __slots__ = ("_function", "_size", "_value")

    def __init__(self, function: Callable[[Any, int], int], size: int) -> None:
        self._function = function
        self._size = size
        self._value = 0

    def update(self, data: bytes | memoryview, /) -> None:
        self._value = self._function(data, self._value)

    def digest(self) -> bytes:
        return self._value.to_bytes(self._size, "big")


@dataclass(frozen=True, slots=True)
class Algorithm:
    name: str
    size: int  # bytes
    start: Callable[[], Digest]
    join: Callable[[int, int, int], int] | None = None  # of two checksums and the second's length

    @property
    def header(self) -> str:
        return PREFIX + self.name.lower()


_CRC32, _CRC32C, _CRC64 = Model("CRC32"), Model("CRC32C"), Model("CRC64-NVME")

ALGORITHMS = {
    found.name: found
    for found in (
        Algorithm("CRC32", 4, lambda: Crc(zlib.crc32, 4), _CRC32.combine),
        Algorithm("CRC32C", 4, lambda: Crc(_CRC32C.calc, 4), _CRC32C.combine),
        Algorithm("CRC64NVME", 8, lambda: Crc(_CRC64.calc, 8), _CRC64.combine),
        Algorithm("SHA1", 20, lambda: hashlib.sha1(usedforsecurity=False)),
        Algorithm("SHA256", 32, hashlib.sha256),
    )
}
BY_HEADER = {algorithm.header: algorithm for algorithm in ALGORITHMS.values()}


@dataclass(slots=True)
class Promise:
    """The checksums promised for one body; `algorithm` is None when there is only a Content-MD5, or none."""

    algorithm: Algorithm | None
    value: str  # empty while it is still to come in a trailer, or only the algorithm was named
    trailing: bool
    md5: bytes
    digest: Digest | None

    @property
    def digests(self) -> list[Digest]:
        return [self.digest] if self.digest else []

    def check(self, md5: bytes, trailers: Mapping[str, str]) -> dict[str, str]:
        """Raise BadDigest unless everything promised holds; return the checksums to keep."""
        if self.md5 and self.md5 != md5:
            raise ApiError(
                "The Content-MD5 you specified did not match what we received.",
                code="BadDigest",
                status=400,
                ExpectedDigest=base64.b64encode(self.md5).decode(),
                CalculatedDigest=base64.b64encode(md5).decode(),
            )
        if self.algorithm is None or self.digest is None:
            return {}
        value = self.value
        if self.trailing:
            value = trailers.get(self.algorithm.header, "")
            if not value:
                raise ApiError(
                    "The request did not carry the trailing checksum that it announced.",
                    code="MalformedTrailerError",
                    status=400,
                )
            _check_form(self.algorithm, value)
        computed = base64.b64encode(self.digest.digest()).decode()
        if value and value != computed:
            raise ApiError(
                f"The {self.algorithm.name} you specified did not match the calculated checksum.",
                code="BadDigest",
                status=400,
            )
        return {self.algorithm.name: computed}


def promised(headers: Mapping[str, str], default: str = "") -> Promise:
    """What the head of a request promises of its body; `default` is the algorithm to keep without a promise."""
    named = {header: found for header, found in BY_HEADER.items() if header in headers}
    if len(named) > 1:
        raise _invalid(
            "Expecting a single x-amz-checksum- header. Multiple checksum Types are not allowed."
        )
    trailing = [
        BY_HEADER[name]
        for name in map(str.strip, headers.get("x-amz-trailer", "").lower().split(","))
        if name in BY_HEADER
    ]
    if len(trailing) + len(named) > 1:
        raise _invalid("Expecting a single x-amz-checksum- header")
    algorithm, value = None, ""
    if named:
        header, algorithm = next(iter(named.items()))
        value = headers[header]
        _check_form(algorithm, value)
    elif trailing:
        algorithm = trailing[0]
    elif default:
        algorithm = ALGORITHMS[default]
    declared = headers.get("x-amz-sdk-checksum-algorithm", "")
    if declared and declared.upper() not in ALGORITHMS:
        raise invalid_argument("Checksum algorithm provided is unsupported.")
    return Promise(
        algorithm,
        value,
        bool(trailing),
        _content_md5(headers.get("content-md5", "")),
        algorithm.start() if algorithm else None,
    )


def _content_md5(text: str) -> bytes:
    if not text:
        return b""
    try:
        found = base64.b64decode(text, validate=True)
    except binascii.Error:
        found = b""
    if len(found) != 16:
        message = "The Content-MD5 you specified was invalid."
        raise ApiError(message, code="InvalidDigest", status=400, **{"Content-MD5": text})
    return found


def _check_form(algorithm: Algorithm, value: str) -> None:
    try:
        right = len(base64.b64decode(value, validate=True)) == algorithm.size
    except binascii.Error:
        right = False
    if not right:
        raise _invalid(f"Value for {algorithm.header} header is invalid.")


def _invalid(message: str) -> ApiError:
    return ApiError(message, code="InvalidRequest", status=400)


def upload_algorithm(headers: Mapping[str, str]) -> tuple[str, str]:
    """The checksum algorithm and type that CreateMultipartUpload asks for; raise for impossible pairs."""
    name = headers.get("x-amz-checksum-algorithm", "").upper()
    kind = headers.get("x-amz-checksum-type", "").upper()
    if not name:
        if kind:
            raise _invalid(
                "The x-amz-checksum-type header can only be used with the x-amz-checksum-algorithm header."
            )
        return "", ""
    algorithm = ALGORITHMS.get(name)
    if algorithm is None:
        raise _invalid("Checksum algorithm provided is unsupported. Please try again with any of the valid types: [CRC32, CRC32C, CRC64NVME, SHA1, SHA256]")  # fmt: skip  # noqa: E501
    kind = kind or (FULL_OBJECT if name == "CRC64NVME" else COMPOSITE)
    impossible = (kind == FULL_OBJECT and algorithm.join is None) or (
        kind == COMPOSITE and name == "CRC64NVME"
    )
    if impossible or kind not in (FULL_OBJECT, COMPOSITE):
        raise _invalid(
            f"The {kind} checksum type cannot be used with the {name} checksum algorithm."
        )
    return name, kind


def joined(name: str, kind: str, parts: Sequence[tuple[int, str]]) -> str:
    """The checksum of an object from its parts' sizes and checksums; empty when a part has none."""
    algorithm = ALGORITHMS[name]
    values = [base64.b64decode(value) for _, value in parts]
    if not values or not all(values):
        return ""
    if kind == COMPOSITE or algorithm.join is None:
        digest = algorithm.start()
        digest.update(b"".join(values))
        return f"{base64.b64encode(digest.digest()).decode()}-{len(values)}"
    whole = int.from_bytes(values[0], "big")
    for (size, _), value in zip(parts[1:], values[1:], strict=True):
        whole = algorithm.join(whole, int.from_bytes(value, "big"), size)
    return base64.b64encode(whole.to_bytes(algorithm.size, "big")).decode()


def headers_of(checksums: Mapping[str, str], kind: str) -> dict[str, str]:
    """The answer's headers for kept checksums."""
    found = {PREFIX + name.lower(): value for name, value in checksums.items()}
    if found:
        found["x-amz-checksum-type"] = kind or FULL_OBJECT
    return found
