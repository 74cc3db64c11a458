"""The Hugging Face image's defaults: a pipeline of the model's folder or of a model on the Hub."""

from __future__ import annotations

import base64
import csv
import io
import json
import os
from pathlib import Path
from typing import Any

from clary.workloads.serving import content_types
from clary.workloads.serving.handlers import Rejected

NEEDS_SCRIPT = False

# The ends of the architectures' names that a model's config.json lists, and what each is for.
TASKS = {
    "ForSequenceClassification": "text-classification",
    "ForTokenClassification": "token-classification",
    "ForQuestionAnswering": "question-answering",
    "ForMaskedLM": "fill-mask",
    "ForCausalLM": "text-generation",
    "LMHeadModel": "text-generation",
    "ForConditionalGeneration": "text2text-generation",
    "MTModel": "text2text-generation",
    "ForImageClassification": "image-classification",
    "ForObjectDetection": "object-detection",
    "ForSemanticSegmentation": "image-segmentation",
    "ForAudioClassification": "audio-classification",
    "ForCTC": "automatic-speech-recognition",
    "Model": "feature-extraction",
}
YES = ("1", "true", "yes", "on")


def model_fn(model_dir: str) -> Any:
    """Make the pipeline: of HF_MODEL_ID if the endpoint names one, else of the model's folder."""
    from transformers import pipeline

    hub = os.environ.get("HF_MODEL_ID", "")
    source = hub or model_dir
    task = os.environ.get("HF_TASK") or ("" if hub else task_of(Path(model_dir)))
    wanted: dict[str, Any] = {"model": source, "device": _device()}
    if task:
        wanted["task"] = task
    if hub and os.environ.get("HF_MODEL_REVISION"):
        wanted["revision"] = os.environ["HF_MODEL_REVISION"]
    token = os.environ.get("HF_TOKEN") or os.environ.get("HF_API_TOKEN")
    if hub and token:
        wanted["token"] = token
    if os.environ.get("HF_TRUST_REMOTE_CODE", "").lower() in YES:
        wanted["trust_remote_code"] = True
    return pipeline(**wanted)


def task_of(folder: Path) -> str:
    """What the model's architecture is for."""
    try:
        described = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ValueError(
            f"There is no config.json in {folder}: put a model saved by save_pretrained there, or "
            "name one of the Hub in HF_MODEL_ID, or write a model_fn."
        ) from None
    architecture = next(iter(described.get("architectures") or [""]))
    for ending, task in TASKS.items():
        if architecture.endswith(ending):
            return task
    raise ValueError(
        f"What {architecture or 'this model'} is for does not follow from its config.json: set "
        "HF_TASK, for example to text-classification."
    )


def input_fn(body: bytes | str, content_type: str) -> Any:
    """Return the request as the pipeline's inputs: JSON, CSV with a header, text or media."""
    kind = content_types.media_type(content_type)
    content = body.encode("utf-8") if isinstance(body, str) else bytes(body)
    if not content:
        raise Rejected(400, "The request body is empty.")
    if kind in (content_types.JSON, ""):
        try:
            return json.loads(content)
        except ValueError as problem:
            raise Rejected(400, f"The request body is not {kind}: {problem}") from problem
    if kind in (content_types.CSV, "text/plain"):
        try:
            text = content.decode("utf-8")
        except UnicodeDecodeError as problem:
            raise Rejected(400, f"The request body is not UTF-8 text: {problem}") from problem
        return {"inputs": _from_csv(text) if kind == content_types.CSV else text}
    if kind.startswith("image/"):
        return {"inputs": _image(content)}
    if kind.startswith("audio/") or kind == "application/octet-stream":
        return {"inputs": content}
    raise Rejected(
        415,
        f"Content type {kind} is not supported by this framework. Please implement input_fn to "
        "deserialize the request data, or send application/json.",
    )


def predict_fn(data: Any, model: Any) -> Any:
    """Call the pipeline with the request's `inputs` and `parameters`."""
    inputs, parameters = data, {}
    if isinstance(data, dict) and "inputs" in data:
        inputs = data["inputs"]
        parameters = data.get("parameters") or {}
    if not isinstance(parameters, dict):
        raise Rejected(400, "The parameters must be a JSON object.")
    return model(inputs, **parameters)


def output_fn(prediction: Any, accept: str) -> tuple[bytes, str]:
    """Encode the pipeline's answer as JSON, or as CSV where that is asked for."""
    offered = (content_types.JSON, content_types.CSV, content_types.JSON_LINES)
    kind = content_types.negotiate(accept, content_types.JSON, offered)
    if kind == content_types.JSON:
        return json.dumps(prediction, default=_encodable).encode("utf-8"), kind
    plain = json.loads(json.dumps(prediction, default=_encodable))
    rows = plain if isinstance(plain, list) else [plain]
    if kind == content_types.JSON_LINES:
        return "".join(json.dumps(row) + "\n" for row in rows).encode("utf-8"), kind
    if not all(isinstance(row, dict) for row in rows):
        return content_types.encode(plain, kind), kind
    out = io.StringIO()
    writer = csv.DictWriter(out, fieldnames=list(rows[0]) if rows else [], extrasaction="ignore")
    writer.writeheader()
    writer.writerows(rows)
    return out.getvalue().encode("utf-8"), kind


def is_rowwise(model: Any) -> bool:
    """Pipelines take text, not rows of numbers."""
    return False


def _device() -> int:
    import torch

    return 0 if torch.cuda.is_available() else -1


def _from_csv(text: str) -> list[Any]:
    """The rows by the header's names; a column `inputs` alone is a list of texts."""
    rows = list(csv.DictReader(io.StringIO(text)))
    if rows and set(rows[0]) == {"inputs"}:
        return [row["inputs"] for row in rows]
    return rows


def _image(content: bytes) -> Any:
    from PIL import Image, UnidentifiedImageError

    try:
        return Image.open(io.BytesIO(content)).convert("RGB")
    except (UnidentifiedImageError, OSError) as problem:
        raise Rejected(400, f"The request body is no image: {problem}") from problem


def _encodable(value: Any) -> Any:
    """Arrays, tensors and images inside a pipeline's answer."""
    if hasattr(value, "tolist"):
        return value.tolist()
    if hasattr(value, "save") and hasattr(value, "mode"):
        out = io.BytesIO()
        value.save(out, format="PNG")
        return base64.b64encode(out.getvalue()).decode("ascii")
    if hasattr(value, "__dict__"):
        return vars(value)
    return str(value)
