"""What ECR repositories and images have in common: finding, changing and paging them.

A repository row knows which image each of its tags names; an image row, a child of the repository,
has the digest for its name. The repositories of the images that Clary itself knows are there for
reading, in every registry, unless the account has one of that name.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeVar

import orjson

from clary.engine.call import Call
from clary.images import catalogue
from clary.model.errors import ApiError
from clary.store.rows import Row, RowChanged

T = TypeVar("T")

REPOSITORY = "ecr:Repository"
IMAGE = "ecr:Image"  # its parent is the name of the repository
OCI_MANIFEST = "application/vnd.oci.image.manifest.v1+json"
ATTEMPTS_MAX = 8
PAGE_DEFAULT = 100
_EMPTY_CONFIG = b"{}"


@dataclass(frozen=True, slots=True)
class StoredImage:
    """An image as a manifest; `pushed` is 0 where nobody pushed it."""

    digest: str
    manifest: str
    media_type: str
    tags: tuple[str, ...]
    pushed: float = 0.0


def invalid_parameter(message: str) -> ApiError:
    return ApiError(message, code="InvalidParameterException", status=400)


def repository_not_found(name: str, registry: str) -> ApiError:
    message = (
        f"The repository with name '{name}' does not exist in the registry with id '{registry}'"
    )
    return ApiError(message, code="RepositoryNotFoundException", status=400)


def registry_of(call: Call) -> str:
    return call.input.get("registryId") or call.account


def look_up(call: Call, name: str) -> Row | None:
    """A repository of this account; None if there is none, or another registry is asked for."""
    if registry_of(call) != call.account:
        return None
    return call.parts.store.rows.get(REPOSITORY, name, account=call.account, region=call.region)


def find(call: Call, name: str | None = None) -> Row:
    """The repository; raise RepositoryNotFoundException."""
    wanted = str(name or call.input["repositoryName"])
    row = look_up(call, wanted)
    if row is None:
        raise repository_not_found(wanted, registry_of(call))
    return row


def change(call: Call, name: str, edit: Callable[[Row], T]) -> T:
    """Edit a repository and write it back, again from the start if somebody else was quicker."""
    for _ in range(ATTEMPTS_MAX):
        row = find(call, name)
        result = edit(row)
        try:
            call.parts.store.rows.update(row)
            return result
        except RowChanged:
            continue
    raise ApiError("The repository is being changed by others.", code="ServerException", status=500)


def images_of(call: Call, name: str) -> list[StoredImage]:
    """All images of a repository, Clary's own ones too; raise RepositoryNotFoundException."""
    row = look_up(call, name)
    if row is None:
        known = known_images(name)
        if known is None:
            raise repository_not_found(name, registry_of(call))
        return known
    children = call.parts.store.rows.every(
        IMAGE, account=call.account, region=call.region, parent=row.name
    )
    tags = row.document["Tags"]
    return [
        StoredImage(
            child.name,
            child.document["manifest"],
            child.document["mediaType"],
            tuple(sorted(tag for tag, digest in tags.items() if digest == child.name)),
            child.created,
        )
        for child in children
    ]


def known_images(name: str) -> list[StoredImage] | None:
    """The images that Clary has environments for; None if no family uses this repository."""
    basename = name.rsplit("/", 1)[-1]
    for family in catalogue.families():
        if basename in family.repositories:
            return [_as_image(basename, family.name, tag) for tag in family.tags]
    return None


def matching(images: list[StoredImage], wanted: dict[str, str]) -> StoredImage | None:
    """The image that an imageId names: by digest, by tag, or by both, which must agree."""
    digest, tag = wanted.get("imageDigest"), wanted.get("imageTag")
    for image in images:
        if (digest in (None, image.digest)) and (tag is None or tag in image.tags):
            return image
    return None


def page(call: Call, items: list[T], member: str) -> dict[str, Any]:
    """One page of a list that is in a stable order; the token is a place in it."""
    token, start = call.input.get("nextToken"), 0
    if token:
        try:
            start = int(base64.urlsafe_b64decode(token).decode("ascii").removeprefix("from:"))
        except (ValueError, binascii.Error) as problem:
            raise invalid_parameter("Invalid parameter at 'nextToken'.") from problem
    end = max(0, start) + (call.input.get("maxResults") or PAGE_DEFAULT)
    answer: dict[str, Any] = {member: items[max(0, start) : end]}
    if end < len(items):
        answer["nextToken"] = base64.urlsafe_b64encode(f"from:{end}".encode()).decode()
    return answer


def _as_image(repository: str, family: str, tag: str) -> StoredImage:
    """A manifest without layers: what runs is an environment, which Clary builds when it is needed."""
    digest = f"sha256:{hashlib.sha256(_EMPTY_CONFIG).hexdigest()}"
    config = {
        "mediaType": "application/vnd.oci.empty.v1+json",
        "size": len(_EMPTY_CONFIG),
        "digest": digest,
    }
    document = {
        "schemaVersion": 2,
        "mediaType": OCI_MANIFEST,
        "config": config,
        "layers": [],
        "annotations": {
            "org.opencontainers.image.ref.name": f"{repository}:{tag}",
            "org.opencontainers.image.title": family,
        },
    }
    manifest = orjson.dumps(document)
    name = f"sha256:{hashlib.sha256(manifest).hexdigest()}"
    return StoredImage(name, manifest.decode(), OCI_MANIFEST, (tag,))
