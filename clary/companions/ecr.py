"""ECR: repositories, their policies and tags, and the token that Docker logs in with."""

from __future__ import annotations

import base64
from typing import Any

import orjson

from clary.companions.ecr_repositories import (
    IMAGE,
    REPOSITORY,
    change,
    find,
    invalid_parameter,
    known_images,
    look_up,
    page,
    registry_of,
    repository_not_found,
)
from clary.engine.call import Call, operation
from clary.identity.policy_documents import malformed, parse_policy
from clary.identity.sealing import install_key
from clary.identity.sessions import issue
from clary.model.errors import ApiError
from clary.store.rows import Row, RowExists

TOKEN_SECONDS = 12 * 3600
TAGS_MAX = 50


@operation("GetAuthorizationToken", service="ecr")
def get_authorization_token(call: Call) -> dict[str, Any]:
    """The password is sealed by this installation and names the caller; it expires after 12 hours."""
    key = install_key(call.parts.settings.home)
    issued = issue(key, call.principal, TOKEN_SECONDS, now=call.time)
    password = f"{issued['AccessKeyId']}.{issued['SessionToken']}"
    token = base64.b64encode(f"AWS:{password}".encode()).decode()
    return {
        "authorizationData": [
            {
                "authorizationToken": token,
                "expiresAt": issued["Expiration"],
                "proxyEndpoint": f"https://{_host(call, registry)}",
            }
            for registry in call.input.get("registryIds") or [call.account]
        ]
    }


@operation("CreateRepository", service="ecr")
def create_repository(call: Call) -> dict[str, Any]:
    name = call.input["repositoryName"]
    if registry_of(call) != call.account:
        raise invalid_parameter(
            f"Invalid parameter at 'registryId': the registry of this account is {call.account}."
        )
    document = {
        "imageTagMutability": call.input.get("imageTagMutability") or "MUTABLE",
        "imageScanningConfiguration": {
            "scanOnPush": bool(
                (call.input.get("imageScanningConfiguration") or {}).get("scanOnPush")
            )
        },
        "encryptionConfiguration": call.input.get("encryptionConfiguration")
        or {"encryptionType": "AES256"},
        "Tags": {},  # of images: tag -> digest
    }
    if call.input.get("imageTagMutabilityExclusionFilters"):
        document["imageTagMutabilityExclusionFilters"] = call.input[
            "imageTagMutabilityExclusionFilters"
        ]
    row = Row(
        REPOSITORY,
        name,
        f"arn:aws:ecr:{call.region}:{call.account}:repository/{name}",
        call.account,
        call.region,
        document=document,
        tags=call.input.get("tags") or [],
        created=call.time,
    )
    try:
        call.parts.store.rows.insert(row)
    except RowExists as problem:
        raise ApiError(
            f"The repository with name '{name}' already exists in the registry with id "
            f"'{call.account}'",
            code="RepositoryAlreadyExistsException",
            status=400,
        ) from problem
    return {"repository": _described(call, row)}


@operation("DescribeRepositories", service="ecr")
def describe_repositories(call: Call) -> dict[str, Any]:
    names = call.input.get("repositoryNames")
    if names:
        return {"repositories": [_described_by_name(call, name) for name in names]}
    if registry_of(call) != call.account:
        return {"repositories": []}
    rows = call.parts.store.rows.every(REPOSITORY, account=call.account, region=call.region)
    return page(call, [_described(call, row) for row in rows], "repositories")


@operation("DeleteRepository", service="ecr")
def delete_repository(call: Call) -> dict[str, Any]:
    row = find(call)
    images = call.parts.store.rows.every(
        IMAGE, account=call.account, region=call.region, parent=row.name
    )
    if images and not call.input.get("force"):
        raise ApiError(
            f"The repository with name '{row.name}' in registry with id '{call.account}' cannot be "
            "deleted because it still contains images",
            code="RepositoryNotEmptyException",
            status=400,
        )
    for image in images:
        call.parts.store.rows.delete(image)
    call.parts.store.rows.delete(row)
    return {"repository": _described(call, row)}


@operation("PutImageTagMutability", service="ecr")
def put_image_tag_mutability(call: Call) -> dict[str, Any]:
    filters = call.input.get("imageTagMutabilityExclusionFilters")

    def edit(row: Row) -> None:
        row.document["imageTagMutability"] = call.input["imageTagMutability"]
        row.document.pop("imageTagMutabilityExclusionFilters", None)
        if filters:
            row.document["imageTagMutabilityExclusionFilters"] = filters

    change(call, call.input["repositoryName"], edit)
    answer = _named(call) | {"imageTagMutability": call.input["imageTagMutability"]}
    return answer | ({"imageTagMutabilityExclusionFilters": filters} if filters else {})


@operation("PutImageScanningConfiguration", service="ecr")
def put_image_scanning_configuration(call: Call) -> dict[str, Any]:
    wanted = {"scanOnPush": bool(call.input["imageScanningConfiguration"].get("scanOnPush"))}
    change(
        call,
        call.input["repositoryName"],
        lambda row: row.document.update(imageScanningConfiguration=wanted),
    )
    return _named(call) | {"imageScanningConfiguration": wanted}


@operation("SetRepositoryPolicy", service="ecr")
def set_repository_policy(call: Call) -> dict[str, Any]:
    text = call.input["policyText"]
    try:
        _check_policy(text)
    except ApiError as problem:
        raise invalid_parameter(
            "Invalid parameter at 'PolicyText' failed to satisfy constraint: "
            f"'Invalid repository policy provided': {problem.message}"
        ) from problem
    change(call, call.input["repositoryName"], lambda row: row.document.update(policyText=text))
    return _named(call) | {"policyText": text}


@operation("GetRepositoryPolicy", service="ecr")
def get_repository_policy(call: Call) -> dict[str, Any]:
    return _named(call) | {"policyText": _policy_of(find(call), "policyText")}


@operation("DeleteRepositoryPolicy", service="ecr")
def delete_repository_policy(call: Call) -> dict[str, Any]:
    text = change(call, call.input["repositoryName"], lambda row: _taken(row, "policyText"))
    return _named(call) | {"policyText": text}


@operation("PutLifecyclePolicy", service="ecr")
def put_lifecycle_policy(call: Call) -> dict[str, Any]:
    text = call.input["lifecyclePolicyText"]
    try:
        rules = orjson.loads(text)["rules"]
    except (orjson.JSONDecodeError, KeyError, TypeError) as problem:
        raise _invalid_lifecycle("it is not a JSON object with rules") from problem
    if not isinstance(rules, list) or not rules:
        raise _invalid_lifecycle("it has no rules")
    for rule in rules:
        wanted = ("rulePriority", "selection", "action")
        if not isinstance(rule, dict) or not all(member in rule for member in wanted):
            raise _invalid_lifecycle("each rule has a rulePriority, a selection and an action")
    priorities = [rule["rulePriority"] for rule in rules]
    if len({str(one) for one in priorities}) != len(priorities):
        raise _invalid_lifecycle("two rules have the same rulePriority")
    change(
        call,
        call.input["repositoryName"],
        lambda row: row.document.update(lifecyclePolicyText=text),
    )
    return _named(call) | {"lifecyclePolicyText": text}


@operation("GetLifecyclePolicy", service="ecr")
def get_lifecycle_policy(call: Call) -> dict[str, Any]:
    return _named(call) | {"lifecyclePolicyText": _policy_of(find(call), "lifecyclePolicyText")}


@operation("DeleteLifecyclePolicy", service="ecr")
def delete_lifecycle_policy(call: Call) -> dict[str, Any]:
    name = call.input["repositoryName"]
    text = change(call, name, lambda row: _taken(row, "lifecyclePolicyText"))
    return _named(call) | {"lifecyclePolicyText": text}


@operation("TagResource", service="ecr")
def tag_resource(call: Call) -> dict[str, Any]:
    given = {tag["Key"]: tag["Value"] for tag in call.input["tags"]}

    def edit(row: Row) -> None:
        tags = {tag["Key"]: tag["Value"] for tag in row.tags} | given
        if len(tags) > TAGS_MAX:
            message = f"A repository can have at most {TAGS_MAX} tags."
            raise ApiError(message, code="TooManyTagsException", status=400)
        row.tags = [{"Key": key, "Value": value} for key, value in tags.items()]

    change(call, _name_in_arn(call), edit)
    return {}


@operation("UntagResource", service="ecr")
def untag_resource(call: Call) -> dict[str, Any]:
    keys = call.input["tagKeys"]

    def edit(row: Row) -> None:
        row.tags = [tag for tag in row.tags if tag["Key"] not in keys]

    change(call, _name_in_arn(call), edit)
    return {}


@operation("ListTagsForResource", service="ecr")
def list_tags_for_resource(call: Call) -> dict[str, Any]:
    return {"tags": find(call, _name_in_arn(call)).tags}


@operation("DescribeRegistry", service="ecr")
def describe_registry(call: Call) -> dict[str, Any]:
    return {"registryId": call.account, "replicationConfiguration": {"rules": []}}


def _host(call: Call, registry: str) -> str:
    return f"{registry}.dkr.ecr.{call.region}.amazonaws.com"


def _named(call: Call) -> dict[str, Any]:
    return {"registryId": call.account, "repositoryName": call.input["repositoryName"]}


def _described(call: Call, row: Row) -> dict[str, Any]:
    described = {
        "repositoryArn": row.arn,
        "registryId": row.account,
        "repositoryName": row.name,
        "repositoryUri": f"{_host(call, row.account)}/{row.name}",
        "createdAt": row.created,
    }
    for member in (
        "imageTagMutability",
        "imageTagMutabilityExclusionFilters",
        "imageScanningConfiguration",
        "encryptionConfiguration",
    ):
        if member in row.document:
            described[member] = row.document[member]
    return described


def _described_by_name(call: Call, name: str) -> dict[str, Any]:
    row = look_up(call, name)
    if row is not None:
        return _described(call, row)
    registry = registry_of(call)
    if known_images(name) is None:
        raise repository_not_found(name, registry)
    return {
        "repositoryArn": f"arn:aws:ecr:{call.region}:{registry}:repository/{name}",
        "registryId": registry,
        "repositoryName": name,
        "repositoryUri": f"{_host(call, registry)}/{name}",
        "imageTagMutability": "IMMUTABLE",
    }


def _check_policy(text: str) -> None:
    """Raise for what is no policy. Its statements need no Resource: that is the repository."""
    try:
        document = orjson.loads(text)
    except orjson.JSONDecodeError as problem:
        raise malformed("it is not JSON") from problem
    statements = document.get("Statement") if isinstance(document, dict) else None
    for one in statements if isinstance(statements, list) else [statements]:
        if isinstance(one, dict) and "NotResource" not in one:
            one.setdefault("Resource", "*")
    parse_policy(orjson.dumps(document).decode(), "resource")


def _policy_of(row: Row, member: str) -> str:
    text = row.document.get(member)
    if text is None:
        code, words = {
            "policyText": ("RepositoryPolicyNotFoundException", "Repository policy"),
            "lifecyclePolicyText": ("LifecyclePolicyNotFoundException", "Lifecycle policy"),
        }[member]
        raise ApiError(
            f"{words} does not exist for the repository with name '{row.name}' in the registry with "
            f"id '{row.account}'",
            code=code,
            status=400,
        )
    return text


def _taken(row: Row, member: str) -> str:
    text = _policy_of(row, member)
    del row.document[member]
    return text


def _invalid_lifecycle(why: str) -> ApiError:
    return invalid_parameter(
        f"Invalid parameter at 'LifecyclePolicyText' failed to satisfy constraint: '{why}'"
    )


def _name_in_arn(call: Call) -> str:
    arn = call.input["resourceArn"]
    prefix = f"arn:aws:ecr:{call.region}:{call.account}:repository/"
    if not arn.startswith(prefix):
        raise invalid_parameter(f"Invalid parameter at 'resourceArn': {arn} is no repository here.")
    return arn.removeprefix(prefix)
