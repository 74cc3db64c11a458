"""Amazon resource names: how they are made and taken apart."""

from __future__ import annotations

import re
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Arn:
    partition: str
    service: str
    region: str
    account: str
    resource: str  # all after the fifth colon

    @staticmethod
    def parse(text: str) -> Arn | None:
        parts = text.split(":", 5)
        if len(parts) != 6 or parts[0] != "arn":
            return None
        return Arn(*parts[1:])

    @property
    def kind(self) -> str:
        return re.split("[/:]", self.resource, maxsplit=1)[0]

    @property
    def name(self) -> str:
        """All after the kind: `model-package/group/3` gives `group/3`."""
        parts = re.split("[/:]", self.resource, maxsplit=1)
        return parts[1] if len(parts) == 2 else ""

    def __str__(self) -> str:
        return f"arn:{self.partition}:{self.service}:{self.region}:{self.account}:{self.resource}"


def partition_of(region: str) -> str:
    if region.startswith("cn-"):
        return "aws-cn"
    return "aws-us-gov" if region.startswith("us-gov-") else "aws"


def sagemaker_arn(region: str, account: str, segment: str, name: str) -> str:
    return f"arn:{partition_of(region)}:sagemaker:{region}:{account}:{segment}/{name}"


def last_segment(text: str) -> str:
    """The name in an ARN; a plain name is returned as it is, since many operations take either."""
    return text.rsplit("/", 1)[-1] if text.startswith("arn:") else text
