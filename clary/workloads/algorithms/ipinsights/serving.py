"""Serving IP Insights: the dot product of an entity's vector and an address's vector."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch

from clary.workloads.algorithms.channels import parse_content_type
from clary.workloads.algorithms.first_party import model_files
from clary.workloads.algorithms.first_party.requests import CSV, JSON, JSON_LINES
from clary.workloads.algorithms.first_party.serving import TabularHandler
from clary.workloads.algorithms.ipinsights import events
from clary.workloads.algorithms.ipinsights.network import Affinity
from clary.workloads.serving.handlers import Rejected

CONTENT_TYPES = (CSV, JSON, JSON_LINES)


class Pairs:
    """The network of a model; a row is the entity's place and the address."""

    features = 2
    content_types = CONTENT_TYPES
    list_name = "predictions"
    csv_columns = ("dot_product",)

    def __init__(self, network: Affinity) -> None:
        self.network = network.eval()
        self.places = network.entities.num_embeddings
        self.dimension = network.entities.embedding_dim

    @torch.no_grad()
    def predict(self, rows: Any) -> np.ndarray:
        """The dot product, the entity's vector, the address's vector."""
        entities = self.network.entities(torch.from_numpy(rows[:, 0].copy()))
        bits = events.address_bits(rows[:, 1])
        addresses = self.network.encoder(torch.from_numpy(bits))
        products = (entities * addresses).sum(dim=1, keepdim=True)
        return torch.cat([products, entities, addresses], dim=1).numpy().astype(np.float64)

    def columns(self, results: np.ndarray, *, verbose: bool) -> Mapping[str, np.ndarray]:
        found = {"dot_product": results[:, 0]}
        if verbose:
            found["entity_embedding"] = results[:, 1 : 1 + self.dimension]
            found["ip_embedding"] = results[:, 1 + self.dimension :]
        return found


class PairHandler(TabularHandler):
    """Requests hold words, not numbers."""

    model: Pairs

    def decode(self, body: bytes, content_type: str) -> np.ndarray:
        kind, _ = parse_content_type(content_type or "")
        if kind not in CONTENT_TYPES:
            raise Rejected(
                415,
                f"Content-type {content_type or '(none)'} not supported. Supported "
                f"content-types: {', '.join(CONTENT_TYPES)}.",
            )
        try:
            pairs = [events.pair(fields) for fields in _instances(body, kind)]
        except (ValueError, TypeError, KeyError, RecursionError) as problem:
            message = f"unable to evaluate payload provided: {problem}"
            raise Rejected(400, message) from problem
        if not pairs:
            raise Rejected(400, "unable to evaluate payload provided: there are no instances")
        places = events.entity_rows((entity for entity, _ in pairs), self.model.places)
        return np.column_stack([places, np.array([address for _, address in pairs])])


def _instances(body: bytes, kind: str) -> list[list[Any]]:
    text = body.decode("utf-8")
    if kind == CSV:
        return [line.split(",") for line in text.splitlines() if line.strip()]
    if kind == JSON_LINES:
        return [_features(json.loads(line)) for line in text.splitlines() if line.strip()]
    document = json.loads(text)
    instances = document.get("instances") if isinstance(document, dict) else None
    if not isinstance(instances, list):
        raise ValueError('a JSON body is an object with a list "instances"')
    return [_features(one) for one in instances]


def _features(instance: Any) -> list[Any]:
    """`{"features": [..]}`, or `{"data": {"features": {"values": [..]}}}`."""
    found = instance["data"]["features"] if "data" in instance else instance["features"]
    found = found["values"] if isinstance(found, dict) else found
    if not isinstance(found, list):
        raise ValueError("features must be a list of an entity and an IPv4 address")
    return found


def load(folder: Path) -> PairHandler:
    """The handler for a model folder; refuses with 500 where no model can be read."""
    artifact = model_files.load(folder, "ipinsights")
    document = artifact.document
    try:
        network = Affinity(
            document["num_entity_vectors"],
            document["vector_dim"],
            document["num_ip_encoder_layers"],
        )
        state = {name: torch.from_numpy(value) for name, value in artifact.arrays.items()}
        network.load_state_dict(state)
    except (KeyError, TypeError, RuntimeError) as problem:
        raise Rejected(500, f"Unable to load model: {problem}") from problem
    return PairHandler(Pairs(network), os.environ)
