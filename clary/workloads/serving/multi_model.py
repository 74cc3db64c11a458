"""What a process answers that serves many models, which its host loads and unloads.

    POST /models {"model_name", "url"}     load: 409 loaded already, 404 no such path, 507 no memory
    GET /models[?next_page_token=]         {"models": [{"modelName", "modelUrl"}], "nextPageToken"}
    GET /models/{name}                     {"modelName", "modelUrl"}
    DELETE /models/{name}                  unload
    POST /models/{name}/invoke             as /invocations; 404 if it is not loaded

A model is loaded in a thread, so the others go on answering; each has a queue of its own, and they
share some threads.
"""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, unquote

from clary.workloads.serving import memory
from clary.workloads.serving.batching import Queue, Ticket, is_out_of_memory
from clary.workloads.serving.handlers import Answer, Handler
from clary.workloads.serving.heads import Head
from clary.workloads.serving.http import Exchange
from clary.workloads.serving.service import Limits, accepted
from clary.workloads.serving.streams import FOREIGN
from clary.workloads.serving.worker import ModelThreads

log = logging.getLogger("clary.serving")

MODELS_MAX = 10_000
PAGE_SIZE = 100
THREADS_MAX = 32
LOADERS_MAX = 4
NAME_LENGTH_MAX = 1024
LOADING_MAX = 256


@dataclass(frozen=True)
class LoadedModel:
    """A model that answers."""

    name: str
    url: str
    queue: Queue


@dataclass(frozen=True)
class Loading:
    """A model that is being loaded, and who waits for it."""

    name: str
    url: str
    exchange: Exchange


class MultiModel:
    """Routes requests to the queues of the models and to their management."""

    def __init__(
        self,
        load: Callable[[str], Handler],
        limits: Limits,
        loop: asyncio.AbstractEventLoop,
    ) -> None:
        self.limits = limits
        self.loop = loop
        self._load_model = load
        self._models: dict[str, LoadedModel] = {}
        self._loading: set[str] = set()
        # Queues whose model was unloaded while it still answered.
        self._leaving: set[Queue] = set()
        self._threads = ModelThreads(loop, THREADS_MAX)
        self._loaders = ModelThreads(loop, LOADERS_MAX, "clary-loader")

    def route(self, head: Head, body: bytes, exchange: Exchange) -> None:
        """Answer one request, now or when the model has."""
        path, method = head.path, head.method
        if path.startswith("/models/"):
            name, slash, verb = path[len("/models/") :].partition("/")
            if "%" in name:
                name = unquote(name)
            if verb == "invoke" and method == "POST":
                self._invoke(name, head, body, exchange)
            elif slash:
                exchange.reply(_told(404, "There is nothing at this path."))
            elif method == "GET":
                exchange.reply(self._describe(name))
            elif method == "DELETE":
                exchange.reply(self._unload(name))
            else:
                exchange.reply(_told(405, "This method is not allowed here."))
        elif path == "/models" and method == "POST":
            self._load(body, exchange)
        elif path == "/models" and method == "GET":
            exchange.reply(self._list(head.query))
        elif path == "/ping" and method == "GET":
            exchange.reply((200, "", b""))
        elif path == "/invocations":
            exchange.reply(_told(400, "Name the model: POST /models/{name}/invoke."))
        elif path in ("/models", "/ping"):
            exchange.reply(_told(405, "This method is not allowed here."))
        else:
            exchange.reply(_told(404, "There is nothing at this path."))

    def expire(self) -> bool:
        """Answer what has waited too long; True once stuck models hold all threads."""
        limit = self.limits.answer_seconds
        queues = [model.queue for model in self._models.values()]
        stuck = [queue.expire(limit) for queue in (*queues, *self._leaving)]
        self._leaving = {queue for queue in self._leaving if queue.is_busy}
        return stuck.count(True) >= THREADS_MAX

    def refuse(self, answer: tuple[int, str, bytes]) -> None:
        """Answer everything that waits."""
        for model in self._models.values():
            model.queue.refuse(answer)

    def close(self) -> None:
        """Let the threads end."""
        self._threads.close()
        self._loaders.close()

    def _invoke(self, name: str, head: Head, body: bytes, exchange: Exchange) -> None:
        model = self._models.get(name)
        if model is None:
            exchange.reply(_told(404, f"The model {name} is not loaded."))
            return
        headers = head.headers
        model.queue.submit(
            Ticket(
                body,
                headers.get("content-type", ""),
                accepted(headers, self.limits),
                headers,
                exchange.reply,
            )
        )

    def _load(self, body: bytes, exchange: Exchange) -> None:
        try:
            asked = json.loads(body)
            name, url = asked["model_name"], asked["url"]
        except (ValueError, KeyError, TypeError):
            exchange.reply(_told(400, 'The body must be JSON: {"model_name": ..., "url": ...}.'))
            return
        if not isinstance(url, str) or not isinstance(name, str) or not _is_name(name):
            exchange.reply(
                _told(
                    400,
                    "The model_name and the url must be text, a name at most "
                    f"{NAME_LENGTH_MAX} characters without control characters.",
                )
            )
        elif name in self._models:
            exchange.reply(_told(409, f"The model {name} is loaded already."))
        elif name in self._loading:
            exchange.reply(_told(409, f"The model {name} is being loaded."))
        elif "\0" in url or not Path(url).is_dir():
            exchange.reply(_told(404, f"There is no model at {url}."))
        elif len(self._models) + len(self._loading) >= MODELS_MAX:
            exchange.reply(_told(507, f"{MODELS_MAX} models are loaded: unload one first."))
        elif len(self._loading) >= LOADING_MAX:
            exchange.reply(_told(503, "Too many models are being loaded at once."))
        else:
            self._loading.add(name)
            self._loaders.run(self._load_in_thread, Loading(name, url, exchange), self._loaded)

    def _load_in_thread(self, asked: Loading) -> tuple[Handler | None, Answer]:
        """The handler or what to answer instead of it."""
        try:
            memory.check_room(Path(asked.url), self.limits.memory_bytes_max)
            handler = self._load_model(asked.url)
            memory.check_room(None, self.limits.memory_bytes_max)
        except FOREIGN as problem:
            log.exception("The model %s could not be loaded.", asked.name)
            status = 507 if is_out_of_memory(problem) else 500
            return None, _told(status, f"{type(problem).__name__}: {problem}")
        return handler, (200, "application/json", b"{}")

    def _loaded(self, asked: Loading, outcome: tuple[Handler | None, Answer]) -> None:
        self._loading.discard(asked.name)
        handler, answer = outcome
        if handler is not None:
            queue = Queue(handler, self.loop, batching=self.limits.batching, threads=self._threads)
            self._models[asked.name] = LoadedModel(asked.name, asked.url, queue)
            status = {"status": f"The model {asked.name} is loaded."}
            answer = (200, "application/json", json.dumps(status).encode("utf-8"))
        asked.exchange.reply(answer)

    def _unload(self, name: str) -> Answer:
        if name in self._loading:
            return _told(409, f"The model {name} is being loaded.")
        model = self._models.pop(name, None)
        if model is None:
            return _told(404, f"The model {name} is not loaded.")
        self._leaving = {queue for queue in (*self._leaving, model.queue) if queue.is_busy}
        status = {"status": f"The model {name} is unloaded."}
        return 200, "application/json", json.dumps(status).encode("utf-8")

    def _describe(self, name: str) -> Answer:
        model = self._models.get(name)
        if model is None:
            return _told(404, f"The model {name} is not loaded.")
        return 200, "application/json", json.dumps(_description(model)).encode("utf-8")

    def _list(self, query: str) -> Answer:
        after = parse_qs(query).get("next_page_token", [""])[0]
        names = sorted(name for name in self._models if name > after)
        page = names[:PAGE_SIZE]
        answer: dict[str, Any] = {"models": [_description(self._models[name]) for name in page]}
        if len(names) > PAGE_SIZE:
            answer["nextPageToken"] = page[-1]
        return 200, "application/json", json.dumps(answer).encode("utf-8")


def _description(model: LoadedModel) -> dict[str, str]:
    return {"modelName": model.name, "modelUrl": model.url}


def _is_name(name: str) -> bool:
    return 0 < len(name) <= NAME_LENGTH_MAX and name.isprintable()


def _told(status: int, text: str) -> Answer:
    return status, "text/plain", text.encode("utf-8", "replace")
