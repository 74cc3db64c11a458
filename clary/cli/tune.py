"""`clary tune JOB`: a tuning job's trials, live, with the best value so far and how it came about."""

from __future__ import annotations

import argparse
import shutil
import sys
import time
from datetime import datetime
from typing import Any

import botocore.session
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError

from clary.cli.installation import Installation, installed
from clary.cli.output import Problem, emit_json, next_step, say

POLL_SECONDS = 1.0
ENDED = ("Completed", "Failed", "Stopped")
TRIALS_MAX = 1_000
PLOT_ROWS = 8
PLOT_COLUMNS_MAX = 72


def arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("name", help="the tuning job")
    parser.add_argument("--json", action="store_true", help="print one JSON document and end")
    parser.add_argument("--once", action="store_true", help="show it as it is now and end")
    parser.add_argument("--region", help="the region of the job (AWS_REGION, else CLARY_REGION)")


def run(options: argparse.Namespace) -> int:
    """Exit code 1 once the tuning job has failed, so that scripts can wait for it."""
    installation = installed()
    installation.require_up()
    client = _client(installation, options.region)
    try:
        if options.json:
            emit_json({**(found := _look(client, options.name))[0], "Trials": found[1]})
            return _code(found[0])
        return _watch(client, options.name, once=options.once)
    except (ClientError, BotoCoreError) as problem:
        raise Problem(str(problem), "Check the name and --region.") from problem


def _client(installation: Installation, region: str | None) -> Any:
    keys = installation.administrator()
    session = botocore.session.get_session()
    wanted = region or session.get_config_variable("region") or installation.settings.region
    return session.create_client(
        "sagemaker",
        region_name=wanted,
        endpoint_url=installation.url,
        aws_access_key_id=keys.access_key,
        aws_secret_access_key=keys.secret,
        config=Config(proxies={}),
    )


def _look(client: Any, name: str) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    job = client.describe_hyper_parameter_tuning_job(HyperParameterTuningJobName=name)
    del job["ResponseMetadata"]
    trials: list[dict[str, Any]] = []
    request: dict[str, Any] = {"HyperParameterTuningJobName": name, "MaxResults": 100}
    while len(trials) < TRIALS_MAX:
        page = client.list_training_jobs_for_hyper_parameter_tuning_job(**request)
        trials += page["TrainingJobSummaries"]
        if not page.get("NextToken"):
            break
        request["NextToken"] = page["NextToken"]
    return job, trials


def _watch(client: Any, name: str, *, once: bool) -> int:
    """On a terminal the table is drawn over; elsewhere each trial is told once, when it ends."""
    live = sys.stdout.isatty() and not once
    told: set[str] = set()
    while True:
        job, trials = _look(client, name)
        ended = job["HyperParameterTuningJobStatus"] in ENDED
        if live:
            size = shutil.get_terminal_size()
            lines = picture(job, trials, size.columns, size.lines - 1)
            say("\033[H\033[J" + "\n".join(lines))
        elif once or ended:
            _tell_ended(trials, told, skip=once)
            say("\n".join(picture(job, trials, 100, None if once else 0)))
        else:
            _tell_ended(trials, told, skip=False)
        if once or ended:
            best = job.get("BestTrainingJob")
            if best is not None:
                next_step(f"clary logs {best['TrainingJobName']}")
            return _code(job)
        time.sleep(POLL_SECONDS)


def _tell_ended(trials: list[dict[str, Any]], told: set[str], *, skip: bool) -> None:
    for trial in trials:
        if trial["TrainingJobStatus"] in ENDED and trial["TrainingJobName"] not in told:
            told.add(trial["TrainingJobName"])
            if not skip:
                say(_row(trial))


def _code(job: dict[str, Any]) -> int:
    return 1 if job["HyperParameterTuningJobStatus"] == "Failed" else 0


def picture(
    job: dict[str, Any], trials: list[dict[str, Any]], columns: int, rows: int | None
) -> list[str]:
    """Head, plot, and as many of the latest trials as `rows` lines have place for (None: all)."""
    counters = job["TrainingJobStatusCounters"]
    config = job["HyperParameterTuningJobConfig"]
    limits = config["ResourceLimits"]
    ended = counters["Completed"] + counters["Stopped"] + counters["NonRetryableError"]
    most = limits.get("MaxNumberOfTrainingJobs", "?")
    lines = [
        f"{job['HyperParameterTuningJobName']}  {job['HyperParameterTuningJobStatus']}  "
        f"{config['Strategy']}  {ended}/{most} trials ended, {counters['InProgress']} running, "
        f"{counters['NonRetryableError']} failed"
    ]
    if job.get("FailureReason"):
        lines.append(f"Failed: {job['FailureReason']}")
    best = job.get("BestTrainingJob")
    if best is not None:
        metric = best["FinalHyperParameterTuningJobObjectiveMetric"]
        lines.append(
            f"best {metric['MetricName']} {metric['Value']:.6g} ({metric['Type'].lower()}) by "
            f"{best['TrainingJobName']}: {_pairs(best['TunedHyperParameters'])}"
        )
        lines += ["", *plot(_values(trials), columns, maximize=metric["Type"] == "Maximize")]
    lines.append("")
    left = len(trials) if rows is None else max(rows - len(lines), 0)
    latest = sorted(trials, key=lambda one: one["CreationTime"], reverse=True)[:left]
    lines += [_row(one) for one in latest]
    return [line[: columns - 1] if rows is not None else line for line in lines]


def _values(trials: list[dict[str, Any]]) -> list[float]:
    """The values of the objective in the order in which the trials ended."""
    done = [one for one in trials if one.get("TrainingEndTime") and _value(one) is not None]
    done.sort(key=lambda one: one["TrainingEndTime"])
    return [_value(one) or 0.0 for one in done]


def plot(values: list[float], columns: int, *, maximize: bool) -> list[str]:
    """One column a trial: `o` its value, `*` a new best, `-` the best so far. The last that fit are shown."""
    shown = values[-min(PLOT_COLUMNS_MAX, columns - 14) :]
    if not shown:
        return []
    better = max if maximize else min
    earlier = values[: len(values) - len(shown)]
    best = better(earlier) if earlier else None
    low, high = min(values), max(values)
    span = (high - low) or 1.0
    grid = [[" "] * len(shown) for _ in range(PLOT_ROWS)]
    for column, value in enumerate(shown):
        is_new = best is None or better(value, best) != best
        best = value if best is None else better(value, best)
        grid[_line(best, high, span)][column] = "-"
        grid[_line(value, high, span)][column] = "*" if is_new else "o"
    labels = {0: f"{high:.5g}", PLOT_ROWS - 1: f"{low:.5g}"}
    return [f"{labels.get(row, ''):>10} |{''.join(grid[row])}" for row in range(PLOT_ROWS)]


def _line(value: float, high: float, span: float) -> int:
    return round((high - value) / span * (PLOT_ROWS - 1))


def _row(trial: dict[str, Any]) -> str:
    value = _value(trial)
    shown = f"{value:.6g}" if value is not None else "-"
    hyperparameters = _pairs(trial["TunedHyperParameters"])
    reason = trial.get("FailureReason", "").splitlines()
    told = f"  {reason[0]}" if reason else ""
    return (
        f"{trial['TrainingJobName']:<44} {trial['TrainingJobStatus']:<10} {shown:>12} "
        f"{_seconds(trial):>7}  {hyperparameters}{told}"
    )


def _value(trial: dict[str, Any]) -> float | None:
    metric = trial.get("FinalHyperParameterTuningJobObjectiveMetric")
    return metric["Value"] if metric else None


def _seconds(trial: dict[str, Any]) -> str:
    start, end = trial.get("TrainingStartTime"), trial.get("TrainingEndTime")
    if start is None:
        return "-"
    until = end or datetime.now(start.tzinfo)
    return f"{(until - start).total_seconds():.1f}s"


def _pairs(values: dict[str, str]) -> str:
    return " ".join(f"{name}={_short(value)}" for name, value in sorted(values.items()))


def _short(value: str) -> str:
    """Numbers with the digits that one can compare by eye."""
    try:
        number = float(value)
    except ValueError:
        return value
    return value if value.isdecimal() else f"{number:.4g}"
