"""Debugger and profiler of a training job: which rules its runner evaluates, and how their findings are told."""

from __future__ import annotations

import json
from typing import Any

from clary.engine.call import Call
from clary.model.errors import ValidationException
from clary.reconcile.outcomes import Verdict
from clary.store.rows import Row

RULES_MAX = 20
FINDINGS = "debug rules"  # where an outcome keeps them, among what a host made
INTERVALS = (100, 200, 500, 1_000, 5_000, 60_000)
# Where a program writes what is stored as it comes, unless it is told otherwise, and the folder for it in S3.
WATCHED = {
    "TensorBoardOutputConfig": ("/opt/ml/output/tensorboard", "tensorboard-output"),
    "DebugHookConfig": ("/opt/ml/output/tensors", "debug-output"),
}
_NOT_PROFILED = (
    "System and framework metrics are not collected in this installation, so the rule was not "
    "evaluated."
)


def rules_are_named_once(call: Call) -> None:
    for member in ("DebugRuleConfigurations", "ProfilerRuleConfigurations"):
        names = [one["RuleConfigurationName"] for one in call.input.get(member) or []]
        if len(names) > RULES_MAX:
            raise ValidationException(f"{member} holds {len(names)} rules; at most {RULES_MAX}.")
        for name in names:
            if names.count(name) > 1:
                raise ValidationException(f"Duplicate RuleConfigurationName '{name}' in {member}.")


def watched_paths_are_below_opt_ml(call: Call) -> None:
    for member in WATCHED:
        path = (call.input.get(member) or {}).get("LocalPath") or "/opt/ml/output"
        parts = [part for part in path.split("/") if part]
        if parts[:2] != ["opt", "ml"] or len(parts) < 3 or ".." in parts:
            raise ValidationException(f"{member}: LocalPath '{path}' must be below /opt/ml.")


def profiler_is_configured_well(call: Call) -> None:
    config = call.input.get("ProfilerConfig") or {}
    interval = config.get("ProfilingIntervalInMilliseconds")
    if interval is not None and interval not in INTERVALS:
        known = ", ".join(str(one) for one in INTERVALS)
        raise ValidationException(
            f"ProfilingIntervalInMilliseconds must be one of {known}, and is {interval}."
        )


def with_rule_statuses(call: Call) -> None:
    """Every rule is under way from the start; rules of the profiler are told at once not to be."""
    for member, status, details in (
        ("Debug", "InProgress", ""),
        ("Profiler", "Stopped", _NOT_PROFILED),
    ):
        rules = call.input.get(f"{member}RuleConfigurations")
        if rules:
            call.input[f"{member}RuleEvaluationStatuses"] = [
                _told(one["RuleConfigurationName"], status, details, call.time) for one in rules
            ]
    config = call.input.get("ProfilerConfig")
    if config is not None:
        disabled = bool(config.get("DisableProfiler"))
        call.input["ProfilingStatus"] = "Disabled" if disabled else "Enabled"


def profiler_statuses(row: Row, now: float) -> None:
    """After UpdateTrainingJob changed the profiler's configuration or rules."""
    config = row.document.get("ProfilerConfig") or {}
    row.document["ProfilingStatus"] = "Disabled" if config.get("DisableProfiler") else "Enabled"
    row.document["ProfilerRuleEvaluationStatuses"] = [
        _told(one["RuleConfigurationName"], "Stopped", _NOT_PROFILED, now)
        for one in row.document.get("ProfilerRuleConfigurations") or []
    ]


def for_runner(row: Row) -> list[dict[str, Any]]:
    """The rules as a host spec holds them."""
    return [
        {
            "name": one["RuleConfigurationName"],
            "invoked": (one.get("RuleParameters") or {}).get("rule_to_invoke", ""),
            "parameters": one.get("RuleParameters") or {},
        }
        for one in row.document.get("DebugRuleConfigurations") or []
    ]


def files(row: Row) -> dict[str, str]:
    """What a container finds of both beside its other configuration."""
    members = {"debughookconfig": "DebugHookConfig", "profilerconfig": "ProfilerConfig"}
    return {
        f"input/config/{name}.json": json.dumps(row.document[member])
        for name, member in members.items()
        if row.document.get(member)
    }


def after_the_end(row: Row, verdict: Verdict) -> dict[str, Any]:
    rules = row.document.get("DebugRuleConfigurations") or []
    if not rules:
        return {}
    found = verdict.outputs.get(FINDINGS) or {}
    statuses: list[dict[str, Any]] = []
    for one in rules:
        name = one["RuleConfigurationName"]
        finding = found.get(name) or {
            "status": "Stopped",
            "details": "The training job ended before the rule could be evaluated.",
        }
        statuses.append(_told(name, finding["status"], finding["details"], verdict.ended))
    return {"DebugRuleEvaluationStatuses": statuses}


def _told(name: str, status: str, details: str, at: float) -> dict[str, Any]:
    told = {
        "RuleConfigurationName": name,
        "RuleEvaluationStatus": status,
        "LastModifiedTime": at,
    }
    return {**told, "StatusDetails": details} if details else told
