"""Weights in files: what a training leaves, and what it may start from.

A file is a NumPy archive of the network's arrays and a JSON document; nothing in it can run.
"""

from __future__ import annotations

import io
import json
import os
import tarfile
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from clary.workloads.algorithms.channels import Channel
from clary.workloads.algorithms.first_party.errors import ClientError
from clary.workloads.serving.handlers import Rejected

_DOCUMENT = "document"
_DEPTH_MAX = 4
_BYTES_MAX = 4 << 30
SUFFIXES = (".params", ".pth", ".pt")


@dataclass(frozen=True)
class Weights:
    """The arrays of a network by name; the document says which network it is."""

    arrays: Mapping[str, torch.Tensor]
    document: Mapping[str, Any]
    source: str


def save(path: Path, network: nn.Module, document: Mapping[str, Any]) -> None:
    """Written whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    text = json.dumps({"version": 1, **document})
    arrays = {name: value.detach().cpu().numpy() for name, value in network.state_dict().items()}
    staging = path.with_name(f".{path.name}.{os.getpid()}")
    with staging.open("wb") as file:
        np.savez(file, **{_DOCUMENT: np.frombuffer(text.encode(), np.uint8), **arrays})
    staging.replace(path)


def write_document(path: Path, document: object) -> None:
    staging = path.with_name(f".{path.name}.{os.getpid()}")
    staging.write_text(json.dumps(document))
    staging.replace(path)


def parse(content: bytes, source: str) -> Weights:
    """Raise ValueError where the bytes are no weights of ours."""
    try:
        # A pickle runs code while it loads: a model file never may.
        with np.load(io.BytesIO(content), allow_pickle=False) as archive:
            arrays = {name: archive[name] for name in archive.files}
        document = json.loads(arrays.pop(_DOCUMENT).tobytes())
    except (OSError, KeyError, TypeError, zipfile.BadZipFile, EOFError) as problem:
        raise ValueError(f"{source} holds no weights: {problem}") from problem
    tensors = {name: torch.from_numpy(np.array(value)) for name, value in arrays.items()}
    return Weights(tensors, document, source)


def newest(folder: Path, pattern: str) -> Path | None:
    """The last of the files by name: numbers in them have leading zeros."""
    return max(folder.glob(pattern), default=None) if folder.is_dir() else None


def load_for_serving(folder: Path, pattern: str, algorithm: str) -> Weights:
    """Refuses with 500 where the folder has no model of that algorithm."""
    path = newest(folder, pattern)
    if path is None:
        raise Rejected(500, f"Unable to load model: there is no {pattern} in {folder}")
    try:
        found = parse(path.read_bytes(), path.name)
    except ValueError as problem:
        raise Rejected(500, f"Unable to load model: {problem}") from problem
    if found.document.get("algorithm_name") != algorithm:
        raise Rejected(500, f"Unable to load model: {path.name} is no model of {algorithm}")
    return found


def in_channel(channel: Channel) -> Weights:
    """The weights of a `model` channel: an artifact of a job, or a file of published weights."""
    for path in channel.files(_DEPTH_MAX):
        try:
            if path.name.endswith((".tar.gz", ".tgz", ".tar")):
                return _in_archive(path)
            if path.suffix in SUFFIXES:
                return _in_file(path)
        except (ValueError, RuntimeError, tarfile.TarError, OSError, EOFError) as problem:
            raise ClientError(
                f"Unable to read channel '{channel.name}': {path.name}: {problem}"
            ) from problem
    raise ClientError(
        f"Channel '{channel.name}' holds no model: expected the model.tar.gz of a training job, "
        f"or a file of weights ({', '.join(SUFFIXES)})."
    )


def _in_file(path: Path) -> Weights:
    if path.suffix == ".params":
        return parse(path.read_bytes(), path.name)
    found = torch.load(path, map_location="cpu", weights_only=True)
    found = found.get("state_dict", found) if isinstance(found, dict) else found
    if not isinstance(found, dict):
        raise ValueError("there is no dictionary of weights in it")
    tensors = {name: one for name, one in found.items() if isinstance(one, torch.Tensor)}
    return Weights(tensors, {}, path.name)


def _in_archive(path: Path) -> Weights:
    """The newest weights in an archive, read without unpacking anything."""
    with tarfile.open(path) as archive:
        members = [one for one in archive if one.isfile() and one.name.endswith(".params")]
        if not members:
            raise ValueError("there is no .params file in it")
        member = max(members, key=lambda one: one.name)
        if member.size > _BYTES_MAX:
            raise ValueError(f"{member.name} is larger than {_BYTES_MAX} bytes")
        stream = archive.extractfile(member)
        assert stream is not None
        return parse(stream.read(), f"{path.name}, {member.name}")


def adopt(network: nn.Module, weights: Weights, *, prefix: str = "") -> tuple[int, int]:
    """Take over what has the name and shape of the network's own; how many did, out of how many.

    `prefix` is where published weights of a backbone go.
    """
    own = network.state_dict()
    names = {name: name if name in own else prefix + name for name in weights.arrays}
    fitting = {
        names[name]: value
        for name, value in weights.arrays.items()
        if names[name] in own and own[names[name]].shape == value.shape
    }
    network.load_state_dict(fitting, strict=False)
    return len(fitting), len(own)


def restore(network: nn.Module, weights: Weights) -> None:
    """Refuses with 500 where the weights are not all of the network's."""
    try:
        network.load_state_dict(dict(weights.arrays))
    except (RuntimeError, TypeError) as problem:
        raise Rejected(500, f"Unable to load model: {problem}") from problem
