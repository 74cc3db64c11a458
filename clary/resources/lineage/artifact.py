"""An artifact is a thing with a URI, such as a data set, an image or a model."""

from __future__ import annotations

import hashlib
import uuid
from typing import Any

from clary.engine.call import Call
from clary.engine.naming import find_row
from clary.engine.resource import BoundResource, Resource
from clary.engine.verbs import delete_row
from clary.model.errors import ResourceNotFound, ValidationException
from clary.resources.lineage.source_uri import comes_from, source_uri
from clary.store.rows import Query, Row


def _identifier(call: Call) -> str:
    """Artifacts with the same source ids are one artifact; without any each is its own."""
    source = call.input["Source"]
    ids = sorted(
        (one["SourceIdType"], one["Value"])
        for one in source.get("SourceTypes") or []
        if one["SourceIdType"] != "Custom"
    )
    if not ids:
        return uuid.uuid4().hex
    text = f"{source['SourceUri']} {ids} {call.input['ArtifactType']}"
    return hashlib.md5(text.encode(), usedforsecurity=False).hexdigest()


artifact = Resource(
    "Artifact",
    identifier=_identifier,
    filters={"SourceUri": comes_from},
    missing=ResourceNotFound("Artifact '{arn}' does not exist."),
    taken=ValidationException("Artifact {arn} already exists."),
)


@artifact.operation("DeleteArtifact")
def delete_artifact(call: Call) -> dict[str, Any]:
    """By ARN, or by the source it was made from."""
    row = delete_row(call.parts.bound("Artifact"), call, lambda row: None, _meant)
    return {"ArtifactArn": row.arn}


def _meant(bound: BoundResource, call: Call) -> Row:
    if call.input.get("ArtifactArn"):
        return find_row(bound, call)
    uri = (call.input.get("Source") or {}).get("SourceUri")
    query = Query(
        "Artifact",
        call.account,
        call.region,
        limit=1,
        matches=lambda row: source_uri(row) == uri,
    )
    rows, _ = call.parts.store.rows.page(query)
    if not rows:
        raise ResourceNotFound(f"Artifact with source '{uri}' does not exist.")
    return rows[0]
