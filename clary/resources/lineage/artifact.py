"""An artifact is a thing with a URI, such as a data set, an image or a model."""

from __future__ import annotations

import hashlib
import uuid
from typing import Any

from clary.engine.call import Call
from clary.engine.naming import find_row
from clary.engine.resource import Resource
from clary.model.errors import ResourceNotFound, ValidationException
from clary.resources.lineage.source_uri import comes_from, source_uri


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
    bound = call.parts.bound("Artifact")
    if call.input.get("ArtifactArn"):
        row = find_row(bound, call)
    else:
        uri = (call.input.get("Source") or {}).get("SourceUri")
        rows = call.parts.store.rows.every("Artifact", account=call.account, region=call.region)
        row = next((one for one in rows if source_uri(one) == uri), None)
        if row is None:
            raise ResourceNotFound(f"Artifact with source '{uri}' does not exist.")
    call.parts.store.rows.delete(row)
    return {"ArtifactArn": row.arn}
