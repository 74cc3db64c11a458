"""When a training job begins anew: after a spot interruption, and after a failure that is not the user's.

    Training ── interruption ──▶ Interrupted ── resume_at ──▶ Starting     (managed spot, until MaxWaitTime)
    Training ── internal error ──▶ Restarting ── resume_at ──▶ Starting    (RetryStrategy, so many times)

An interruption is provoked by a tag: each new value of `clary:interrupt` is one. Where the installation
asks for random ones (CLARY_SPOT_INTERRUPTION_SECONDS), their times follow from the job and its generation,
so that every look at the row finds the same.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from clary.reconcile.decisions import Become, Decision
from clary.reconcile.outcomes import Verdict
from clary.resources.training import warm_pool
from clary.resources.training.training_job_form import TrainingJobForm
from clary.store.rows import Row

INTERRUPT_TAG = "clary:interrupt"
SPOT_PAUSE_SECONDS = 1.0  # until the interrupted instance's place is taken again
RETRY_SECONDS = (1.0, 5.0, 15.0, 60.0)
INTERRUPTED = "Managed spot training was interrupted; its checkpoints are kept"
RESTARTING = "Restarting the training job after an internal error (attempt {attempt} of {most})"


@dataclass(frozen=True, slots=True)
class TrainingRestarts:
    """See `jobs.Restarts` for who calls, and what may be relied upon."""

    form: TrainingJobForm

    def overdue(self, row: Row, now: float) -> Become | None:
        condition = row.document.get("StoppingCondition") or {}
        wait = condition.get("MaxWaitTimeInSeconds")
        if row.document.get("EnableManagedSpotTraining") and wait and now > row.created + wait:
            fields = self.form.stopping(row, now)
            return Become("Stopping", fields, {"ended_as": "MaxWaitTimeExceeded"})
        pending = condition.get("MaxPendingTimeInSeconds")
        begun = row.state.get("hosts") or row.state.get("resume_at")
        if pending and not begun and now > row.created + pending:
            fields = self.form.stopping(row, now)
            return Become("Stopping", fields, {"ended_as": "MaxPendingTimeExceeded"})
        return None

    def interruption(self, row: Row, now: float) -> Become | None:
        if not row.document.get("EnableManagedSpotTraining"):
            return None
        name = self._provoked(row) or self._random(row, now)
        if not name:
            return None
        # Told once it has come to that: the program may just be ending by itself.
        return Become(state={"interrupting": name, "interrupted": name})

    def _provoked(self, row: Row) -> str:
        """The tag's value, where it is not the one that was acted upon before."""
        value = next((one["Value"] for one in row.tags if one["Key"] == INTERRUPT_TAG), None)
        name = f"{INTERRUPT_TAG}={value}"
        return "" if value is None or name == row.state.get("interrupted") else name

    def _random(self, row: Row, now: float) -> str:
        mean = float(row.state.get("spot_interruption_seconds") or 0.0)
        begun = float(row.state.get("attempt_begun") or row.created)
        if not mean:
            return ""
        generation = row.state.get("generation", 1)
        digest = hashlib.sha256(f"{row.arn} {generation}".encode()).digest()
        share = (int.from_bytes(digest[:8], "big") + 1) / (2**64 + 1)
        # The waiting times of chance events: exponential, with the mean that was asked for.
        return f"random {generation}" if now >= begun - mean * math.log(share) else ""

    def again(self, row: Row, verdict: Verdict, now: float) -> Become | None:
        spent = float(row.state.get("seconds_spent") or 0.0)
        state: dict[str, Any] = {"seconds_spent": spent + self.form.attempt_seconds(verdict)}
        if self._time_is_over(row, state["seconds_spent"]):
            return None
        if row.state.get("interrupting") and verdict.result == "stopped":
            fields = self.form.moved(row, [("Interrupted", now)], INTERRUPTED)
            return Become(fields=fields, state={**state, "resume_at": now + SPOT_PAUSE_SECONDS})
        most = int((row.document.get("RetryStrategy") or {}).get("MaximumRetryAttempts") or 0)
        attempt = int(row.state.get("retries") or 0) + 1
        if verdict.result != "failure" or not verdict.internal or attempt > most:
            return None
        message = RESTARTING.format(attempt=attempt, most=most)
        fields = self.form.moved(row, [("Restarting", now)], f"{message}: {verdict.reason}"[:1024])
        pause = RETRY_SECONDS[min(attempt, len(RETRY_SECONDS)) - 1]
        return Become(fields=fields, state={**state, "retries": attempt, "resume_at": now + pause})

    def _time_is_over(self, row: Row, spent: float) -> bool:
        """MaxRuntimeInSeconds counts all attempts together."""
        condition = row.document.get("StoppingCondition") or {}
        most = condition.get("MaxRuntimeInSeconds")
        return most is not None and spent >= most

    def resumed(self, row: Row, now: float) -> Become:
        fields = self.form.waiting(row, now, "Preparing the instances for training")
        return Become(fields=fields, state={"resume_at": 0.0, "attempt_begun": now})

    def afterwards(self, row: Row, now: float) -> Sequence[Decision] | None:
        return warm_pool.afterwards(row, now)
