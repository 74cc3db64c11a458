"""Inputs made from a shape: the required members alone, or every member with long values."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Any

from botocore.model import ListShape, MapShape, Shape, StructureShape

from tests.contract.texts import matching_text

ROLE = "arn:aws:iam::123456789012:role/ClaryExecutionRole"
IMAGE = "683313688378.dkr.ecr.us-east-1.amazonaws.com/sagemaker-scikit-learn:1.2-1-cpu-py3"
MOMENT = datetime(2024, 5, 1, 10, 30, 15, 250_000, tzinfo=UTC)
TEXT_CHARACTERS_MAX = 48
TEXT = 'Größe "1" <&> 2\\3 — ünïcode {text} '
# Members that must refer to something real wherever they stand.
REAL = {
    "RoleArn": ROLE,
    "ExecutionRoleArn": ROLE,
    "ExecutionRole": ROLE,
    "Image": IMAGE,
    "ImageUri": IMAGE,
    "TrainingImage": IMAGE,
    "S3Uri": "s3://contract/data/",
    "ModelDataUrl": "s3://contract/model.tar.gz",
}

Values = Mapping[str, Any]


class Inputs:
    """Makes one input; `values` and `without` speak of members by their path (`VpcConfig.Subnets`)."""

    def __init__(self, *, rich: bool, values: Values, without: tuple[str, ...] = ()) -> None:
        self._rich = rich
        self._values = values
        self._without = without

    def make(self, shape: Shape | None) -> dict[str, Any]:
        return self._structure(shape, "", ()) if isinstance(shape, StructureShape) else {}

    def _make(self, shape: Shape, path: str, stack: tuple[str, ...]) -> Any:
        if path in self._values:
            return _called(self._values[path])
        member = path.rsplit(".", 1)[-1]
        if shape.type_name == "string" and member in REAL:
            return REAL[member]
        if isinstance(shape, StructureShape):
            return self._structure(shape, path, stack)
        if isinstance(shape, ListShape):
            return self._list(shape, path, stack)
        if isinstance(shape, MapShape):
            return self._map(shape, path, stack)
        return self._scalar(shape)

    def _structure(
        self, shape: StructureShape, path: str, stack: tuple[str, ...]
    ) -> dict[str, Any]:
        chosen = list(shape.members) if self._rich else list(shape.required_members)
        if getattr(shape, "is_tagged_union", False):
            chosen = list(shape.members)[:1] if not self._rich else list(shape.members)[-1:]
        prefix = f"{path}." if path else ""
        wanted = {
            one.removeprefix(prefix).split(".")[0] for one in self._values if one.startswith(prefix)
        }
        made: dict[str, Any] = {}
        for name, member in shape.members.items():
            required = name in shape.required_members
            if name not in chosen and name not in wanted:
                continue
            if f"{prefix}{name}" in self._without:
                continue
            if not required and _is_inside_itself(member, (*stack, shape.name)):
                continue
            made[name] = self._make(member, f"{prefix}{name}", (*stack, shape.name))
        return made

    def _list(self, shape: ListShape, path: str, stack: tuple[str, ...]) -> list[Any]:
        least, most = shape.metadata.get("min", 0), shape.metadata.get("max", 2)
        inner = (*stack, shape.name)
        count = max(least, min(most, 1))
        return [self._make(shape.member, path, inner) for _ in range(count)]

    def _map(self, shape: MapShape, path: str, stack: tuple[str, ...]) -> dict[str, Any]:
        if not self._rich and not shape.metadata.get("min"):
            return {}
        key = self._scalar(shape.key)
        return {key: self._make(shape.value, f"{path}.value", (*stack, shape.name))}

    def _scalar(self, shape: Shape) -> Any:
        least, most = shape.metadata.get("min"), shape.metadata.get("max")
        match shape.type_name:
            case "boolean":
                return True
            case "integer" | "long":
                return _number(least, most, rich=self._rich)
            case "float" | "double":
                return float(_number(least, most, rich=self._rich))
            case "timestamp":
                return MOMENT
            case "blob":
                return b"\x00\x01contract"
        return text_of(shape, rich=self._rich)


def _is_inside_itself(shape: Shape, stack: tuple[str, ...]) -> bool:
    inner = {ListShape: "member", MapShape: "value"}.get(type(shape))
    return shape.name in stack or (inner is not None and getattr(shape, inner).name in stack)


def text_of(shape: Shape, *, rich: bool) -> str:
    allowed = getattr(shape, "enum", None)
    if allowed:
        return allowed[-1 if rich else 0]
    least = int(shape.metadata.get("min") or 1)
    most = int(shape.metadata.get("max") or 256)
    pattern = shape.metadata.get("pattern")
    if pattern:
        return matching_text(pattern, least, most, rich=rich)
    size = max(least, min(most, TEXT_CHARACTERS_MAX)) if rich else least
    return (TEXT * (size // len(TEXT) + 1))[:size].strip().ljust(least, "x") if rich else "x" * size


def _number(least: Any, most: Any, *, rich: bool) -> int:
    low = int(least) if least is not None else 1
    high = int(most) if most is not None else low + 1
    return min(high, low + 7) if rich else max(low, min(1, high))


def _called(value: Any) -> Any:
    return value() if isinstance(value, Callable) else value
