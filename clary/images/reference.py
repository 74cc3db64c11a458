"""An image reference: what a container image URI says, read without asking any registry."""

from __future__ import annotations

import re
from dataclasses import dataclass

URI_LENGTH_MAX = 1024
_ECR_HOST = re.compile(
    r"(?P<account>\d{12})\.dkr[.-]ecr(-fips)?\.(?P<region>[a-z0-9-]+)\.(amazonaws\.com(\.cn)?|on\.aws)"
)
_REGISTRY = re.compile(r"[A-Za-z0-9]([A-Za-z0-9.-]*[A-Za-z0-9])?(:\d{1,5})?")
_REPOSITORY = re.compile(r"[A-Za-z0-9]+([._/-]+[A-Za-z0-9]+)*")
_TAG = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,127}")
_DIGEST = re.compile(r"[a-z0-9]+:[0-9a-fA-F]{32,128}")


@dataclass(frozen=True, slots=True)
class ImageReference:
    """The parts of an image URI; `account` and `region` are empty outside Amazon ECR."""

    uri: str
    registry: str
    account: str
    region: str
    repository: str
    tag: str
    digest: str

    @property
    def basename(self) -> str:
        """The last part of the repository, which names the image family."""
        return self.repository.rsplit("/", 1)[-1]


def parse(uri: str) -> ImageReference:
    """Split `[registry/]repository[:tag][@digest]`; raise ValueError naming the wrong part."""
    if not uri or len(uri) > URI_LENGTH_MAX:
        raise ValueError(f"An image URI has 1 to {URI_LENGTH_MAX} characters, this one {len(uri)}.")
    rest, _, digest = uri.partition("@")
    registry, rest = _split_registry(rest)
    if registry and not _REGISTRY.fullmatch(registry):
        raise ValueError(f"The registry of the image {uri!r} is not valid.")
    repository, _, tag = rest.partition(":")
    if not _REPOSITORY.fullmatch(repository):
        raise ValueError(f"{uri!r} names no repository.")
    if (":" in rest and not tag) or (tag and not _TAG.fullmatch(tag)):
        raise ValueError(f"The tag of the image {uri!r} is not valid.")
    if ("@" in uri) and not _DIGEST.fullmatch(digest):
        raise ValueError(f"The digest of the image {uri!r} is not valid.")
    host = _ECR_HOST.fullmatch(registry)
    return ImageReference(
        uri=uri,
        registry=registry,
        account=host["account"] if host else "",
        region=host["region"] if host else "",
        repository=repository,
        tag=tag,
        digest=digest,
    )


def _split_registry(text: str) -> tuple[str, str]:
    """Docker's rule: the first part is a registry if it has a dot or a port, or is `localhost`."""
    first, slash, rest = text.partition("/")
    if slash and ("." in first or ":" in first or first == "localhost"):
        return first, rest
    return "", text
