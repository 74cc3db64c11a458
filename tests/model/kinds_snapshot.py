"""All that is inferred of every noun: `python -m tests.model.kinds_snapshot` writes the file anew."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from clary.model.kinds import Kind, infer_kind, nouns
from clary.model.service import Services

PATH = Path(__file__).with_name("kinds.json")


def inferred() -> dict[str, dict[str, Any]]:
    service = Services().get("sagemaker")
    assert service is not None
    kinds = (infer_kind(service, noun) for noun in nouns(service))
    return {kind.noun: _told(kind) for kind in kinds}


def _told(kind: Kind) -> dict[str, Any]:
    verbs = {verb: operation.name for verb, operation in kind.verbs.items()}
    if not verbs.keys() & {"Describe", "Update", "Delete"}:
        return {"verbs": verbs}  # an answer that is made anew each time, such as a signed URL
    told: dict[str, Any] = {
        "verbs": verbs,
        "identity": list(kind.identity),
        "named by": "caller" if kind.is_named_by_caller else "service",
        "arn": f"{kind.arn_member} {kind.arn_segment}/",
        "status": kind.status_member,
        "times": [kind.created_member, kind.modified_member],
        "words": kind.words,
    }
    if "List" in kind.verbs:
        summary = kind.summary_shape
        told["items"] = f"{kind.items_member} of {summary.name if summary else 'names'}"
    return told


def recorded() -> dict[str, dict[str, Any]]:
    return json.loads(PATH.read_text())


if __name__ == "__main__":
    PATH.write_text(json.dumps(inferred(), indent=1) + "\n")
