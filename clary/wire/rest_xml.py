"""REST-XML bodies: what `rest.py` needs for S3, and for the few others (Route 53, CloudFront)."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Callable
from typing import Any

from botocore.model import OperationModel, ServiceModel, Shape, StructureShape

from clary.wire.event_stream import EventWriter
from clary.wire.faults import Fault
from clary.wire.query import XML, fault_members
from clary.wire.rest import BodyReader, BodyWriter
from clary.wire.timestamps import to_iso_milliseconds
from clary.wire.xml_body import XmlReaders, XmlWriter, XmlWriters, namespace_text
from clary.wire.xml_text import escape, parse_xml

S3_NAMESPACE = "http://s3.amazonaws.com/doc/2006-03-01/"
# The model does not hold the root elements of S3's answers; stricter parsers than botocore's
# match them.
S3_ROOTS = {
    "ListBuckets": "ListAllMyBucketsResult",
    "ListDirectoryBuckets": "ListAllMyDirectoryBucketsResult",
    "ListObjects": "ListBucketResult",
    "ListObjectsV2": "ListBucketResult",
    "ListObjectVersions": "ListVersionsResult",
    "CreateMultipartUpload": "InitiateMultipartUploadResult",
    "DeleteObjects": "DeleteResult",
    "GetBucketAcl": "AccessControlPolicy",
    "GetObjectAcl": "AccessControlPolicy",
    "GetBucketCors": "CORSConfiguration",
    "GetBucketLifecycleConfiguration": "LifecycleConfiguration",
    "GetBucketTagging": "Tagging",
    "GetObjectTagging": "Tagging",
    "GetBucketVersioning": "VersioningConfiguration",
    "GetBucketWebsite": "WebsiteConfiguration",
    "GetBucketLogging": "BucketLoggingStatus",
    "GetBucketNotificationConfiguration": "NotificationConfiguration",
    "GetBucketRequestPayment": "RequestPaymentConfiguration",
    "GetBucketAccelerateConfiguration": "AccelerateConfiguration",
    "GetObjectAttributes": "GetObjectAttributesResponse",
}


class XmlBodies:
    content_type = "application/xml"

    def __init__(self, service: ServiceModel) -> None:
        self._s3 = service.service_name == "s3"
        self.malformed_code = "MalformedXML" if self._s3 else "InvalidInput"
        self._readers = XmlReaders()
        self._writers = XmlWriters(to_iso_milliseconds)
        self._fault_writers = XmlWriters(to_iso_milliseconds)
        found = service.metadata.get("xmlNamespace") or (S3_NAMESPACE if self._s3 else None)
        self._namespace = namespace_text(found) if found else ""

    def reader(self, shape: Shape, *, payload: bool) -> BodyReader:
        if payload or not isinstance(shape, StructureShape):
            read = self._readers.reader(shape)
        else:
            read = self._readers.body(shape)
        return lambda body: read(parse_xml(body))

    def writer(self, operation: OperationModel, shape: Shape, *, payload: bool) -> BodyWriter:
        if self._s3 and operation.name == "GetBucketLocation":
            return self._location
        name = self._root(operation, shape)
        # A namespace of the shape itself stands instead of the service's.
        outer = "" if shape.serialization.get("xmlNamespace") else self._namespace
        if payload or not isinstance(shape, StructureShape):
            return document(self._writers.element(shape, name, outer))
        return document(self._writers.body(shape, name, outer))

    def _root(self, operation: OperationModel, shape: Shape) -> str:
        given = shape.serialization.get("name")
        if given:
            return str(given)
        if self._s3 and operation.name in S3_ROOTS:
            return S3_ROOTS[operation.name]
        stem = shape.name.removesuffix("Output")
        return shape.name if stem == shape.name else f"{stem}Result"

    def _location(self, members: dict[str, Any]) -> bytes:
        """The one S3 answer whose only member is the root itself; empty means us-east-1."""
        if members.keys() - {"LocationConstraint"}:
            raise ValueError(f"GetBucketLocation has no members {sorted(members)}")
        text = escape(members.get("LocationConstraint") or "")
        name = "LocationConstraint"
        return f"{XML}<{name}{self._namespace}>{text}</{name}>".encode()

    def events(self, output: StructureShape) -> EventWriter:
        def writer(shape: Shape) -> Callable[[Any], Any]:
            write = document(self._writers.element(shape, shape.name))
            return lambda value: write(value) if value else b""

        return EventWriter(output, writer, bytes, "text/xml")

    def fault_writer(self, shape: StructureShape | None) -> Callable[[Fault, str], bytes]:
        writer = None if shape is None else self._fault_writers.body(shape, "")

        def write(fault: Fault, request_id: str) -> bytes:
            inner = f"<Code>{escape(fault.code)}</Code>{fault_members(fault, writer)}"
            identity = f"<RequestId>{escape(request_id)}</RequestId>"
            if self._s3:
                host = f"<HostId>{host_id(request_id)}</HostId>"
                return f"{XML}<Error>{inner}{identity}{host}</Error>".encode()
            error = f"<Error><Type>{fault.side}</Type>{inner}</Error>"
            text = f"<ErrorResponse{self._namespace}>{error}{identity}</ErrorResponse>"
            return f"{XML}{text}".encode()

        return write

    def headers(self, request_id: str) -> dict[str, str]:
        if self._s3:
            return {"x-amz-request-id": request_id, "x-amz-id-2": host_id(request_id)}
        return {"x-amzn-RequestId": request_id}

    def fault_headers(self, fault: Fault) -> dict[str, str]:
        return {}


def document(write: XmlWriter) -> BodyWriter:
    def body(value: Any) -> bytes:
        out: list[str] = [XML]
        write(value, out)
        return "".join(out).encode()

    return body


def host_id(request_id: str) -> str:
    """S3's second identifier, which clients print beside the first."""
    return base64.b64encode(hashlib.sha256(request_id.encode()).digest()).decode()
