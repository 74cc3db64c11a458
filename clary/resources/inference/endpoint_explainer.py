"""Online explainability of endpoints: the rules of ExplainerConfig, and its SHAP baseline as the door needs it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import jmespath
from jmespath.exceptions import JMESPathError

from clary.engine.call import Call
from clary.model.errors import ValidationException
from clary.model.s3_uris import parse_s3_uri
from clary.store.rows import Row

# It goes with every explained request, and a record of it is multiplied by the number of samples.
BASELINE_BYTES_MAX = 1024 * 1024
_EXPRESSIONS = ("FeaturesAttribute", "ProbabilityAttribute", "LabelAttribute")


def explainer_of(config: Mapping[str, Any]) -> Mapping[str, Any] | None:
    return (config.get("ExplainerConfig") or {}).get("ClarifyExplainerConfig")


def explainer_shown(row: Row) -> dict[str, Any] | None:
    target = row.state.get("live") or row.state.get("target") or {}
    explainer = target.get("explainer")
    return {"ClarifyExplainerConfig": explainer["config"]} if explainer else None


def explainer_can_work(call: Call) -> None:
    """ExplainerConfig: one baseline, expressions that parse, and a plain real-time endpoint."""
    clarify = explainer_of(call.input)
    if not clarify:
        return
    baseline = clarify["ShapConfig"]["ShapBaselineConfig"]
    if bool(baseline.get("ShapBaseline")) == bool(baseline.get("ShapBaselineUri")):
        raise ValidationException(
            "Exactly one of ShapBaseline and ShapBaselineUri must be given in ShapBaselineConfig."
        )
    if baseline.get("ShapBaselineUri"):
        parse_s3_uri(baseline["ShapBaselineUri"])
    inference = clarify.get("InferenceConfig") or {}
    given = {"EnableExplanations": clarify.get("EnableExplanations")}
    given |= {member: inference.get(member) for member in _EXPRESSIONS}
    for member, expression in given.items():
        _check_expression(member, expression)
    refused = {
        "AsyncInferenceConfig": call.input.get("AsyncInferenceConfig"),
        "ShadowProductionVariants": call.input.get("ShadowProductionVariants"),
        "ServerlessConfig": any("ServerlessConfig" in v for v in call.input["ProductionVariants"]),
    }
    for member, value in refused.items():
        if value:
            raise ValidationException(f"ExplainerConfig cannot be used together with {member}.")


def _check_expression(member: str, expression: str | None) -> None:
    if not expression:
        return
    try:
        jmespath.compile(expression)
    except JMESPathError as problem:
        raise ValidationException(
            f"{member} {expression!r} is not a valid JMESPath expression: {problem}"
        ) from problem


def explainer_part(call: Call, config: Mapping[str, Any]) -> dict[str, Any] | None:
    """What the door needs: the configuration, and the baseline as it is now; raise for one that is not there."""
    clarify = explainer_of(config)
    if not clarify:
        return None
    given = clarify["ShapConfig"]["ShapBaselineConfig"]
    if given.get("ShapBaseline"):
        return {"config": dict(clarify), "baseline": given["ShapBaseline"]}
    uri = given["ShapBaselineUri"]
    bucket, key = parse_s3_uri(uri)
    found = call.parts.objects.head(bucket, key)
    if found is None:
        raise ValidationException(f"Could not find the SHAP baseline at {uri}.")
    if found.size > BASELINE_BYTES_MAX:
        raise ValidationException(
            f"The SHAP baseline at {uri} has {found.size} bytes; at most {BASELINE_BYTES_MAX} can be "
            "used online. Summarise it by fewer records."
        )
    return {"config": dict(clarify), "baseline": _read(call, bucket, key, uri)}


def _read(call: Call, bucket: str, key: str, uri: str) -> str:
    try:
        return call.parts.objects.read(bucket, key).decode("utf-8-sig")
    except UnicodeDecodeError as problem:
        raise ValidationException(f"The SHAP baseline at {uri} is not UTF-8 text.") from problem
