"""ECR: repositories, images by digest and tag, policies, and the images that Clary itself knows."""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from clary.companions import ecr, ecr_images
from clary.engine.call import Call
from clary.identity.principals import Principal
from clary.model.errors import ApiError
from clary.settings import Settings
from clary.store.database import Store

ACCOUNT = "123456789012"
REGION = "eu-west-1"
NOW = 1_767_268_800.0
PRINCIPAL = Principal(ACCOUNT, f"arn:aws:iam::{ACCOUNT}:user/admin", "AIDA", "user", "admin")
ARN = f"arn:aws:ecr:{REGION}:{ACCOUNT}:repository/team/train"
HANDLERS = {
    member.answers[1]: member
    for module in (ecr, ecr_images)
    for member in vars(module).values()
    if hasattr(member, "answers")
}


class Ecr:
    def __init__(self, folder: Path) -> None:
        self.store = Store.open(f"sqlite:///{folder}/clary.db")
        self.parts: Any = SimpleNamespace(
            settings=Settings(home=folder, account=ACCOUNT), store=self.store
        )

    def __call__(self, name: str, repository: str = "", **asked: Any) -> dict[str, Any]:
        named = {"repositoryName": repository} if repository else {}
        call = Call("ecr", name, named | asked, ACCOUNT, REGION, PRINCIPAL, "id", NOW, self.parts)
        return HANDLERS[name](call) or {}

    def fails(self, name: str, repository: str = "", **asked: Any) -> tuple[str, str]:
        with pytest.raises(ApiError) as caught:
            self(name, repository, **asked)
        return caught.value.code, caught.value.message

    def push(self, text: str, tag: str | None = None, repository: str = "team/train") -> str:
        asked: dict[str, Any] = {"imageManifest": manifest(text)}
        if tag:
            asked["imageTag"] = tag
        return self("PutImage", repository, **asked)["image"]["imageId"]["imageDigest"]


def manifest(text: str) -> str:
    layers = [{"size": 100, "digest": "sha256:aa"}, {"size": 50, "digest": "sha256:bb"}]
    config = {"mediaType": "application/vnd.oci.image.config.v1+json", "size": 7}
    return json.dumps({"schemaVersion": 2, "config": config, "layers": layers, "note": text})


@pytest.fixture
def service(tmp_path: Path) -> Iterator[Ecr]:
    made = Ecr(tmp_path)
    made("CreateRepository", "team/train", tags=[{"Key": "team", "Value": "a"}])
    yield made
    made.store.close()


def test_a_repository_has_its_uri_in_this_account_and_region(service: Ecr) -> None:
    (found,) = service("DescribeRepositories")["repositories"]
    assert found == {
        "repositoryArn": ARN,
        "registryId": ACCOUNT,
        "repositoryName": "team/train",
        "repositoryUri": f"{ACCOUNT}.dkr.ecr.{REGION}.amazonaws.com/team/train",
        "createdAt": NOW,
        "imageTagMutability": "MUTABLE",
        "imageScanningConfiguration": {"scanOnPush": False},
        "encryptionConfiguration": {"encryptionType": "AES256"},
    }


def test_what_does_not_exist_is_named_in_the_words_of_aws(service: Ecr) -> None:
    assert service.fails("DescribeRepositories", repositoryNames=["none"]) == (
        "RepositoryNotFoundException",
        f"The repository with name 'none' does not exist in the registry with id '{ACCOUNT}'",
    )
    assert service.fails("CreateRepository", "team/train") == (
        "RepositoryAlreadyExistsException",
        f"The repository with name 'team/train' already exists in the registry with id '{ACCOUNT}'",
    )
    code, message = service.fails("DescribeImages", "team/train", imageIds=[{"imageTag": "v1"}])
    assert code == "ImageNotFoundException"
    assert message.startswith("The image with imageId {imageDigest:'null', imageTag:'v1'} does not")
    assert service.fails("ListImages", "team/train", registryId="999999999999")[0] == (
        "RepositoryNotFoundException"
    )


def test_the_token_is_a_docker_login_for_twelve_hours(service: Ecr) -> None:
    (data,) = service("GetAuthorizationToken")["authorizationData"]
    assert data["proxyEndpoint"] == f"https://{ACCOUNT}.dkr.ecr.{REGION}.amazonaws.com"
    assert data["expiresAt"] == NOW + 12 * 3600
    user, _, password = base64.b64decode(data["authorizationToken"]).decode().partition(":")
    assert user == "AWS"
    assert len(password) > 40
    asked = {"registryIds": ["683313688378", ACCOUNT]}
    assert [
        one["proxyEndpoint"]
        for one in service("GetAuthorizationToken", **asked)["authorizationData"]
    ] == [
        f"https://683313688378.dkr.ecr.{REGION}.amazonaws.com",
        f"https://{ACCOUNT}.dkr.ecr.{REGION}.amazonaws.com",
    ]


def test_an_image_is_found_by_tag_and_by_digest(service: Ecr) -> None:
    digest = service.push("one", "v1")
    assert digest == f"sha256:{hashlib.sha256(manifest('one').encode()).hexdigest()}"
    service.push("one", "latest")
    asked = [{"imageTag": "latest"}, {"imageDigest": digest}, {"imageTag": "v9"}]
    answer = service("BatchGetImage", "team/train", imageIds=asked)
    assert [one["imageId"]["imageDigest"] for one in answer["images"]] == [digest, digest]
    assert answer["images"][0]["imageManifest"] == manifest("one")
    assert answer["failures"] == [
        {
            "imageId": {"imageTag": "v9"},
            "failureCode": "ImageNotFound",
            "failureReason": "Requested image not found",
        }
    ]
    (details,) = service("DescribeImages", "team/train")["imageDetails"]
    assert details["imageTags"] == ["latest", "v1"]
    assert details["imageSizeInBytes"] == 157
    assert details["imagePushedAt"] == NOW


def test_a_tag_moves_to_the_image_that_was_pushed_last(service: Ecr) -> None:
    first, second = service.push("one", "latest"), service.push("two", "latest")
    details = service("DescribeImages", "team/train")["imageDetails"]
    assert {one["imageDigest"]: one.get("imageTags") for one in details} == {
        first: None,
        second: ["latest"],
    }
    untagged = service("ListImages", "team/train", filter={"tagStatus": "UNTAGGED"})["imageIds"]
    assert untagged == [{"imageDigest": first}]


def test_an_immutable_tag_stays_where_it_is(service: Ecr) -> None:
    service("PutImageTagMutability", "team/train", imageTagMutability="IMMUTABLE")
    service.push("one", "v1")
    with pytest.raises(ApiError) as caught:
        service.push("two", "v1")
    assert caught.value.code == "ImageTagAlreadyExistsException"
    assert len(service("ListImages", "team/train")["imageIds"]) == 1


def test_pushing_the_same_image_and_tag_again_is_refused(service: Ecr) -> None:
    service.push("one", "v1")
    with pytest.raises(ApiError) as caught:
        service.push("one", "v1")
    assert caught.value.code == "ImageAlreadyExistsException"


def test_a_manifest_must_be_json_of_the_digest_it_claims(service: Ecr) -> None:
    assert service.fails("PutImage", "team/train", imageManifest="{")[0] == (
        "InvalidParameterException"
    )
    wrong = {"imageManifest": "{}", "imageDigest": "sha256:00"}
    assert service.fails("PutImage", "team/train", **wrong)[0] == "ImageDigestDoesNotMatchException"


def test_images_are_deleted_by_tag_or_whole(service: Ecr) -> None:
    digest = service.push("one", "v1")
    service.push("one", "v2")
    other = service.push("two", "v3")
    answer = service("BatchDeleteImage", "team/train", imageIds=[{"imageTag": "v1"}])
    assert answer["imageIds"] == [{"imageDigest": digest, "imageTag": "v1"}]
    service("BatchDeleteImage", "team/train", imageIds=[{"imageDigest": digest}])
    left = service("ListImages", "team/train")["imageIds"]
    assert left == [{"imageDigest": other, "imageTag": "v3"}]
    service("BatchDeleteImage", "team/train", imageIds=[{"imageTag": "v3"}])
    assert service("DescribeImages", "team/train")["imageDetails"] == []
    answer = service("BatchDeleteImage", "team/train", imageIds=[{"imageTag": "v3"}])
    assert answer["failures"][0]["failureCode"] == "ImageNotFound"


def test_lists_of_images_come_in_pages(service: Ecr) -> None:
    for number in range(3):
        service.push(str(number), f"v{number}")
    first = service("ListImages", "team/train", maxResults=2)
    rest = service("ListImages", "team/train", maxResults=2, nextToken=first["nextToken"])
    tags = {one["imageTag"] for one in first["imageIds"] + rest["imageIds"]}
    assert tags == {"v0", "v1", "v2"}
    assert "nextToken" not in rest
    assert service.fails("ListImages", "team/train", nextToken="??")[0] == (
        "InvalidParameterException"
    )


def test_a_repository_with_images_is_deleted_only_by_force(service: Ecr) -> None:
    service.push("one", "v1")
    assert service.fails("DeleteRepository", "team/train")[0] == "RepositoryNotEmptyException"
    deleted = service("DeleteRepository", "team/train", force=True)["repository"]
    assert deleted["repositoryArn"] == ARN
    assert service("DescribeRepositories")["repositories"] == []
    service("CreateRepository", "team/train")
    assert service("ListImages", "team/train")["imageIds"] == []


def test_a_repository_keeps_its_policies(service: Ecr) -> None:
    statement = {"Effect": "Allow", "Principal": "*", "Action": "ecr:BatchGetImage"}
    policy = json.dumps({"Version": "2012-10-17", "Statement": [statement]})
    assert service.fails("GetRepositoryPolicy", "team/train")[0] == (
        "RepositoryPolicyNotFoundException"
    )
    service("SetRepositoryPolicy", "team/train", policyText=policy)
    assert service("GetRepositoryPolicy", "team/train")["policyText"] == policy
    service("DeleteRepositoryPolicy", "team/train")
    assert service.fails("DeleteRepositoryPolicy", "team/train")[0] == (
        "RepositoryPolicyNotFoundException"
    )
    for text in ("{", "[]", '{"Statement": [{"Effect": "Perhaps"}]}'):
        assert service.fails("SetRepositoryPolicy", "team/train", policyText=text)[0] == (
            "InvalidParameterException"
        )


def test_a_repository_keeps_its_lifecycle_policy(service: Ecr) -> None:
    selection = {"tagStatus": "untagged", "countType": "imageCountMoreThan", "countNumber": 5}
    rule = {"rulePriority": 1, "selection": selection, "action": {"type": "expire"}}
    policy = json.dumps({"rules": [rule]})
    service("PutLifecyclePolicy", "team/train", lifecyclePolicyText=policy)
    assert service("GetLifecyclePolicy", "team/train")["lifecyclePolicyText"] == policy
    twice = json.dumps({"rules": [rule, rule]})
    assert service.fails("PutLifecyclePolicy", "team/train", lifecyclePolicyText=twice)[0] == (
        "InvalidParameterException"
    )
    service("DeleteLifecyclePolicy", "team/train")
    assert service.fails("GetLifecyclePolicy", "team/train")[0] == (
        "LifecyclePolicyNotFoundException"
    )


def test_repositories_have_tags(service: Ecr) -> None:
    service("TagResource", resourceArn=ARN, tags=[{"Key": "stage", "Value": "dev"}])
    service("UntagResource", resourceArn=ARN, tagKeys=["team"])
    assert service("ListTagsForResource", resourceArn=ARN)["tags"] == [
        {"Key": "stage", "Value": "dev"}
    ]
    assert service.fails("ListTagsForResource", resourceArn="arn:aws:s3:::x")[0] == (
        "InvalidParameterException"
    )


def test_images_that_clary_knows_are_there_in_every_registry(service: Ecr) -> None:
    asked = {"registryId": "683313688378", "imageIds": [{"imageTag": "1.7-1"}]}
    (details,) = service("DescribeImages", "sagemaker-xgboost", **asked)["imageDetails"]
    assert details["imageTags"] == ["1.7-1"]
    assert details["registryId"] == "683313688378"
    (image,) = service("BatchGetImage", "sagemaker-xgboost", **asked)["images"]
    digest = hashlib.sha256(image["imageManifest"].encode()).hexdigest()
    assert image["imageId"]["imageDigest"] == details["imageDigest"] == f"sha256:{digest}"
    named = {"repositoryNames": ["sagemaker-scikit-learn"], "registryId": "683313688378"}
    (repository,) = service("DescribeRepositories", **named)["repositories"]
    assert repository["repositoryUri"] == (
        f"683313688378.dkr.ecr.{REGION}.amazonaws.com/sagemaker-scikit-learn"
    )
    assert service.fails("DeleteRepository", "sagemaker-xgboost")[0] == (
        "RepositoryNotFoundException"
    )
    assert service.fails("PutImage", "sagemaker-xgboost", imageManifest="{}")[0] == (
        "RepositoryNotFoundException"
    )


def test_a_repository_of_the_account_comes_before_a_known_one(service: Ecr) -> None:
    service("CreateRepository", "sagemaker-xgboost")
    assert service("ListImages", "sagemaker-xgboost")["imageIds"] == []
