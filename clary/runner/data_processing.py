"""DataProcessing of a batch transform: what a request leaves out of its records, what its answer is joined with.

    record ──InputFilter──▶ model ──▶ join with the whole record ──▶ OutputFilter ──▶ inference id

A CSV row is an array of its fields, which stay as they are written, quotes and all. JSON is one
document, or one a line. Nothing of this is done to bytes that no filter and no join asks for.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Sequence
from typing import Any, NamedTuple

from . import json_paths
from .json_paths import NothingThere, Path
from .records import Batch

CSV, JSON, JSON_LINES = "csv", "json", "jsonlines"
FORMATS = {
    "text/csv": CSV,
    "application/json": JSON,
    "application/jsonlines": JSON_LINES,
    "application/x-jsonlines": JSON_LINES,
    "application/jsonl": JSON_LINES,
}
INPUT, OUTPUT = "SageMakerInput", "SageMakerOutput"
INFERENCE_ID, INFERENCE_TIME = "SageMakerInferenceId", "SageMakerInferenceTime"
_FIELD = re.compile(rb'((?:"(?:[^"]|"")*"|[^,"])*)(?:,|$)')


class ProcessingFault(Exception):
    """A record or an answer that the filters or the join cannot be applied to."""


class DataProcessing(NamedTuple):
    """What is to be done; see `Processor`."""

    input_filter: Path = ()
    joins: bool = False
    output_filter: Path = ()
    inference_time: str = ""  # where inference ids are asked for: the time beside them


def format_of(content_type: str) -> str:
    """`csv`, `json` or `jsonlines`; empty for every other content type."""
    return FORMATS.get(content_type.partition(";")[0].strip().lower(), "")


class Processor:
    """Pure functions of one job's settings; any thread may call them."""

    def __init__(self, wanted: DataProcessing, content_type: str, accept: str, split: str) -> None:
        self._wanted = wanted
        self._input = format_of(content_type)
        self._accept = format_of(accept)
        self._lines = split == "Line"
        self.changes_input = bool(wanted.input_filter)
        self.changes_output = bool(wanted.joins or wanted.output_filter or wanted.inference_time)

    def request(self, batch: Batch) -> bytes:
        """The body to send for a batch. Raise ProcessingFault."""
        if not self.changes_input:
            return batch.body
        path = self._wanted.input_filter
        rows: list[bytes] = []
        for index, row in enumerate(self._rows(batch.body, self._input)):
            where = f"InputFilter: record {batch.first + index}"
            rows.append(_selected(path, _parsed(row, self._input, where), self._input, where))
        return _joined(rows, batch.body)

    def response(self, batch: Batch, body: bytes, content_type: str) -> bytes:
        """The output for a batch and its answer. Raise ProcessingFault."""
        if not self.changes_output:
            return body
        kind = format_of(content_type) or self._accept
        if not kind:
            raise ProcessingFault(
                f"The answer's content type {content_type or '(none)'!r} is none of text/csv, "
                "application/json and application/jsonlines, which DataProcessing can work on"
            )
        rows = self._rows(body, kind, batch.records)
        before: Sequence[bytes | None] = [None] * len(rows)
        if self._wanted.joins:
            if (kind == CSV) != (self._input == CSV):
                raise ProcessingFault(
                    f"The answer is {kind} and cannot be joined with an input that is {self._input}"
                )
            before = self._rows(batch.body, self._input)
            if len(before) != len(rows):
                raise ProcessingFault(
                    f"The answer has {len(rows)} records where the request had {len(before)}, so "
                    "they cannot be joined"
                )
        done = [
            self._finished(row, source, kind, f"record {batch.first + index}")
            for index, (row, source) in enumerate(zip(rows, before))  # noqa: B905 - Python 3.8
        ]
        return _joined(done, body)

    def _rows(self, body: bytes, kind: str, count: int = 0) -> list[bytes]:
        """The records of a body; JSON is one document unless lines were put together in it."""
        if kind == JSON and (not self._lines or count == 1):
            return [body.strip()]
        return [row for row in (line.rstrip(b"\r") for line in body.split(b"\n")) if row.strip()]

    def _finished(self, row: bytes, source: bytes | None, kind: str, where: str) -> bytes:
        wanted = self._wanted
        if kind == CSV:
            if source is not None:
                row = source + b"," + row
            if wanted.output_filter:
                row = _selected(
                    wanted.output_filter, fields_of(row), kind, f"OutputFilter: {where}"
                )
            if wanted.inference_time:
                row += f",{_random_uuid()},{wanted.inference_time}".encode()
            return row
        value = _parsed(row, kind, f"The answer for {where}")
        if source is not None:
            value = _merged(_parsed(source, kind, where), value)
        if wanted.output_filter:
            value = _found(wanted.output_filter, value, f"OutputFilter: {where}")
        if wanted.inference_time:
            value = {
                **(value if isinstance(value, dict) else {OUTPUT: value}),
                INFERENCE_ID: _random_uuid(),
                INFERENCE_TIME: wanted.inference_time,
            }
        return _dumped(value)


def fields_of(row: bytes) -> list[bytes]:
    """The fields of a CSV row as they are written; a comma in quotes does not separate."""
    if b'"' not in row:
        return row.split(b",")
    fields: list[bytes] = []
    at = 0
    while at <= len(row):
        found = _FIELD.match(row, at)
        if found is None:
            raise ProcessingFault(f"The quotes of a CSV row do not end: {row[:80]!r}")
        fields.append(found.group(1))
        if found.end() == len(row) and not found.group(0).endswith(b","):
            break
        at = found.end()
    return fields


def _merged(source: Any, output: Any) -> dict[str, Any]:
    """JoinSource Input: the answer becomes a member of the record, which is wrapped if it is no object."""
    if isinstance(source, dict):
        return {**source, OUTPUT: output}
    return {INPUT: source, OUTPUT: output}


def _parsed(row: bytes, kind: str, where: str) -> Any:
    if kind == CSV:
        return fields_of(row)
    try:
        return json.loads(row)
    except ValueError as problem:
        raise ProcessingFault(f"{where} is not JSON: {problem}") from problem


def _selected(path: Path, document: Any, kind: str, where: str) -> bytes:
    value = _found(path, document, where)
    if kind == CSV:
        return b",".join(value) if isinstance(value, list) else value
    return _dumped(value)


def _found(path: Path, document: Any, where: str) -> Any:
    try:
        return json_paths.select(path, document)
    except NothingThere as problem:
        raise ProcessingFault(f"{where}: {problem}") from problem


def _dumped(value: Any) -> bytes:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode("utf-8")


def _joined(rows: list[bytes], like: bytes) -> bytes:
    """The rows as lines; the last one ends as the body did that they come from."""
    return b"\n".join(rows) + (b"\n" if rows and like.endswith(b"\n") else b"")


def _random_uuid() -> str:
    # The module `uuid` asks the machine for its addresses, which costs a runner several milliseconds.
    octets = bytearray(os.urandom(16))
    octets[6] = octets[6] & 0x0F | 0x40
    octets[8] = octets[8] & 0x3F | 0x80
    text = octets.hex()
    return "-".join((text[:8], text[8:12], text[12:16], text[16:20], text[20:]))
