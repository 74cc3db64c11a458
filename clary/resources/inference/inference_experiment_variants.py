"""The variants of an inference experiment, and the endpoint configurations that carry it out. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from clary.model.errors import ValidationException
from clary.store.rows import Row

Document = Mapping[str, Any]  # the members of CreateInferenceExperiment
RETAIN, REMOVE, PROMOTE = "Retain", "Remove", "Promote"


def source_of(document: Document) -> str:
    return document["ShadowModeConfig"]["SourceModelVariantName"]


def shadow_of(document: Document) -> Mapping[str, Any]:
    (shadow,) = document["ShadowModeConfig"]["ShadowModelVariants"]
    return shadow


def check_variants(document: Document) -> None:
    """One production variant and one shadow, each described once; raise ValidationException."""
    mode = document["ShadowModeConfig"]
    if len(mode["ShadowModelVariants"]) != 1:
        raise ValidationException("A ShadowMode experiment has exactly one shadow variant.")
    wanted = sorted((source_of(document), shadow_of(document)["ShadowModelVariantName"]))
    given = sorted(one["VariantName"] for one in document["ModelVariants"])
    if given != wanted or wanted[0] == wanted[1]:
        raise ValidationException(
            f"ModelVariants must be the production variant and the shadow variant of the "
            f"ShadowModeConfig ({', '.join(wanted)}), but are {', '.join(given)}."
        )


def merged_variants(before: Document, after: Document) -> list[Mapping[str, Any]]:
    """An update gives only the variants that it changes; those that the mode does not name any more go."""
    shadows = after["ShadowModeConfig"]["ShadowModelVariants"]
    named = {source_of(after), *(one["ShadowModelVariantName"] for one in shadows)}
    kept = [one for one in before["ModelVariants"] if one["VariantName"] in named]
    changed = [one for one in after["ModelVariants"] if one not in before["ModelVariants"]]
    return [*{one["VariantName"]: one for one in (*kept, *changed)}.values()]


def check_actions(document: Document, given: Mapping[str, str]) -> dict[str, str]:
    """What happens to each variant when the experiment stops; raise ValidationException."""
    source, shadow = source_of(document), shadow_of(document)["ShadowModelVariantName"]
    unknown = sorted(set(given) - {source, shadow})
    if unknown:
        raise ValidationException(f"The experiment has no variant {', '.join(unknown)}.")
    actions = {source: RETAIN, shadow: REMOVE, **given}
    if actions[source] == PROMOTE:
        raise ValidationException(f"{source} is the production variant: only a shadow is promoted.")
    if (actions[source] == REMOVE) != (actions[shadow] == PROMOTE):
        raise ValidationException(
            f"The endpoint needs exactly one production variant: either {source} is retained, or "
            f"it is removed and {shadow} promoted."
        )
    return actions


def default_actions(document: Document) -> dict[str, str]:
    """What happens to the variants of an experiment that ends by its schedule."""
    return check_actions(document, {})


def running_config(document: Document, capture: Mapping[str, Any] | None) -> dict[str, Any]:
    """The variants and the capture of the endpoint while the experiment runs; `capture` is what it had before."""
    source, shadow = source_of(document), shadow_of(document)
    share = shadow["SamplingPercentage"] / 100
    variants = {one["VariantName"]: one for one in document["ModelVariants"]}
    return _config(
        document,
        [_variant(variants[source], 1.0)],
        [_variant(variants[shadow["ShadowModelVariantName"]], share)],
        _capture(document) or capture,
    )


def stopped_config(row: Row) -> dict[str, Any] | None:
    """The same once it has stopped; None if the endpoint stays as it is."""
    document, actions = row.document, row.state["actions"]
    source, shadow = source_of(document), shadow_of(document)["ShadowModelVariantName"]
    after = {one["VariantName"]: one for one in row.state.get("after") or []}
    variants = {one["VariantName"]: one for one in document["ModelVariants"]} | after
    capture = row.state.get("capture")
    if actions[source] == REMOVE:
        return _config(document, [_variant(variants[shadow], 1.0)], [], capture)
    if actions[shadow] == REMOVE:
        return _config(document, [_variant(variants[source], 1.0)], [], capture)
    if not after:
        return None
    share = shadow_of(document)["SamplingPercentage"] / 100
    shadows = [_variant(variants[shadow], share)]
    return _config(document, [_variant(variants[source], 1.0)], shadows, _capture(document))


def variant_statuses(row: Row) -> dict[str, str]:
    """ModelVariantStatus of each."""
    told = {
        "Running": "InService",
        "Updating": "Updating",
        "Stopping": "InService",
        "Completed": "InService",
        "Cancelled": "Deleted",
    }.get(row.status, "Creating")
    names = [one["VariantName"] for one in row.document["ModelVariants"]]
    found = dict.fromkeys(names, told)
    actions: dict[str, str] = row.state.get("actions") or {}
    for name, action in actions.items():
        if action == REMOVE:
            found[name] = "Deleting" if row.status == "Stopping" else "Deleted"
        elif row.status == "Cancelled":
            found[name] = "InService"
    return found


def _config(
    document: Document,
    variants: Sequence[Mapping[str, Any]],
    shadows: Sequence[Mapping[str, Any]],
    capture: Mapping[str, Any] | None,
) -> dict[str, Any]:
    found: dict[str, Any] = {"ProductionVariants": list(variants)}
    if shadows:
        found["ShadowProductionVariants"] = list(shadows)
    if capture:
        found["DataCaptureConfig"] = dict(capture)
    if document.get("KmsKey"):
        found["KmsKeyId"] = document["KmsKey"]
    return found


def _variant(given: Mapping[str, Any], weight: float) -> dict[str, Any]:
    infrastructure = given["InfrastructureConfig"]["RealTimeInferenceConfig"]
    return {
        "VariantName": given["VariantName"],
        "ModelName": given["ModelName"],
        "InstanceType": infrastructure["InstanceType"],
        "InitialInstanceCount": infrastructure["InstanceCount"],
        "InitialVariantWeight": weight,
    }


def _capture(document: Document) -> dict[str, Any] | None:
    """DataStorageConfig keeps every request and answer of both variants."""
    storage = document.get("DataStorageConfig")
    if not storage:
        return None
    found: dict[str, Any] = {
        "EnableCapture": True,
        "InitialSamplingPercentage": 100,
        "DestinationS3Uri": storage["Destination"],
        "CaptureOptions": [{"CaptureMode": "Input"}, {"CaptureMode": "Output"}],
    }
    if storage.get("ContentType"):
        found["CaptureContentTypeHeader"] = storage["ContentType"]
    if storage.get("KmsKey"):
        found["KmsKeyId"] = storage["KmsKey"]
    return found
