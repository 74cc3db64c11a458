"""The SavedModels of a model's folder, `**/{name}/{version}/saved_model.pb`, and what their signatures predict."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from clary.workloads.serving import tensorflow_examples
from clary.workloads.serving.tensorflow_examples import METHODS

FILE = "saved_model.pb"
SIGNATURE = "serving_default"
NAME = "model"
MODELS_MAX = 1000


class Refused(Exception):
    """A request that a model cannot answer, with its status."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


class SavedModels:
    """All models are loaded at the start; a request names one, or takes the default's newest version."""

    def __init__(self, folder: Path, environ: Mapping[str, str]) -> None:
        import tensorflow

        self._tensorflow = tensorflow
        self._models: dict[str, dict[str, Any]] = {}
        self._paths: dict[tuple[str, str], Path] = {}
        for name, version, path in find_models(folder):
            loaded = tensorflow.saved_model.load(str(path))
            self._models.setdefault(name, {})[version] = loaded
            self._paths[name, version] = path
        if not self._models:
            raise ValueError(
                f"No SavedModel was found: the archive must have a folder such as {NAME}/1 with a "
                f"{FILE} in it."
            )
        wanted = environ.get("SAGEMAKER_TFS_DEFAULT_MODEL_NAME", "")
        known = sorted(self._models)
        self.default = next((one for one in (wanted, NAME) if one in self._models), known[0])

    def answer(self, method: str, name: str, version: str | None, request: Any) -> tuple[int, Any]:
        """The status and the document that TensorFlow Serving would answer to one of its methods."""
        if method not in METHODS:
            return 400, {"error": f"Unknown method {method}: use {', '.join(sorted(METHODS))}."}
        try:
            found = self._version(name, version)
            if method == "predict":
                return 200, self._predicted(self._models[name][found], request)
            return 200, {"results": self._of_examples(method, name, found, request)}
        except Refused as problem:
            return problem.status, {"error": str(problem)}
        except (self._tensorflow.errors.OpError, TypeError, ValueError) as problem:
            return 400, {"error": str(problem)}

    def status(self, name: str, version: str | None) -> tuple[int, Any]:
        """Which versions there are; all that were found are loaded."""
        try:
            self._version(name, version)
        except Refused as problem:
            return problem.status, {"error": str(problem)}
        told = [
            {
                "version": one,
                "state": "AVAILABLE",
                "status": {"error_code": "OK", "error_message": ""},
            }
            for one in sorted(self._models[name], key=int, reverse=True)
            if version in (None, one)
        ]
        return 200, {"model_version_status": told}

    def metadata(self, name: str, version: str | None) -> tuple[int, Any]:
        """The signatures as they were saved."""
        from google.protobuf import json_format

        try:
            found = self._version(name, version)
        except Refused as problem:
            return problem.status, {"error": str(problem)}
        told = {
            one: json_format.MessageToDict(definition, preserving_proto_field_name=True)
            for one, definition in self._definitions(name, found).items()
        }
        return 200, {
            "model_spec": {"name": name, "signature_name": "", "version": found},
            "metadata": {"signature_def": {"signature_def": told}},
        }

    def _version(self, name: str, version: str | None) -> str:
        versions = self._models.get(name, {})
        if not versions or (version and version not in versions):
            which = f"Specific({name}, {version})" if version else f"Latest({name})"
            raise Refused(404, f"Servable not found for request: {which}")
        return version or max(versions, key=int)

    def _definitions(self, name: str, version: str) -> Any:
        """The SignatureDefs of a model's file: the loaded functions do not tell their methods."""
        from tensorflow.core.protobuf import saved_model_pb2

        saved = saved_model_pb2.SavedModel()
        saved.ParseFromString((self._paths[name, version] / FILE).read_bytes())
        graphs = [one for one in saved.meta_graphs if "serve" in one.meta_info_def.tags]
        return (graphs or saved.meta_graphs)[0].signature_def

    def _of_examples(self, method: str, name: str, version: str, request: Any) -> list[Any]:
        wanted = (request.get("signature_name") if isinstance(request, dict) else "") or SIGNATURE
        signature = _signature(self._models[name][version], wanted)
        given = self._definitions(name, version)[wanted].method_name
        if given != METHODS[method]:
            raise Refused(
                400,
                f"Expected the method_name of signature {wanted} to be {METHODS[method]}. Was: {given}",
            )
        specs = signature.structured_input_signature[1]
        if len(specs) != 1:
            raise Refused(
                400, f"Expected one input of tf.Examples, got {', '.join(sorted(specs))}."
            )
        examples = tensorflow_examples.examples_of(self._tensorflow, request)
        tensor = self._tensorflow.constant(examples, dtype=self._tensorflow.string)
        outputs = {
            key: _plain(one, key) for key, one in signature(**{next(iter(specs)): tensor}).items()
        }
        if method == "classify":
            return tensorflow_examples.classified(outputs)
        return tensorflow_examples.regressed(outputs)

    def _predicted(self, model: Any, request: Any) -> Any:
        if not isinstance(request, dict) or ("instances" in request) == ("inputs" in request):
            raise Refused(400, "Exactly one of 'instances' and 'inputs' must be given.")
        signature = _signature(model, request.get("signature_name") or SIGNATURE)
        specs = signature.structured_input_signature[1]
        by_rows = "instances" in request
        given = request["instances"] if by_rows else request["inputs"]
        columns = _columns(given, specs) if by_rows else _named(given, specs)
        missing = sorted(set(specs) - set(columns))
        if missing:
            raise Refused(400, f"Missing inputs of the signature: {', '.join(missing)}.")
        tensors = {
            name: self._tensorflow.constant(_binary(columns[name]), dtype=spec.dtype)
            for name, spec in specs.items()
        }
        for name, tensor in tensors.items():
            if not specs[name].shape.is_compatible_with(tensor.shape):
                raise Refused(
                    400,
                    f"The input {name} has the shape {tensor.shape}, but the signature takes "
                    f"{specs[name].shape}.",
                )
        answered = {name: _plain(one, name) for name, one in signature(**tensors).items()}
        if by_rows:
            return {"predictions": _rows(answered)}
        return {"outputs": next(iter(answered.values())) if len(answered) == 1 else answered}


def _signature(model: Any, wanted: str) -> Any:
    if wanted not in model.signatures:
        known = ", ".join(sorted(model.signatures))
        raise Refused(400, f'Serving signature name: "{wanted}" not found; known: {known}.')
    return model.signatures[wanted]


def find_models(folder: Path) -> list[tuple[str, str, Path]]:
    """(name, version, folder) of each; one without a version's folder is the first of its name."""
    found: list[tuple[str, str, Path]] = []
    for path in sorted(folder.rglob(FILE))[:MODELS_MAX]:
        place = path.parent
        if place.name.isdigit():
            name = place.parent.name if place.parent != folder else NAME
            found.append((name, place.name, place))
        else:
            found.append((place.name if place != folder else NAME, "1", place))
    return found


def _columns(instances: Any, specs: Mapping[str, Any]) -> dict[str, Any]:
    """Rows turned into one value for each input of the signature."""
    rows = list(instances)
    if not rows:
        raise Refused(400, "'instances' is empty.")
    if all(isinstance(row, dict) and set(row) != {"b64"} for row in rows):
        names = set(rows[0])
        if any(set(row) != names for row in rows):
            raise Refused(400, "Every instance must name the same inputs.")
        return {name: [row[name] for row in rows] for name in names}
    return _named(instances, specs)


def _named(value: Any, specs: Mapping[str, Any]) -> dict[str, Any]:
    if isinstance(value, dict) and set(value) != {"b64"}:
        return value
    if len(specs) != 1:
        raise Refused(400, f"The signature has several inputs: name them ({', '.join(specs)}).")
    return {next(iter(specs)): value}


def _binary(value: Any) -> Any:
    """Bytes are sent as {"b64": "..."}."""
    if isinstance(value, dict) and set(value) == {"b64"}:
        try:
            return base64.b64decode(value["b64"], validate=True)
        except (TypeError, binascii.Error) as problem:
            raise Refused(400, f"A b64 value is not valid: {problem}") from problem
    return [_binary(one) for one in value] if isinstance(value, list) else value


def _plain(tensor: Any, name: str) -> Any:
    return _json(tensor.numpy().tolist(), binary=name.endswith("_bytes"))


def _json(value: Any, *, binary: bool) -> Any:
    if isinstance(value, list):
        return [_json(one, binary=binary) for one in value]
    if isinstance(value, bytes):
        if binary:
            return {"b64": base64.b64encode(value).decode("ascii")}
        return value.decode("utf-8", "replace")
    return value


def _rows(answered: Mapping[str, Any]) -> list[Any]:
    columns = list(answered.values())
    if not all(isinstance(one, list) for one in columns):
        raise Refused(400, "The signature does not answer a row for each instance.")
    if len(columns) == 1:
        return columns[0]
    count = min(len(one) for one in columns)
    return [{name: one[at] for name, one in answered.items()} for at in range(count)]
