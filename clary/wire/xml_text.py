"""XML as text: what must be escaped in it, and a parser that hostile documents cannot trouble."""

from __future__ import annotations

import re
from typing import Any
from xml.etree.ElementTree import Element, ParseError, TreeBuilder, XMLParser

from clary.wire.coerce import Malformed

NESTING_MAX = 64
ESCAPES = {"&": "&amp;", "<": "&lt;", ">": "&gt;", '"': "&quot;"}
# Carriage returns would be normalised away by a parser; the other controls are not XML 1.0 at
# all, and S3 writes them as references too.
SPECIAL = re.compile(r'[&<>"\x00-\x08\x0b-\x1f\ufffe\uffff]')


def escape(text: str) -> str:
    if SPECIAL.search(text) is None:
        return text
    return SPECIAL.sub(lambda found: ESCAPES.get(found[0]) or f"&#x{ord(found[0]):x};", text)


class BoundedTree(TreeBuilder):
    """Builds elements; refuses document types (entities) and deep nesting."""

    def __init__(self) -> None:
        super().__init__()
        self._depth = 0

    def start(self, tag: Any, attrs: Any, /) -> Element:
        self._depth += 1
        if self._depth > NESTING_MAX:
            raise Malformed(f"XML is nested deeper than {NESTING_MAX}")
        return super().start(tag, attrs)

    def end(self, tag: Any, /) -> Element:
        self._depth -= 1
        return super().end(tag)

    def doctype(self, name: str, public: str | None, system: str | None, /) -> None:
        raise Malformed("XML with a document type is not accepted")


def parse_xml(body: bytes) -> Element:
    parser = XMLParser(target=BoundedTree())
    try:
        parser.feed(body)
        return parser.close()
    except (ParseError, ValueError, LookupError) as problem:
        raise Malformed(f"The XML is not well-formed: {problem}") from problem


def local(tag: str) -> str:
    return tag.rpartition("}")[2]
