"""Serving Seq2Seq: the target that belongs to a source, as text or as numbers."""

from __future__ import annotations

import struct
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from clary.workloads.algorithms.execution_parameters import execution_parameters
from clary.workloads.algorithms.first_party import json_exchange, model_files
from clary.workloads.algorithms.first_party.requests import JSON, JSON_LINES, RECORDIO
from clary.workloads.algorithms.seq2seq.beam_search import Translation, search
from clary.workloads.algorithms.seq2seq.network import SequenceNetwork
from clary.workloads.algorithms.seq2seq.sentences import Vocabulary, padded
from clary.workloads.formats import protobuf_wire as wire
from clary.workloads.formats import recordio_protobuf
from clary.workloads.serving.handlers import Answer, Rejected

ACCEPTED = (JSON, JSON_LINES, RECORDIO)
SENTENCES_AT_ONCE = 32


class TranslationHandler:
    """Answers with the most likely target of each source."""

    def __init__(
        self,
        network: SequenceNetwork,
        values: Mapping[str, Any],
        vocabularies: tuple[Vocabulary, Vocabulary],
    ) -> None:
        self.network, self.values = network.eval(), values
        self.source, self.target = vocabularies
        self.words = self.target.words()

    def ping(self) -> bool:
        return True

    def execution_parameters(self) -> dict[str, object]:
        return execution_parameters()

    def invoke(
        self, body: bytes, content_type: str, accept: str, headers: Mapping[str, str]
    ) -> Answer:
        kind, _, wanted = json_exchange.negotiate(content_type, accept, ACCEPTED)
        with json_exchange.evaluating():
            sources, with_matrix = self._sources(body, kind)
        return 200, wanted, self._body(self._translations(sources), wanted, with_matrix=with_matrix)

    def _sources(self, body: bytes, kind: str) -> tuple[list[np.ndarray], bool]:
        """The ids of each source, and whether the attention is asked for."""
        with_matrix = False
        if kind == RECORDIO:
            records = recordio_protobuf.read_records(body)
            found = [
                self.source.checked(one.features["source"].values, "source") for one in records
            ]
        elif kind == JSON_LINES:
            found = [self._ids(one["source"]) for one in json_exchange.lines(body)]
        else:
            document = json_exchange.document(body)
            asked = (document.get("configuration") or {}).get("attention_matrix", "false")
            with_matrix = str(asked).lower() == "true"
            found = [self._ids(one["data"]) for one in document["instances"]]
        if not found or not all(one.size for one in found):
            raise ValueError("each instance needs a source with at least one word")
        return [one[: self.values["max_seq_len_source"]] for one in found], with_matrix

    def _ids(self, text: Any) -> np.ndarray:
        if not isinstance(text, str):
            raise TypeError("a source must be text, its words with spaces between them")
        return self.source.encode(text)

    def _translations(self, sources: Sequence[np.ndarray]) -> list[Translation]:
        found = []
        beam, longest = self.values["beam_size"], self.values["max_seq_len_target"]
        for start in range(0, len(sources), SENTENCES_AT_ONCE):
            part = sources[start : start + SENTENCES_AT_ONCE]
            best = search(self.network, padded(part), self.target, beam, longest)
            # Batches are padded: nothing is said of words that are not there.
            found += [
                Translation(one.ids, one.attention[:, : len(source)])
                for one, source in zip(best, part)  # noqa: B905 - Python 3.8
            ]
        return found

    def _body(self, found: list[Translation], wanted: str, *, with_matrix: bool) -> bytes:
        if wanted == RECORDIO:
            return b"".join(_record(one.ids) for one in found)
        answers: list[dict[str, Any]] = []
        for one in found:
            text = " ".join(self.words.get(at, "<unk>") for at in one.ids)
            matrix = {"matrix": one.attention.astype(np.float64).tolist()} if with_matrix else {}
            answers.append({"target": text, **matrix})
        return json_exchange.told(answers, wanted)


def _record(ids: Sequence[int]) -> bytes:
    """A record whose feature `target` holds the ids."""
    tensor = wire.chunk(1, b"".join(map(wire.varint, ids)))
    value = wire.chunk(1, b"target") + wire.chunk(2, wire.chunk(7, tensor))
    payload = wire.chunk(1, value)
    head = recordio_protobuf.MAGIC_BYTES + struct.pack("<I", len(payload))
    return head + payload + bytes(-len(payload) % 4)


def load(folder: Path) -> TranslationHandler:
    """The handler for a model folder; refuses with 500 where no model can be read."""
    artifact = model_files.load(folder, "seq2seq")
    try:
        values = artifact.document["values"]
        source = Vocabulary.parse(artifact.document["source"])
        target = Vocabulary.parse(artifact.document["target"])
        network = SequenceNetwork(values, source.size, target.size)
        state = {name: torch.from_numpy(value) for name, value in artifact.arrays.items()}
        network.load_state_dict(state)
    except (KeyError, TypeError, ValueError, RuntimeError) as problem:
        raise Rejected(500, f"Unable to load model: {problem}") from problem
    return TranslationHandler(network, values, (source, target))
