"""Embeddings that are known beforehand, from the files of the auxiliary channel."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import torch

from clary.workloads.algorithms.first_party.errors import ClientError
from clary.workloads.algorithms.first_party.session import Session
from clary.workloads.algorithms.object2vec.network import Encoder


def load_into(run: Session, side: str, encoder: Encoder) -> None:
    """Fill an encoder's embedding from `<word> <numbers...>` lines, by the ids of the vocabulary."""
    name = run.values[f"{side}_pretrained_embedding_file"]
    if not name:
        return
    vocabulary = _vocabulary(run, side)
    weight = encoder.tokens.weight
    found = 0
    with torch.no_grad(), _file(run, name).open(encoding="utf-8") as lines:
        for at, line in enumerate(lines, 1):
            word, *numbers = line.rstrip().split(" ")
            place = vocabulary.get(word)
            if place is None:
                continue
            if len(numbers) != weight.shape[1]:
                raise ClientError(
                    f"'{name}', line {at} has {len(numbers)} numbers, where "
                    f"{side}_token_embedding_dim is {weight.shape[1]}."
                )
            weight[place] = torch.from_numpy(np.array(numbers, dtype=np.float32))
            found += 1
    run.log.say(f"{found} of {len(vocabulary)} words of {side} have pretrained embeddings")
    if run.values[f"{side}_freeze_pretrained_embedding"]:
        weight.requires_grad_(False)


def _vocabulary(run: Session, side: str) -> dict[str, int]:
    name = run.values[f"{side}_vocab_file"]
    if not name:
        raise ClientError(f"{side}_pretrained_embedding_file needs {side}_vocab_file as well.")
    size = run.values.get(f"{side}_vocab_size") or run.values["enc0_vocab_size"]
    try:
        found: Any = json.loads(_file(run, name).read_text(encoding="utf-8"))
        vocabulary = {str(word): int(place) for word, place in found.items()}
    except (ValueError, AttributeError, TypeError) as problem:
        raise ClientError(
            f"'{name}' is no JSON object of words and their ids: {problem}"
        ) from problem
    if any(not 0 <= place < size for place in vocabulary.values()):
        raise ClientError(f"'{name}' has ids that are not between 0 and {size - 1}.")
    return vocabulary


def _file(run: Session, name: str) -> Path:
    channel = run.job.channels.get("auxiliary")
    if channel is None:
        raise ClientError(f"The file '{name}' needs the channel 'auxiliary'.")
    path = (channel.path / name).resolve()
    if not path.is_relative_to(channel.path.resolve()) or not path.is_file():
        raise ClientError(f"The auxiliary channel has no file '{name}'.")
    return path
