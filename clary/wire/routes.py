"""Which operation of a REST service a request means: method, path, and what the query must hold."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple
from urllib.parse import parse_qsl, unquote_to_bytes

from botocore.model import OperationModel, ServiceModel

from clary.model.errors import UnknownOperationException
from clary.wire.coerce import Malformed
from clary.wire.http import Request
from clary.wire.tree import wire_name

QUERY_FIELDS_MAX = 10_000
PLACEHOLDER = re.compile(r"\{([^}+]+)(\+?)\}")
QueryFields = dict[str, list[str]]


class Match(NamedTuple):
    operation: str
    labels: dict[str, str]
    query: QueryFields


@dataclass(frozen=True, slots=True)
class Route:
    """One operation's binding, and how specific it is."""

    operation: str
    pattern: re.Pattern[str]
    labels: tuple[str, ...]
    literals: tuple[tuple[str, str], ...]  # of the query string; "" accepts any value
    required_query: frozenset[str]
    required_headers: frozenset[str]
    fixed_segments: int
    deprecated: bool

    def admits(self, query: QueryFields) -> bool:
        return all(
            name in query and (not value or value in query[name]) for name, value in self.literals
        )

    def complete(self, query: QueryFields, headers: Mapping[str, str]) -> bool:
        return self.required_query <= query.keys() and self.required_headers <= headers.keys()

    @property
    def weight(self) -> tuple[int, int, int, bool]:
        bound = len(self.required_query) + len(self.required_headers)
        return self.fixed_segments, len(self.literals), bound, not self.deprecated


class Routes:
    """Every route of a service, by method and number of path segments."""

    def __init__(self, service: ServiceModel) -> None:
        self._service = service.service_name
        self._by_size: dict[tuple[str, int], list[Route]] = defaultdict(list)
        self._greedy: dict[str, list[Route]] = defaultdict(list)
        for name in service.operation_names:
            self._add(service.operation_model(name))

    def _add(self, model: OperationModel) -> None:
        method = str(model.http["method"]).upper()
        path = str(model.http["requestUri"]).partition("?")[0]
        route = route_of(model)
        if "+}" in path:
            self._greedy[method].append(route)
        else:
            self._by_size[method, path.strip("/").count("/")].append(route)

    def match(self, request: Request) -> Match:
        """The most specific route; one whose required parts are missing only if no other fits."""
        query = query_fields(request.query)
        path = request.path
        candidates = self._by_size.get((request.method, path.strip("/").count("/")), [])
        found = [
            (route, match)
            for route in (*candidates, *self._greedy.get(request.method, ()))
            if route.admits(query) and (match := route.pattern.fullmatch(path)) is not None
        ]
        if not found:
            raise UnknownOperationException(
                f"{self._service} has no operation at {request.method} {path[:200]}", status=404
            )
        complete = [pair for pair in found if pair[0].complete(query, request.headers)]
        if complete:
            route, match = max(complete, key=lambda pair: pair[0].weight)
        else:
            # The plainest of those that lack something: its missing member is the likelier mistake.
            route, match = max(found, key=lambda p: (p[0].weight[:2], -p[0].weight[2]))
        labels = {name: text_of(match[index]) for index, name in enumerate(route.labels, start=1)}
        return Match(route.operation, labels, query)


def route_of(model: OperationModel) -> Route:
    uri = str(model.http["requestUri"])
    path = uri.partition("?")[0]
    pattern, position, fixed = "", 0, path.rstrip("/")
    for found in PLACEHOLDER.finditer(fixed):
        pattern += re.escape(fixed[position : found.start()])
        pattern += "(.+)" if found[2] else "([^/]+)"
        position = found.end()
    pattern += re.escape(fixed[position:])
    greedy_end = path.endswith("+}")
    shape = model.input_shape
    required = [
        (str(member.serialization.get("location")), wire_name(name, member))
        for name, member in (shape.members.items() if shape is not None else ())
        if shape is not None and name in shape.required_members
    ]
    return Route(
        operation=model.name,
        pattern=re.compile(pattern if greedy_end else pattern + "/?", re.DOTALL),
        labels=tuple(found[1] for found in PLACEHOLDER.finditer(path)),
        literals=query_literals(uri),
        required_query=frozenset(name for where, name in required if where == "querystring"),
        required_headers=frozenset(name.lower() for where, name in required if where == "header"),
        fixed_segments=sum(1 for part in fixed.split("/") if part and "{" not in part),
        deprecated=bool(model.deprecated),
    )


def query_literals(uri: str) -> tuple[tuple[str, str], ...]:
    """Names and values that the query string of a URI template demands."""
    parts = (part.partition("=") for part in uri.partition("?")[2].split("&") if part)
    return tuple((name, value) for name, _, value in parts)


def query_fields(query: str) -> QueryFields:
    try:
        pairs = parse_qsl(
            query, keep_blank_values=True, max_num_fields=QUERY_FIELDS_MAX, errors="strict"
        )
    except ValueError as problem:
        raise Malformed("The query string cannot be read") from problem
    fields: QueryFields = {}
    for name, value in pairs:
        fields.setdefault(name, []).append(value)
    return fields


def text_of(encoded: str) -> str:
    try:
        return unquote_to_bytes(encoded).decode()
    except UnicodeDecodeError as problem:
        raise Malformed("The path is not UTF-8") from problem
