"""Serving Object2Vec: scores of pairs, or the vector of one side alone."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch

from clary.workloads.algorithms.execution_parameters import execution_parameters
from clary.workloads.algorithms.first_party import json_exchange, model_files
from clary.workloads.algorithms.first_party.requests import JSON_LINES
from clary.workloads.algorithms.object2vec import SOFTMAX
from clary.workloads.algorithms.object2vec.network import PairNetwork
from clary.workloads.algorithms.object2vec.pairs import padded
from clary.workloads.serving.handlers import Answer, Rejected

BOTH = ("in0", "in1")
PREFERRED_MODE = "INFERENCE_PREFERRED_MODE"


class PairHandler:
    """Answers with scores where an instance has both inputs, with an embedding where it has one."""

    def __init__(self, network: PairNetwork, values: Mapping[str, Any], preferred: str) -> None:
        self.network = network.eval()
        self.softmax = values["output_layer"] == SOFTMAX
        self.preferred = preferred

    def ping(self) -> bool:
        return True

    def execution_parameters(self) -> dict[str, object]:
        return execution_parameters()

    def invoke(
        self, body: bytes, content_type: str, accept: str, headers: Mapping[str, str]
    ) -> Answer:
        kind, parameters, wanted = json_exchange.negotiate(content_type, accept)
        with json_exchange.evaluating():
            instances = (
                json_exchange.lines(body)
                if kind == JSON_LINES
                else json_exchange.document(body)["instances"]
            )
            answers = self._answers(instances, _lengths(parameters))
        return 200, wanted, json_exchange.told(answers, wanted)

    @torch.no_grad()
    def _answers(
        self, instances: list[dict[str, Any]], lengths: tuple[int, int] | None
    ) -> list[dict[str, Any]]:
        given = {tuple(name for name in BOTH if name in one) for one in instances}
        if len(given) != 1 or given == {()}:
            raise ValueError("all instances must have in0, or in1, or both")
        names = given.pop()
        # Embeddings may be asked for where both are given: those of the first.
        if self.preferred == "embedding":
            names = names[:1]
        tokens = [self._tokens(name, instances, lengths) for name in names]
        if len(tokens) == 2:
            scores = self.network(*tokens)
            scores = torch.softmax(scores, dim=1) if self.softmax else scores
            return [{"scores": row} for row in scores.numpy().astype(np.float64).tolist()]
        vectors = self.network.encode(BOTH.index(names[0]), tokens[0])
        return [{"embeddings": row} for row in vectors.numpy().astype(np.float64).tolist()]

    def _tokens(
        self, name: str, instances: list[dict[str, Any]], lengths: tuple[int, int] | None
    ) -> torch.Tensor:
        at = BOTH.index(name)
        side = self.network.sides[at]
        cut = lengths[at] if lengths else side.length
        return padded([side.tokens(one[name][:cut]) for one in instances], side.vocabulary)


def _lengths(parameters: Mapping[str, str]) -> tuple[int, int] | None:
    """`infer_max_seqlens=<forward>,<backward>` of the content type."""
    found = parameters.get("infer_max_seqlens")
    if not found:
        return None
    first, _, second = found.partition(",")
    return int(first), int(second or first)


def load(folder: Path) -> PairHandler:
    """The handler for a model folder; refuses with 500 where no model can be read."""
    artifact = model_files.load(folder, "object2vec")
    try:
        values = artifact.document["values"]
        network = PairNetwork(values)
        state = {name: torch.from_numpy(value) for name, value in artifact.arrays.items()}
        network.load_state_dict(state)
    except (KeyError, TypeError, RuntimeError) as problem:
        raise Rejected(500, f"Unable to load model: {problem}") from problem
    return PairHandler(network, values, os.environ.get(PREFERRED_MODE, ""))
