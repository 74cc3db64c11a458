"""Answers requests with an algorithm's handler, one JSON object a line; runs in its environment."""

from __future__ import annotations

import base64
import json
import sys
from pathlib import Path

from clary.workloads.algorithms import catalogue
from clary.workloads.serving.handlers import Rejected


def answer(handler: object, request: dict) -> dict:
    given, wanted = request["content_type"], request["accept"]
    content = base64.b64decode(request["body"])
    try:
        if getattr(handler, "batchable", False):
            kind, body = handler.encode(handler.predict(handler.decode(content, given)), wanted)
        else:
            _, kind, body = handler.invoke(content, given, wanted, {})
    except Rejected as refused:
        return {"status": refused.status, "body": refused.message, "content_type": "text/plain"}
    return {"status": 200, "body": base64.b64encode(body).decode(), "content_type": kind}


def main() -> None:
    try:
        handler = catalogue.find(sys.argv[1]).serve(Path(sys.argv[2]))
    except Rejected as refused:
        print(json.dumps({"status": refused.status, "body": refused.message}), flush=True)
        return
    print(json.dumps({"status": 200, "parameters": handler.execution_parameters()}), flush=True)
    for line in sys.stdin:
        print(json.dumps(answer(handler, json.loads(line))), flush=True)


if __name__ == "__main__":
    main()
