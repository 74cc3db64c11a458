"""Invocations with a small body: the shortcut past the HTTP framework, to the bytes of the answer."""

from __future__ import annotations

import logging
import re
import time

from clary.dataplane.answer_heads import AnswerHead
from clary.dataplane.answers import CLOSE, error_answer, header_lines, rendered
from clary.dataplane.invocation import Invocation
from clary.dataplane.invocations import PASSED_TO_CLIENT, Invocations
from clary.dataplane.request_ids import IdSeries
from clary.dataplane.routes import SERVING_STATUSES
from clary.dataplane.shortcuts import Call, Client
from clary.model.errors import ApiError, InternalFailure
from clary.wire.http import Request

log = logging.getLogger(__name__)

REMEMBERED_MAX = 1024

_PATH = re.compile(r"/endpoints/([a-zA-Z0-9](?:-*[a-zA-Z0-9]){0,62})/invocations")


class DirectInvocations:
    """Answers invocations with small bodies; one for all connections."""

    def __init__(self, invocations: Invocations) -> None:
        self.invocations = invocations
        self._names: dict[str, str] = {}
        self._ids = IdSeries()

    def answer(self, call: Call, data: bytes, peer: str, client: Client) -> bool:
        """Answer a call, now or later; False leaves it to the framework."""
        head = call.head
        name = self._names.get(head.path) or self._name(head.path)
        if not name or head.method != "POST" or head.query:
            return False
        route = self.invocations.routes.find(call.region, name)
        if route is None or route.status not in SERVING_STATUSES:
            return False
        started = time.perf_counter()
        body = data[head.body_at :]
        request = Request("POST", head.path, "", head.headers, body, peer, head.shape)

        def done(invocation: Invocation, outcome: AnswerHead | ApiError, content: bytes) -> None:
            if isinstance(outcome, ApiError):
                client.reply(_error(call, outcome))
            else:
                client.reply(_success(call, invocation, outcome, content, self._ids.next()))

        try:
            self.invocations.begin(route, request, started, done)
        except ApiError as problem:
            client.reply(_error(call, problem))
        except Exception:
            log.exception("the door failed on %s", head.path)
            text = "The request failed inside Clary; see the log of the door."
            client.reply(_error(call, InternalFailure(text)))
        return True

    def _name(self, path: str) -> str:
        """The endpoint's name in a path; empty where it is not one of a plain invocation."""
        found = _PATH.fullmatch(path)
        if found is None:
            return ""
        if len(self._names) >= REMEMBERED_MAX:
            self._names.clear()
        name = self._names[path] = found[1]
        return name


def _success(
    call: Call, invocation: Invocation, head: AnswerHead, content: bytes, request_id: bytes
) -> bytes:
    # The head of an answer is shared by all that are alike, and so is what the client gets of it.
    passed = head.rendered
    if not passed:
        pairs = [pair for pair in head.headers if pair[0] in PASSED_TO_CLIENT]
        passed = head.rendered = b"HTTP/1.1 200 OK\r\n" + header_lines(pairs)
    return (
        b"%bx-amzn-invoked-production-variant: %b\r\n%bx-amzn-requestid: %b\r\n"
        b"content-length: %d\r\n\r\n%b"
    ) % (
        passed,
        invocation.variant.name.encode(),
        b"" if call.head.keep_alive else CLOSE,
        request_id,
        len(content),
        content,
    )


def _error(call: Call, problem: ApiError) -> bytes:
    return rendered(*error_answer(problem), keep_alive=call.head.keep_alive)
