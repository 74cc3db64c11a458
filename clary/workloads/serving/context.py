"""The `context` argument that a user's inference functions may ask for."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


class RequestProcessor:
    """The headers of one request and what its function wants to say beside the body."""

    def __init__(self, headers: Mapping[str, str]) -> None:
        self._headers = headers
        self.status = 200
        self.phrase = ""
        self.response_headers: dict[str, str] = {}

    def get_request_properties(self) -> dict[str, str]:
        """Return all headers, in the spelling that clients use (`Content-Type`)."""
        return {name.title(): value for name, value in self._headers.items()}

    def get_request_property(self, key: str) -> str | None:
        """Return one header, whatever the case of its name."""
        return self._headers.get(key.lower())

    def report_status(self, code: int, reason_phrase: str | None = None) -> None:
        """Set the status of the response."""
        self.status = int(code)
        self.phrase = reason_phrase or ""

    def add_response_property(self, key: str, value: str) -> None:
        """Set a header of the response."""
        self.response_headers[key.lower()] = str(value)


class Context:
    """What the public model servers call a context, for one request at a time."""

    def __init__(self, model_dir: str, headers: Mapping[str, str] | None = None) -> None:
        self.model_name = "model"
        self.manifest: dict[str, Any] = {}
        self.system_properties = {
            "model_dir": model_dir,
            "gpu_id": None,
            "batch_size": 1,
            "server_name": "clary",
            "server_version": "1",
        }
        self.request_ids: dict[int, str] = {}
        self.request_processor = [RequestProcessor(headers or {})]

    def get_request_id(self, idx: int = 0) -> str | None:
        """Return the inference id, if the client gave one."""
        return self.get_request_header(idx, "X-Amzn-SageMaker-Inference-Id")

    def get_request_header(self, idx: int, key: str) -> str | None:
        """Return one header of request `idx`."""
        return self.request_processor[idx].get_request_property(key)

    def get_all_request_header(self, idx: int) -> dict[str, str]:
        """Return all headers of request `idx`."""
        return self.request_processor[idx].get_request_properties()

    def set_response_content_type(self, idx: int, value: str) -> None:
        """Set the response's content type."""
        self.request_processor[idx].add_response_property("content-type", value)

    def get_response_content_type(self, idx: int) -> str | None:
        """Return the response's content type, if a function has set one."""
        return self.request_processor[idx].response_headers.get("content-type")

    def set_response_header(self, idx: int, key: str, value: str) -> None:
        """Set a header of the response."""
        self.request_processor[idx].add_response_property(key, value)

    def set_response_status(self, code: int = 200, phrase: str = "", idx: int = 0) -> None:
        """Set the status of the response."""
        self.request_processor[idx].report_status(code, phrase)
