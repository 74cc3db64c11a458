"""The PyTorch image's defaults for what a user's script does not define."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from clary.workloads.serving import content_types

# A model that was saved as TorchScript is served without any script.
NEEDS_SCRIPT = False
SUFFIXES = (".pt", ".pth")


def model_fn(model_dir: str) -> Any:
    """Load the one TorchScript file of the model's folder."""
    import torch

    files = sorted(path for path in Path(model_dir).iterdir() if path.suffix in SUFFIXES)
    if len(files) != 1:
        names = [path.name for path in files]
        raise ValueError(
            f"Exactly one .pth or .pt file is required for PyTorch models: {names}. "
            "Provide a model_fn to load anything else."
        )
    try:
        model = torch.jit.load(str(files[0]), map_location=device())
    except RuntimeError as problem:
        raise ValueError(
            f"{files[0].name} is not a TorchScript file, which is all that can be loaded without a "
            f"model_fn of your own: {problem}"
        ) from problem
    return model.eval()


def input_fn(body: bytes | str, content_type: str) -> Any:
    """Return a tensor: 32-bit floats from text, the array's own type from npy."""
    import torch

    content = body.encode("utf-8") if isinstance(body, str) else body
    array = content_types.decode(content, content_type)
    try:
        if content_types.media_type(content_type) in content_types.TEXT_TYPES:
            array = array.astype("float32")
        return torch.from_numpy(array).to(device())
    except (TypeError, ValueError) as problem:
        raise content_types.Rejected(
            400, f"The request does not hold numbers: {problem}"
        ) from problem


def predict_fn(data: Any, model: Any) -> Any:
    """Call the model without keeping gradients."""
    import torch

    with torch.no_grad():
        if isinstance(model, torch.nn.Module):
            model.to(device()).eval()
        return model(data)


def output_fn(prediction: Any, accept: str) -> tuple[bytes, str]:
    """Encode a prediction, whose tensors become lists."""
    kind = content_types.negotiate(accept, content_types.JSON, content_types.ENCODED)
    return content_types.encode(_plain(prediction, kind), kind), kind


def is_rowwise(model: Any) -> bool:
    """A network may look across the rows of its batch: nobody but its author knows."""
    return False


def device() -> str:
    """Where tensors live here."""
    import torch

    return "cuda" if torch.cuda.is_available() else "cpu"


def _plain(value: Any, kind: str) -> Any:
    import torch

    if isinstance(value, torch.Tensor):
        found = value.detach().cpu()
        if found.dtype in (torch.bfloat16, torch.float16):
            found = found.float()
        return found.numpy() if kind == content_types.NPY else found.tolist()
    if isinstance(value, dict):
        return {key: _plain(item, content_types.JSON) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(item, content_types.JSON) for item in value]
    return value
