"""PostObject: an upload from a browser's form, allowed by the policy document that was signed with it."""

from __future__ import annotations

import base64
import binascii
import json
import time
from calendar import timegm
from email.message import Message
from typing import Any
from urllib.parse import quote

from clary.dataplane.bodies import ClientGone
from clary.dataplane.objects.errors import access_denied
from clary.dataplane.objects.metadata_headers import metadata_of, version_header
from clary.dataplane.objects.request import Answer, S3Request
from clary.dataplane.objects.service import Service
from clary.dataplane.objects.xml import document
from clary.model.errors import ApiError
from clary.store.object_writer import ObjectWriter

FIELDS_BYTES_MAX = 64 * 1024
# Fields that a policy need not speak of.
FREE = frozenset({"policy", "file", "x-amz-signature", "signature", "awsaccesskeyid", "submit"})


async def post_object(service: Service, request: S3Request) -> Answer:
    boundary = _boundary(request.header("content-type"))
    bucket = service.objects.settings.get(request.bucket)
    form = _Form(request, boundary)
    fields = await form.read_fields()
    fields["bucket"] = request.bucket
    request.caller = service.authenticator.authenticate_form(fields)
    key = fields.get("key", "").replace("${filename}", form.file_name)
    if not key:
        raise _invalid("Bucket POST must contain a field named 'key'.  If it is specified, please check the order of the fields.")  # fmt: skip  # noqa: E501
    fields["key"] = key
    low, high = check_policy(fields, time.time())
    service.authorise(request, "s3:PutObject", request.bucket, key)
    metadata = metadata_of(fields, bucket)
    with service.objects.writer() as writer:
        await form.write_file(service, writer, high)
        if writer.size < low:
            message = "Your proposed upload is smaller than the minimum allowed size"
            raise ApiError(message, code="EntityTooSmall", status=400)
        metadata.etag = writer.etag
        info = await service.in_thread(
            service.objects.commit, request.bucket, key, writer, metadata
        )
    headers = {"etag": f'"{info.etag}"', **version_header(info, bucket)}
    location = f"http://{request.header('host')}/{quote(request.bucket)}/{quote(key)}"
    return _answer(fields, headers, location, info.bucket, key)


def _answer(
    fields: dict[str, str], headers: dict[str, str], location: str, bucket: str, key: str
) -> Answer:
    redirect = fields.get("success_action_redirect", "")
    if redirect.startswith(("http://", "https://")) and redirect.isprintable():
        mark = "&" if "?" in redirect else "?"
        etag = quote(headers["etag"])
        target = f"{redirect}{mark}bucket={quote(bucket)}&key={quote(key, safe='')}&etag={etag}"
        return Answer(303, {**headers, "location": target})
    headers["location"] = location
    status = fields.get("success_action_status", "")
    if status != "201":
        return Answer(200 if status == "200" else 204, headers)
    content = {"Location": location, "Bucket": bucket, "Key": key, "ETag": headers["etag"]}
    return Answer(201, headers, document("PostResponse", content))


def check_policy(fields: dict[str, str], now: float) -> tuple[int, int]:
    """Raise AccessDenied unless the signed policy still lives and allows every field; return the size range."""
    try:
        policy: dict[str, Any] = json.loads(base64.b64decode(fields["policy"]))
        expires = timegm(time.strptime(policy["expiration"][:19], "%Y-%m-%dT%H:%M:%S"))
        conditions: list[Any] = list(policy["conditions"])
    except (binascii.Error, ValueError, KeyError, TypeError) as problem:
        message = "Invalid Policy: Invalid JSON."
        raise ApiError(message, code="InvalidPolicyDocument", status=400) from problem
    if now > expires:
        raise access_denied("Invalid according to Policy: Policy expired.")
    low, high, spoken = 0, 5 * 1024**3, set(FREE)
    for condition in conditions:
        kind, name, wanted = _condition(condition)
        if kind == "content-length-range":
            low, high = int(name), int(wanted)
            continue
        found = fields.get(name, "")
        holds = found.startswith(wanted) if kind == "starts-with" else found == wanted
        if not holds:
            raise access_denied(f"Invalid according to Policy: Policy Condition failed: {json.dumps(condition)}")  # fmt: skip  # noqa: E501
        spoken.add(name)
    extra = [
        n for n in fields if n not in spoken and not n.startswith("x-ignore-") and n != "bucket"
    ]
    if extra:
        message = f"Invalid according to Policy: Extra input fields: {', '.join(sorted(extra))}"
        raise access_denied(message)
    return low, high


def _condition(condition: Any) -> tuple[str, str, str]:
    """(kind, lower-case field name, value) of either way to write a condition."""
    if isinstance(condition, dict) and len(condition) == 1:
        name, value = next(iter(condition.items()))
        return "eq", str(name).lower(), str(value)
    if isinstance(condition, list) and len(condition) == 3:
        kind, name, value = (str(item) for item in condition)
        kind = kind.lower()
        if kind in ("eq", "starts-with"):
            return kind, name.removeprefix("$").lower(), value
        if kind == "content-length-range" and name.isdigit() and value.isdigit():
            return kind, name, value
    message = "Invalid Policy: Invalid Condition."
    raise ApiError(message, code="InvalidPolicyDocument", status=400)


def _boundary(content_type: str) -> bytes:
    message = Message()
    message["content-type"] = content_type
    boundary = message.get_param("boundary")
    if message.get_content_type() != "multipart/form-data" or not isinstance(boundary, str):
        raise ApiError(
            "Bucket POST must be of the enclosure-type multipart/form-data",
            code="PreconditionFailed",
            status=412,
        )
    return b"\r\n--" + boundary.encode("latin-1")


def _invalid(message: str) -> ApiError:
    return ApiError(message, code="InvalidArgument", status=400)


def _malformed() -> ApiError:
    return ApiError(
        "The body of your POST request is not well-formed multipart/form-data.",
        code="MalformedPOSTRequest",
        status=400,
    )


class _Form:
    """A multipart/form-data body being received: small fields first, then the file."""

    def __init__(self, request: S3Request, boundary: bytes) -> None:
        self._request = request
        self._boundary = boundary
        self._buffer = bytearray(b"\r\n")
        self._more = True
        self.file_name = ""

    async def _receive(self) -> None:
        if not self._more:
            raise _malformed()
        self._request.received = True
        message = await self._request.receive()
        if message["type"] != "http.request":
            raise ClientGone
        self._buffer += message.get("body", b"")
        self._more = bool(message.get("more_body"))

    async def _until(self, mark: bytes) -> bytes:
        while (at := self._buffer.find(mark)) < 0:
            if len(self._buffer) > FIELDS_BYTES_MAX:
                raise ApiError(
                    "Your POST request fields preceding the upload file were too large.",
                    code="MaxPostPreDataLengthExceeded",
                    status=400,
                )
            await self._receive()
        found = bytes(self._buffer[:at])
        del self._buffer[: at + len(mark)]
        return found

    async def read_fields(self) -> dict[str, str]:
        """All fields before the file, with lower-case names; stops where the file's bytes begin."""
        fields: dict[str, str] = {}
        await self._until(self._boundary)
        size = 0
        while True:
            head = await self._until(b"\r\n\r\n")
            if head.startswith(b"--"):
                raise _invalid("POST requires exactly one file upload per request.")
            name, file_name, content_type = _part_head(head)
            if name == "file":
                self.file_name = file_name
                if content_type and "content-type" not in fields:
                    fields.setdefault("content-type", content_type)
                return fields
            value = await self._until(self._boundary)
            size += len(head) + len(value)
            if size > FIELDS_BYTES_MAX or len(fields) > 100:
                raise _invalid("Your POST request fields preceding the upload file were too large.")
            fields[name] = value.decode("utf-8", "replace")

    async def write_file(self, service: Service, writer: ObjectWriter, limit: int) -> None:
        """Write everything up to the boundary; what may be its beginning is held back."""
        while (at := self._buffer.find(self._boundary)) < 0:
            safe = len(self._buffer) - len(self._boundary)
            if safe > 0:
                piece = bytes(self._buffer[:safe])
                del self._buffer[:safe]
                await service.in_thread(writer.write, piece)
            _check_size(writer.size, limit)
            await self._receive()
        writer.write(bytes(self._buffer[:at]))
        _check_size(writer.size, limit)


def _check_size(size: int, limit: int) -> None:
    if size > limit:
        message = "Your proposed upload exceeds the maximum allowed size"
        raise ApiError(message, code="EntityTooLarge", status=400)


def _part_head(head: bytes) -> tuple[str, str, str]:
    """(lower-case field name, file name, content type) of one part."""
    message = Message()
    for line in head.decode("utf-8", "replace").split("\r\n"):
        name, colon, value = line.partition(":")
        if colon and "\n" not in value:
            message[name.strip()] = value.strip()
    field = message.get_param("name", header="content-disposition")
    file_name = message.get_param("filename", header="content-disposition")
    if not isinstance(field, str) or not field:
        raise _malformed()
    content_type = message.get("content-type", "")
    name = file_name if isinstance(file_name, str) else ""
    return field.lower(), name.replace("\\", "/").rpartition("/")[2], content_type
