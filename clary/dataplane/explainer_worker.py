"""The explainer: a process of its own that asks a model about many variations of a record and solves for the features.

    stdin   one job a line: {"id", "config", "baseline", "expression", "content_type", "body", "output_type", "output",
            "socket", "accept", "seconds"}
    stdout  one answer a line: {"id", "answer", "explained"} or {"id", "status", "error"}
It ends when stdin does, so it never outlives the door.
"""

from __future__ import annotations

import http.client
import json
import logging
import math
import os
import socket
import sys
import threading
import time
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NoReturn

from clary.dataplane.explainer_records import (
    CSV,
    ExplainerError,
    Record,
    as_number,
    body_of,
    features_of,
    is_wanted,
    labels_of,
    outputs_of,
    plain_type,
    scores_of,
)
from clary.dataplane.explainer_shap import attributions, coalitions, sample_count
from clary.dataplane.explainer_units import feature_types, mixed, units_of

log = logging.getLogger(__name__)

JOBS_AT_ONCE = 4
RECORDS_FIRST = 512  # in one request to the model; fewer where it refuses so many
MEGABYTE = 1024 * 1024
PAYLOAD_MEGABYTES = 6
ANSWER_BYTES_MAX = 64 * MEGABYTE
EXPLAINED = "`true`"
SCORE_LIMIT = 1e-7  # probabilities are kept this far from 0 and 1 before their logit
Row = list[float]


class Job:
    """One request that is explained."""

    def __init__(self, given: Mapping[str, Any]) -> None:
        self.given = given
        self.config: Mapping[str, Any] = given["config"]
        self.inference: Mapping[str, Any] = self.config.get("InferenceConfig") or {}
        self.shap: Mapping[str, Any] = self.config["ShapConfig"]
        self.deadline = time.monotonic() + float(given["seconds"])
        self.records_max = int(self.inference.get("MaxRecordCount") or RECORDS_FIRST)

    def answer(self) -> tuple[dict[str, Any], int]:
        """The response of the endpoint, and how many records were explained."""
        given = self.given
        outputs = outputs_of(given["output"], given["output_type"])
        expression = given["expression"] or self.config.get("EnableExplanations") or EXPLAINED
        wanted = [is_wanted(expression, one) for one in outputs]
        answer: dict[str, Any] = {
            "version": "1.0",
            "predictions": {"content_type": given["output_type"], "data": given["output"]},
        }
        labels = labels_of(outputs[0], self.inference) if outputs else None
        if labels:
            answer["label_headers"] = labels
        answer["explanations"] = {}
        if any(wanted):
            answer["explanations"] = {"kernel_shap": self._explained(outputs, wanted)}
        return answer, sum(wanted)

    def _explained(self, outputs: list[Any], wanted: list[bool]) -> list[Any]:
        records = features_of(self.given["body"], self.given["content_type"], self.inference)
        if len(records) != len(outputs):
            raise ExplainerError(
                f"The model answered {len(outputs)} outputs for {len(records)} records; there must be "
                "one for each."
            )
        baseline = self._baseline(len(records[0]))
        none = self._linked(self._mean(self._predict(baseline)))
        types = feature_types(baseline, self.config, nlp="TextConfig" in self.shap)
        return [
            self._explanation(record, output, baseline, none, types) if one else None
            for record, output, one in zip(records, outputs, wanted, strict=True)
        ]

    def _explanation(
        self, record: Record, output: Any, baseline: list[Record], none: Row, types: list[str]
    ) -> list[dict[str, Any]]:
        if len(record) != len(types):
            raise ExplainerError(
                f"A record has {len(record)} features, but the SHAP baseline has {len(types)}."
            )
        granularity = (self.shap.get("TextConfig") or {}).get("Granularity")
        units = units_of(record, types, granularity)
        if not units:
            return self._shown(record, [], [], types)
        count = sample_count(len(units), self.shap.get("NumberOfSamples"))
        masks = coalitions(len(units), count, self.shap.get("Seed"))
        rows = [mixed(record, one, units, mask) for mask in masks for one in baseline]
        predicted, step = self._predict(rows), len(baseline)
        means = [
            self._linked(self._mean(predicted[at : at + step]))
            for at in range(0, len(predicted), step)
        ]
        whole = self._linked(scores_of(output, self.inference))
        return self._shown(
            record, units, attributions(masks, means, none, whole, len(units)), types
        )

    def _shown(
        self, record: Record, units: list[Any], values: list[Row], types: list[str]
    ) -> list[dict[str, Any]]:
        headers = self.inference.get("FeatureHeaders") or []
        nlp = "TextConfig" in self.shap
        found: list[dict[str, Any]] = []
        for number in range(len(record)):
            entry: dict[str, Any] = {}
            if number < len(headers):
                entry["feature_header"] = headers[number]
            if nlp:
                entry["feature_type"] = types[number]
            entry["attributions"] = [
                {"attribution": value}
                | (
                    {}
                    if unit.text is None
                    else {"description": {"partial_text": unit.text, "start_idx": unit.start}}
                )
                for unit, value in zip(units, values, strict=True)
                if unit.feature == number
            ]
            found.append(entry)
        return found

    def _baseline(self, features: int) -> list[Record]:
        kind = self.shap["ShapBaselineConfig"].get("MimeType") or CSV
        found = features_of(self.given["baseline"], kind, self.inference)
        if plain_type(kind) == CSV and plain_type(self.given["content_type"]) != CSV:
            found = [[as_number(one) for one in row] for row in found]
        if not found or any(len(row) != features for row in found):
            raise ExplainerError(
                f"Every record of the SHAP baseline must have the {features} features of the request."
            )
        return found

    def _linked(self, scores: Row) -> Row:
        """Log-odds where UseLogit asks for them."""
        if not self.shap.get("UseLogit"):
            return scores
        inside = [min(1 - SCORE_LIMIT, max(SCORE_LIMIT, one)) for one in scores]
        return [math.log(one / (1 - one)) for one in inside]

    @staticmethod
    def _mean(rows: list[Row]) -> Row:
        return [sum(column) / len(rows) for column in zip(*rows, strict=True)]

    # The model ------------------------------------------------------------------------------------

    def _predict(self, records: list[Record]) -> list[Row]:
        """The scores of records, asked in as few requests as the model and the limits allow."""
        found: list[Row] = []
        with ModelConnection(self.given["socket"]) as model:
            while len(found) < len(records):
                batch = records[len(found) : len(found) + self.records_max]
                answered = self._ask(model, batch)
                if answered is None:
                    self.records_max = max(1, len(batch) // 2)
                    continue
                found += answered
        return found

    def _ask(self, model: ModelConnection, batch: list[Record]) -> list[Row] | None:
        """None where fewer records should be tried."""
        left = self.deadline - time.monotonic()
        if left <= 0:
            raise ExplainerError(
                "The explanation took longer than an invocation may. Use a smaller SHAP baseline or "
                "a smaller NumberOfSamples, or explain fewer records in one request."
            )
        content_type = self.given["content_type"]
        body = body_of(batch, content_type, self.inference).encode()
        most = int(self.inference.get("MaxPayloadInMB") or PAYLOAD_MEGABYTES) * MEGABYTE
        if len(body) > most and len(batch) > 1:
            return None
        status, kind, text = model.ask(body, content_type, self.given["accept"], left)
        if status >= 400:
            if len(batch) > 1:
                return None
            raise ExplainerError(f"The model refused a synthetic record ({status}): {text[:500]}")
        outputs = outputs_of(text, kind or self.given["output_type"])
        if len(outputs) != len(batch):
            if len(batch) > 1:
                return None
            raise ExplainerError("The model did not answer one output for one synthetic record.")
        return [scores_of(one, self.inference) for one in outputs]


class ModelConnection(http.client.HTTPConnection):
    """Keep-alive HTTP to a model server's Unix socket."""

    def __init__(self, path: str) -> None:
        super().__init__("model")
        self._path = path

    def __enter__(self) -> ModelConnection:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(self.timeout)
        self.sock.connect(self._path)

    def ask(
        self, body: bytes, content_type: str, accept: str, seconds: float
    ) -> tuple[int, str, str]:
        """Status, content type and text of an answer."""
        self.timeout = seconds
        if self.sock is not None:
            self.sock.settimeout(seconds)
        headers = {"content-type": content_type, **({"accept": accept} if accept else {})}
        try:
            self.request("POST", "/invocations", body, headers)
            answer = self.getresponse()
            content = answer.read(ANSWER_BYTES_MAX)
        except (OSError, http.client.HTTPException) as problem:
            raise ExplainerError(f"The model could not be asked: {problem!r}") from problem
        kind = answer.headers.get("content-type") or ""
        return answer.status, kind, content.decode("utf-8", "replace")


def explained(given: Mapping[str, Any]) -> dict[str, Any]:
    """The line that answers a job."""
    try:
        answer, count = Job(given).answer()
    except ExplainerError as problem:
        return {"id": given["id"], "status": 400, "error": str(problem)}
    except Exception as problem:
        # One job's defect must not end the process, which others wait for; the door's log has it all.
        log.exception("a request could not be explained")
        return {"id": given["id"], "status": 500, "error": f"The explainer failed: {problem!r}"}
    return {"id": given["id"], "answer": answer, "explained": count}


def main() -> NoReturn:
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s %(message)s")
    guard = threading.Lock()

    def work(line: bytes) -> None:
        told = json.dumps(explained(json.loads(line)))
        with guard:
            sys.stdout.write(f"{told}\n")
            sys.stdout.flush()

    pool = ThreadPoolExecutor(JOBS_AT_ONCE)
    for line in sys.stdin.buffer:
        pool.submit(work, line)
    # The door is gone, and with it whoever waits: what is still being computed is for nobody.
    os._exit(0)


if __name__ == "__main__":
    main()
