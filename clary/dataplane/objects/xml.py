"""Reading and writing S3's XML documents."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any
from xml.etree.ElementTree import Element

from clary.model.errors import ApiError
from clary.wire.coerce import Malformed
from clary.wire.xml_text import escape, parse_xml

NAMESPACE = "http://s3.amazonaws.com/doc/2006-03-01/"
DECLARATION = '<?xml version="1.0" encoding="UTF-8"?>\n'


def document(name: str, content: Any) -> bytes:
    """An XML document of dicts, lists (repeated elements), and scalars; what is None is left out."""
    text = f'{DECLARATION}<{name} xmlns="{NAMESPACE}">{_inner(content)}</{name}>'
    return text.encode()


def _element(name: str, content: Any) -> str:
    if content is None:
        return ""
    if isinstance(content, list):
        return "".join([_element(name, item) for item in content])
    inner = _inner(content)
    return f"<{name}>{inner}</{name}>" if inner else f"<{name}/>"


def _inner(content: Any) -> str:
    if isinstance(content, dict):
        return "".join([_element(name, value) for name, value in content.items()])
    if isinstance(content, bool):
        return "true" if content else "false"
    return escape(str(content))


def malformed() -> ApiError:
    return ApiError(
        "The XML you provided was not well-formed or did not validate against our published schema",
        code="MalformedXML",
        status=400,
    )


def read(body: bytes, root: str) -> Element:
    """The root element, its tags without namespaces; raise MalformedXML for another one."""
    try:
        found = parse_xml(body)
    except Malformed as problem:
        raise malformed() from problem
    for element in found.iter():
        element.tag = element.tag.rpartition("}")[2]
    if found.tag != root:
        raise malformed()
    return found


def text_of(element: Element, name: str, default: str = "") -> str:
    """The text of a child; keys keep their white space."""
    found = element.find(name)
    return default if found is None else found.text or ""


def iso(epoch: float) -> str:
    moment = datetime.fromtimestamp(epoch, UTC)
    return f"{moment:%Y-%m-%dT%H:%M:%S}.{moment.microsecond // 1000:03d}Z"
