"""The AWS managed policies that Clary knows, by ARN; their documents lie in a JSON file beside
this.
"""

from __future__ import annotations

import json
from functools import lru_cache
from importlib import resources

PREFIX = "arn:aws:iam::aws:policy/"


@lru_cache(1)
def aws_managed_policies() -> dict[str, str]:
    """ARN to document; read once, at first need."""
    text = resources.files("clary.identity").joinpath("managed_policies.json").read_text("utf-8")
    return {
        PREFIX + name: json.dumps({"Version": "2012-10-17", "Statement": statements})
        for name, statements in json.loads(text).items()
    }
