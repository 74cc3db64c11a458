"""Images in ECR: their manifests, digests and tags."""

from __future__ import annotations

import hashlib
from typing import Any

import orjson

from clary.companions.ecr_repositories import (
    IMAGE,
    OCI_MANIFEST,
    StoredImage,
    change,
    find,
    images_of,
    invalid_parameter,
    matching,
    page,
    registry_of,
)
from clary.engine.call import Call, operation
from clary.model.errors import ApiError
from clary.store.rows import Row, RowExists

IMAGE_IDS_MAX = 100
TAGS_MAX = 1_000  # of one repository's images, so that its row stays small


@operation("PutImage", service="ecr")
def put_image(call: Call) -> dict[str, Any]:
    """Keep a manifest under its digest and, where one is given, a tag.

    Layers are not looked for: Clary runs environments, and keeps manifests so that tools find them.
    """
    name, manifest = call.input["repositoryName"], call.input["imageManifest"]
    document = _parsed(manifest)
    digest = f"sha256:{hashlib.sha256(manifest.encode()).hexdigest()}"
    if call.input.get("imageDigest") not in (None, digest):
        raise ApiError(
            f"The digest of the image manifest is {digest}, not {call.input['imageDigest']}.",
            code="ImageDigestDoesNotMatchException",
            status=400,
        )
    tag = call.input.get("imageTag")
    media_type = (
        call.input.get("imageManifestMediaType") or document.get("mediaType") or OCI_MANIFEST
    )
    repository = find(call)
    row = Row(
        IMAGE,
        digest,
        f"{repository.arn}@{digest}",
        call.account,
        call.region,
        parent=name,
        document={"manifest": manifest, "mediaType": media_type},
        created=call.time,
    )
    if tag:
        _check_tag(repository, tag, digest)
    try:
        call.parts.store.rows.insert(row)
    except RowExists as problem:
        if tag is None or repository.document["Tags"].get(tag) == digest:
            raise _image_exists(call, digest, tag) from problem
    if tag:
        change(call, name, lambda found: _set_tag(found, tag, digest))
    image = StoredImage(digest, manifest, media_type, (tag,) if tag else ())
    return {"image": _described(call, image, tag)}


@operation("BatchGetImage", service="ecr")
def batch_get_image(call: Call) -> dict[str, Any]:
    images = images_of(call, call.input["repositoryName"])
    found: list[dict[str, Any]] = []
    failures: list[dict[str, Any]] = []
    accepted = call.input.get("acceptedMediaTypes")
    for wanted in _image_ids(call):
        image = matching(images, wanted)
        if not wanted:
            failures.append(_failure(wanted, "MissingDigestAndTag", "Invalid request parameters"))
        elif image is None:
            failures.append(_failure(wanted, "ImageNotFound", "Requested image not found"))
        elif accepted and image.media_type not in accepted:
            reason = f"The image is of the media type {image.media_type}"
            failures.append(_failure(wanted, "ImageNotFound", reason))
        else:
            found.append(_described(call, image, wanted.get("imageTag")))
    return {"images": found, "failures": failures}


@operation("DescribeImages", service="ecr")
def describe_images(call: Call) -> dict[str, Any]:
    name = call.input["repositoryName"]
    images = images_of(call, name)
    wanted = call.input.get("imageIds")
    if wanted:
        chosen: list[StoredImage] = []
        for one in _image_ids(call):
            image = matching(images, one) if one else None
            if image is None:
                raise _image_not_found(call, one)
            if image not in chosen:
                chosen.append(image)
    else:
        chosen = [image for image in images if _has_status(call, image)]
    return page(call, [_details(call, image) for image in chosen], "imageDetails")


@operation("ListImages", service="ecr")
def list_images(call: Call) -> dict[str, Any]:
    """One imageId for each tag of an image, and one for an image without tags."""
    listed: list[dict[str, str]] = []
    for image in images_of(call, call.input["repositoryName"]):
        if _has_status(call, image):
            listed += [{"imageDigest": image.digest, "imageTag": tag} for tag in image.tags]
            if not image.tags:
                listed.append({"imageDigest": image.digest})
    return page(call, listed, "imageIds")


@operation("BatchDeleteImage", service="ecr")
def batch_delete_image(call: Call) -> dict[str, Any]:
    """By tag alone, the tag goes, and the image with its last one; by digest, the image and all its tags."""
    name = find(call).name
    gone: list[dict[str, str]] = []
    failures: list[dict[str, Any]] = []
    for wanted in _image_ids(call):
        image = matching(images_of(call, name), wanted) if wanted else None
        if image is None:
            failures.append(_failure(wanted, "ImageNotFound", "Requested image not found"))
            continue
        tag = wanted.get("imageTag") if "imageDigest" not in wanted else None
        removed = (tag,) if tag else image.tags
        change(call, name, lambda row, removed=removed: _drop_tags(row, removed))
        if len(removed) == len(image.tags):
            _delete(call, name, image.digest)
        gone += [{"imageDigest": image.digest, "imageTag": one} for one in removed]
        if not removed:
            gone.append({"imageDigest": image.digest})
    return {"imageIds": gone, "failures": failures}


def _parsed(manifest: str) -> dict[str, Any]:
    try:
        document = orjson.loads(manifest)
    except orjson.JSONDecodeError as problem:
        raise _invalid_manifest() from problem
    if not isinstance(document, dict):
        raise _invalid_manifest()
    return document


def _invalid_manifest() -> ApiError:
    return invalid_parameter(
        "Invalid parameter at 'ImageManifest' failed to satisfy constraint: 'Invalid JSON syntax'"
    )


def _check_tag(repository: Row, tag: str, digest: str) -> None:
    """Raise where an immutable tag already names another image."""
    before = repository.document["Tags"].get(tag)
    if before is None and len(repository.document["Tags"]) >= TAGS_MAX:
        message = f"The repository {repository.name} has {TAGS_MAX} image tags already."
        raise ApiError(message, code="LimitExceededException", status=400)
    immutable = repository.document["imageTagMutability"].startswith("IMMUTABLE")
    if immutable and before not in (None, digest):
        raise ApiError(
            f"The image tag '{tag}' already exists in the '{repository.name}' repository and cannot "
            "be overwritten because the repository is immutable.",
            code="ImageTagAlreadyExistsException",
            status=400,
        )


def _set_tag(repository: Row, tag: str, digest: str) -> None:
    _check_tag(repository, tag, digest)
    repository.document["Tags"][tag] = digest


def _drop_tags(repository: Row, tags: tuple[str, ...]) -> None:
    for tag in tags:
        repository.document["Tags"].pop(tag, None)


def _delete(call: Call, repository: str, digest: str) -> None:
    rows = call.parts.store.rows
    row = rows.get(IMAGE, digest, account=call.account, region=call.region, parent=repository)
    # Image rows are never changed, so what was read can be deleted.
    if row is not None:
        rows.delete(row)


def _image_ids(call: Call) -> list[dict[str, str]]:
    wanted = call.input["imageIds"]
    if not 1 <= len(wanted) <= IMAGE_IDS_MAX:
        raise invalid_parameter(f"imageIds must hold 1 to {IMAGE_IDS_MAX} image identifiers.")
    return wanted


def _has_status(call: Call, image: StoredImage) -> bool:
    filters = call.input.get("filter") or {}
    match filters.get("tagStatus"):
        case "TAGGED":
            return bool(image.tags)
        case "UNTAGGED":
            return not image.tags
        case _:
            return filters.get("imageStatus") in (None, "ACTIVE", "ANY")


def _described(call: Call, image: StoredImage, tag: str | None) -> dict[str, Any]:
    return {
        "registryId": registry_of(call),
        "repositoryName": call.input["repositoryName"],
        "imageId": {"imageDigest": image.digest, **({"imageTag": tag} if tag else {})},
        "imageManifest": image.manifest,
        "imageManifestMediaType": image.media_type,
    }


def _details(call: Call, image: StoredImage) -> dict[str, Any]:
    document = orjson.loads(image.manifest)
    details: dict[str, Any] = {
        "registryId": registry_of(call),
        "repositoryName": call.input["repositoryName"],
        "imageDigest": image.digest,
        "imageSizeInBytes": _size(document),
        "imageManifestMediaType": image.media_type,
        "imageStatus": "ACTIVE",
    }
    if image.tags:
        details["imageTags"] = list(image.tags)
    if image.pushed:
        details["imagePushedAt"] = image.pushed
    config = document.get("config")
    if isinstance(config, dict) and isinstance(config.get("mediaType"), str):
        details["artifactMediaType"] = config["mediaType"]
    return details


def _size(document: dict[str, Any]) -> int:
    """What the manifest says of its parts."""
    layers = document.get("layers")
    parts = [document.get("config"), *(layers if isinstance(layers, list) else [])]
    sizes = [part.get("size") for part in parts if isinstance(part, dict)]
    return sum(size for size in sizes if isinstance(size, int) and size > 0)


def _failure(wanted: dict[str, str], code: str, reason: str) -> dict[str, Any]:
    return {"imageId": wanted, "failureCode": code, "failureReason": reason}


def _image_exists(call: Call, digest: str, tag: str | None) -> ApiError:
    return ApiError(
        f"Image with digest '{digest}' and tag '{tag}' already exists in the repository with name "
        f"'{call.input['repositoryName']}' in registry with id '{call.account}'",
        code="ImageAlreadyExistsException",
        status=400,
    )


def _image_not_found(call: Call, wanted: dict[str, str]) -> ApiError:
    digest = f"'{wanted['imageDigest']}'" if wanted.get("imageDigest") else "'null'"
    tag = f"'{wanted['imageTag']}'" if wanted.get("imageTag") else "'null'"
    return ApiError(
        f"The image with imageId {{imageDigest:{digest}, imageTag:{tag}}} does not exist within the "
        f"repository with name '{call.input['repositoryName']}' in the registry with id "
        f"'{registry_of(call)}'",
        code="ImageNotFoundException",
        status=400,
    )
