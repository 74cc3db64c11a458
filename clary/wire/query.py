"""The query protocols: a form with `Action`, XML back; EC2 differs in names and envelope."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from threading import Lock
from typing import Any
from urllib.parse import parse_qsl

from botocore.model import (
    ListShape,
    MapShape,
    OperationModel,
    OperationNotFoundError,
    ServiceModel,
    Shape,
    StructureShape,
)

from clary.model.errors import ApiError, UnknownOperationException
from clary.wire.bodies import plain_body
from clary.wire.coerce import LIST_FOUND, STRUCTURE_FOUND, Malformed
from clary.wire.faults import Fault, fault_of
from clary.wire.http import Request, Response
from clary.wire.json_rpc import refuse_members
from clary.wire.plans import Plans
from clary.wire.text import text_reader
from clary.wire.tree import wire_name
from clary.wire.xml_body import XmlWriter, XmlWriters, fault_elements, namespace_text
from clary.wire.xml_text import escape

FIELDS_MAX = 100_000
DEPTH_MAX = 64
XML = '<?xml version="1.0" encoding="UTF-8"?>\n'
Branch = dict[str, Any]  # a name to text or to another branch
FormReader = Callable[[Any], Any]


def form_fields(request: Request) -> dict[str, str]:
    """The parameters of the query string and of the body, which wins."""
    fields: dict[str, str] = {}
    try:
        for text in (request.query, plain_body(request.headers, request.body).decode()):
            fields |= parse_qsl(
                text, keep_blank_values=True, max_num_fields=FIELDS_MAX, errors="strict"
            )
    except ValueError as problem:
        raise Malformed("The form cannot be read") from problem
    return fields


def form_tree(fields: dict[str, str]) -> Branch:
    """`A.b.1=x` as {"A": {"b": {"1": "x"}}}; text beside branches loses to them."""
    root: Branch = {}
    for name, text in fields.items():
        path = name.split(".")
        if len(path) > DEPTH_MAX:
            raise Malformed(f"Parameter names may have {DEPTH_MAX} parts")
        branch = root
        for part in path[:-1]:
            below = branch.get(part)
            if not isinstance(below, dict):
                below = branch[part] = {}
            branch = below
        if not isinstance(branch.get(path[-1]), dict):
            branch[path[-1]] = text
    return root


def numbered(branch: Branch) -> list[Any]:
    """The values under "1", "2", ... in the order of their numbers, which may have gaps."""
    found: list[tuple[int, Any]] = []
    for key, value in branch.items():
        if not (key.isascii() and key.isdigit() and len(key) < 10):
            raise Malformed(f"{key[:80]!r} is not a position in a list")
        found.append((int(key), value))
    found.sort(key=lambda pair: pair[0])
    return [value for _, value in found]


class FormReaders:
    """Compiles shapes to functions from branches of a form to native values."""

    def __init__(self, *, ec2: bool) -> None:
        self._ec2 = ec2
        self._structures: dict[str, FormReader] = {}

    def reader(self, shape: Shape) -> FormReader:
        if isinstance(shape, StructureShape):
            return self._structure(shape)
        if isinstance(shape, ListShape):
            flat = self._ec2 or bool(shape.serialization.get("flattened"))
            inner = "" if flat else wire_name("member", shape.member)
            return list_reader(self.reader(shape.member), inner)
        if isinstance(shape, MapShape):
            flat = bool(shape.serialization.get("flattened"))
            names = wire_name("key", shape.key), wire_name("value", shape.value)
            readers = self.reader(shape.key), self.reader(shape.value)
            return map_reader(names, readers, "" if flat else "entry")
        return scalar_reader(text_reader(shape))

    def _structure(self, shape: StructureShape) -> FormReader:
        known = self._structures.get(shape.name)
        if known is None:
            plan: dict[str, tuple[str, FormReader]] = {}
            known = self._structures[shape.name] = structure_reader(plan)
            for name, member in shape.members.items():
                plan[self._name(name, member)] = (name, self.reader(member))
        return known

    def _name(self, name: str, shape: Shape) -> str:
        found = shape.serialization
        if self._ec2:
            given = found.get("name")
            capital = given[:1].upper() + given[1:] if given else name
            return str(found.get("queryName", capital))
        if isinstance(shape, ListShape) and found.get("flattened"):
            # A flattened list goes by the name of its member.
            return wire_name(wire_name(name, shape), shape.member)
        return wire_name(name, shape)


def scalar_reader(read: Callable[[str], Any]) -> FormReader:
    def from_form(value: Any) -> Any:
        if isinstance(value, dict):
            raise Malformed(STRUCTURE_FOUND)
        return read(value)

    return from_form


def list_reader(member: FormReader, inner: str) -> FormReader:
    def read(value: Any) -> list[Any]:
        if value == "":
            return []  # how clients send an empty list
        if isinstance(value, dict) and inner:
            value = value.get(inner, {})
        if not isinstance(value, dict):
            raise Malformed("Expected list or null")
        return [member(item) for item in numbered(value)]

    return read


def map_reader(
    names: tuple[str, str], readers: tuple[FormReader, FormReader], inner: str
) -> FormReader:
    def read(value: Any) -> dict[str, Any]:
        if value == "":
            return {}
        if isinstance(value, dict) and inner:
            value = value.get(inner, {})
        if not isinstance(value, dict):
            raise Malformed("Expected map or null")
        found: dict[str, Any] = {}
        for pair in numbered(value):
            if not isinstance(pair, dict) or names[0] not in pair or names[1] not in pair:
                raise Malformed("An entry of a map lacks its key or its value")
            found[readers[0](pair[names[0]])] = readers[1](pair[names[1]])
        return found

    return read


def structure_reader(plan: dict[str, tuple[str, FormReader]]) -> FormReader:
    def read(value: Any) -> dict[str, Any]:
        if not isinstance(value, dict):
            raise Malformed(LIST_FOUND if isinstance(value, list) else "Expected null")
        return {
            entry[0]: entry[1](item)
            for key, item in value.items()
            if (entry := plan.get(key)) is not None
        }

    return read


@dataclass(frozen=True, slots=True)
class OperationPlan:
    model: OperationModel
    read: FormReader | None
    write: XmlWriter | None  # the members, inside the envelope


class Query:
    """One service's query protocol; see `ServiceWire` for the contract of the methods."""

    def __init__(self, service: ServiceModel, *, ec2: bool = False) -> None:
        self._service = service
        self._ec2 = ec2
        self._readers = FormReaders(ec2=ec2)
        self._writers = XmlWriters()
        lock = Lock()
        self._plans: Plans[str, OperationPlan] = Plans(self._plan, lock)
        self._fault_writers: Plans[str, XmlWriter] = Plans(self._fault_writer, lock)
        found = service.metadata.get("xmlNamespace")
        self._namespace = namespace_text(found) if found else ""

    def operation(self, request: Request) -> OperationModel:
        try:
            return self._requested(form_fields(request)).model
        except Malformed as problem:
            raise malformed(problem) from problem

    def parse(self, request: Request) -> tuple[OperationModel, dict[str, Any]]:
        try:
            fields = form_fields(request)
            plan = self._requested(fields)
            if plan.read is None:
                return plan.model, {}
            return plan.model, plan.read(form_tree(fields))
        except Malformed as problem:
            raise malformed(problem) from problem

    def serialise(
        self, operation: OperationModel, output: dict[str, Any], request_id: str
    ) -> Response:
        plan = self._plans[operation.name]
        out: list[str] = []
        if plan.write is None:
            refuse_members(operation, output)
        else:
            plan.write(output, out)
        name = operation.wire_name
        body = "".join(out)
        if self._ec2:
            body = f"<requestId>{escape(request_id)}</requestId>{body}"
        else:
            identity = f"<RequestId>{escape(request_id)}</RequestId>"
            body += f"<ResponseMetadata>{identity}</ResponseMetadata>"
        text = f"{XML}<{name}Response{self._namespace}>{body}</{name}Response>"
        return Response(200, self._headers(request_id), text.encode())

    def serialise_error(
        self, operation: OperationModel | None, error: ApiError, request_id: str
    ) -> Response:
        fault = fault_of(self._service, operation, error)
        writer = None if fault.shape is None else self._fault_writers[fault.shape.name]
        members = fault_members(fault, writer)
        code = f"<Code>{escape(fault.code)}</Code>"
        identity = escape(request_id)
        if self._ec2:
            text = f"<Response><Errors><Error>{code}{members}</Error></Errors>"
            text += f"<RequestID>{identity}</RequestID></Response>"
        else:
            text = (
                f"<ErrorResponse{self._namespace}><Error><Type>{fault.side}</Type>{code}{members}"
            )
            text += f"</Error><RequestId>{identity}</RequestId></ErrorResponse>"
        return Response(fault.status, self._headers(request_id), f"{XML}{text}".encode())

    def events(self, operation: OperationModel) -> None:
        """No service streams events over this protocol."""
        return None

    def _headers(self, request_id: str) -> dict[str, str]:
        return {"x-amzn-RequestId": request_id, "Content-Type": "text/xml"}

    def _requested(self, fields: dict[str, str]) -> OperationPlan:
        name = fields.get("Action", "")
        if not name:
            raise UnknownOperationException(
                "The request must contain the parameter Action", code="MissingAction"
            )
        try:
            return self._plans[name]
        except OperationNotFoundError as problem:
            version = fields.get("Version") or self._service.api_version
            raise UnknownOperationException(
                f"Could not find operation {name[:100]} for version {version[:40]}",
                code="InvalidAction",
            ) from problem

    def _plan(self, name: str) -> OperationPlan:
        model = self._service.operation_model(name)
        source, target = model.input_shape, model.output_shape
        write = None
        if target is not None:
            wrapper = target.serialization.get("resultWrapper", "")
            write = self._writers.element(target, str(wrapper))
        return OperationPlan(model, None if source is None else self._readers.reader(source), write)

    def _fault_writer(self, name: str) -> XmlWriter:
        return self._writers.element(self._service.shape_for(name), "")


def malformed(problem: Malformed) -> ApiError:
    return ApiError(str(problem), code="MalformedInput", status=400)


def fault_members(fault: Fault, writer: XmlWriter | None) -> str:
    """`<Message>` always so spelt, then the members of the error's shape, then the others."""
    extras = {name: item for name, item in fault.extras.items() if name != "message"}
    modelled = ""
    if writer is not None:
        out: list[str] = []
        writer({k: v for k, v in fault.modelled.items() if k.lower() != "message"}, out)
        modelled = "".join(out)
    return f"<Message>{escape(fault.message)}</Message>{modelled}{fault_elements(extras)}"
