"""A bucket's configurations that are documents: kept as the client sent them, given back the same.

Which sub-resources there are, what they answer while nobody has set them, and who sees to them, is one table.
"""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from clary.dataplane.objects.errors import not_implemented
from clary.dataplane.objects.listing import owner_of
from clary.dataplane.objects.metadata_headers import check_acl
from clary.dataplane.objects.receiving import document as receive_document
from clary.dataplane.objects.request import Answer, S3Request
from clary.dataplane.objects.service import Service
from clary.dataplane.objects.xml import document, read
from clary.identity.policy_documents import parse_policy
from clary.model.errors import ApiError
from clary.store.objects import no_such_key

REMOVED = "removed"  # a default that the client took away


@dataclass(frozen=True, slots=True)
class Kept:
    """One sub-resource; `default` is its answer when unset, else `missing` is the error."""

    word: str
    root: str
    default: bytes = b""
    missing: tuple[str, str] = ("", "")  # code, message
    removable: bool = True  # whether its default, too, can be deleted
    storable: bool = True


_DEFAULT_ENCRYPTION = document(
    "ServerSideEncryptionConfiguration",
    {
        "Rule": {
            "ApplyServerSideEncryptionByDefault": {"SSEAlgorithm": "AES256"},
            "BucketKeyEnabled": False,
        }
    },
)
_DEFAULT_BLOCK = document(
    "PublicAccessBlockConfiguration",
    {
        "BlockPublicAcls": True,
        "IgnorePublicAcls": True,
        "BlockPublicPolicy": True,
        "RestrictPublicBuckets": True,
    },
)
_DEFAULT_OWNERSHIP = document(
    "OwnershipControls", {"Rule": {"ObjectOwnership": "BucketOwnerEnforced"}}
)

KEPT = {
    kept.word: kept
    for kept in (
        Kept(
            "cors",
            "CORSConfiguration",
            missing=("NoSuchCORSConfiguration", "The CORS configuration does not exist"),
        ),
        Kept(
            "lifecycle",
            "LifecycleConfiguration",
            missing=("NoSuchLifecycleConfiguration", "The lifecycle configuration does not exist"),
        ),
        Kept(
            "encryption",
            "ServerSideEncryptionConfiguration",
            default=_DEFAULT_ENCRYPTION,
            removable=False,
        ),
        Kept(
            "publicAccessBlock",
            "PublicAccessBlockConfiguration",
            default=_DEFAULT_BLOCK,
            missing=(
                "NoSuchPublicAccessBlockConfiguration",
                "The public access block configuration was not found",
            ),
        ),
        Kept(
            "ownershipControls",
            "OwnershipControls",
            default=_DEFAULT_OWNERSHIP,
            missing=(
                "OwnershipControlsNotFoundError",
                "The bucket ownership controls were not found",
            ),
        ),
        Kept(
            "notification",
            "NotificationConfiguration",
            default=document("NotificationConfiguration", ""),
        ),
        Kept(
            "logging",
            "BucketLoggingStatus",
            default=document("BucketLoggingStatus", ""),
            storable=False,
        ),
        Kept(
            "requestPayment",
            "RequestPaymentConfiguration",
            default=document("RequestPaymentConfiguration", {"Payer": "BucketOwner"}),
            storable=False,
        ),
        Kept(
            "accelerate",
            "AccelerateConfiguration",
            default=document("AccelerateConfiguration", ""),
            storable=False,
        ),
        Kept(
            "website",
            "WebsiteConfiguration",
            missing=(
                "NoSuchWebsiteConfiguration",
                "The specified bucket does not have a website configuration",
            ),
            storable=False,
        ),
        Kept(
            "replication",
            "ReplicationConfiguration",
            missing=(
                "ReplicationConfigurationNotFoundError",
                "The replication configuration was not found",
            ),
            storable=False,
        ),
        Kept(
            "object-lock",
            "ObjectLockConfiguration",
            missing=(
                "ObjectLockConfigurationNotFoundError",
                "Object Lock configuration does not exist for this bucket",
            ),
            storable=False,
        ),
    )
}


def getter(kept: Kept) -> Callable[[Service, S3Request], Answer]:
    def get(service: Service, request: S3Request) -> Answer:
        text = service.objects.settings.get(request.bucket).documents.get(kept.word, "")
        if text and text != REMOVED:
            return Answer(200, {}, text.encode())
        if kept.default and not text:
            return Answer(200, {}, kept.default)
        code, message = kept.missing
        raise ApiError(message, code=code, status=404, BucketName=request.bucket)

    return get


def putter(kept: Kept) -> Callable[[Service, S3Request], Awaitable[Answer]]:
    async def put(service: Service, request: S3Request) -> Answer:
        if not kept.storable:
            raise not_implemented(f"Put{kept.root}")
        body = await receive_document(request)
        read(body, kept.root)
        service.objects.settings.set_document(request.bucket, kept.word, body.decode())
        return Answer(200)

    return put


def deleter(kept: Kept) -> Callable[[Service, S3Request], Answer]:
    def delete(service: Service, request: S3Request) -> Answer:
        text = REMOVED if kept.default and kept.removable else ""
        service.objects.settings.set_document(request.bucket, kept.word, text)
        return Answer(204)

    return delete


def get_bucket_policy(service: Service, request: S3Request) -> Answer:
    text = _policy(service, request)
    return Answer(200, {"content-type": "application/json"}, text.encode())


def _policy(service: Service, request: S3Request) -> str:
    text = service.objects.settings.get(request.bucket).documents.get("policy", "")
    if not text:
        raise ApiError(
            "The bucket policy does not exist",
            code="NoSuchBucketPolicy",
            status=404,
            BucketName=request.bucket,
        )
    return text


async def put_bucket_policy(service: Service, request: S3Request) -> Answer:
    body = await receive_document(request)
    check_policy(body, request.bucket)
    service.objects.settings.set_document(request.bucket, "policy", body.decode())
    return Answer(204)


def check_policy(body: bytes, bucket: str) -> None:
    """Refuse what could never be evaluated: a bucket policy is kept only if it is one of this bucket."""
    try:
        parse_policy(body.decode(), "resource")
        statements = json.loads(body)["Statement"]
    except ApiError as problem:
        raise _malformed_policy(problem.message) from problem
    except ValueError as problem:
        message = "Policies must be valid JSON and the first byte must be '{'"
        raise _malformed_policy(message) from problem
    for statement in [statements] if isinstance(statements, dict) else statements:
        resources = statement.get("Resource", [])
        for resource in [resources] if isinstance(resources, str) else resources:
            name = resource.removeprefix("arn:aws:s3:::").partition("/")[0]
            if not resource.startswith("arn:aws:s3:::") or (name != bucket and "*" not in name):
                raise _malformed_policy("Policy has invalid resource")


def _malformed_policy(message: str) -> ApiError:
    return ApiError(message, code="MalformedPolicy", status=400)


def delete_bucket_policy(service: Service, request: S3Request) -> Answer:
    service.objects.settings.set_document(request.bucket, "policy", "")
    return Answer(204)


def get_bucket_policy_status(service: Service, request: S3Request) -> Answer:
    public = is_public(_policy(service, request))
    return Answer(200, {}, document("PolicyStatus", {"IsPublic": public}))


def is_public(policy: str) -> bool:
    statements = json.loads(policy).get("Statement", [])
    for statement in [statements] if isinstance(statements, dict) else statements:
        principal = statement.get("Principal")
        named = principal.get("AWS", []) if isinstance(principal, dict) else principal
        anyone = "*" in ([named] if isinstance(named, str) else named or [])
        if statement.get("Effect") == "Allow" and anyone and not statement.get("Condition"):
            return True
    return False


def get_acl(service: Service, request: S3Request) -> Answer:
    """ACLs are off, as in every new bucket of S3: the owner has full control."""
    service.objects.settings.get(request.bucket)
    if (
        request.key
        and service.objects.head(request.bucket, request.key, request.version_id) is None
    ):
        raise no_such_key(request.key)
    owner = owner_of(service)
    grantee = "".join(f"<{name}>{value}</{name}>" for name, value in owner.items())
    body = document("AccessControlPolicy", {"Owner": owner, "AccessControlList": "@"})
    grant = (
        '<Grant><Grantee xmlns:xsi="http://www.w3.org/2001/XMLSchema-instance" xsi:type="CanonicalUser">'
        f"{grantee}</Grantee><Permission>FULL_CONTROL</Permission></Grant>"
    )
    return Answer(200, {}, body.replace(b"@", grant.encode()))


async def put_acl(service: Service, request: S3Request) -> Answer:
    service.objects.settings.get(request.bucket)
    body = await receive_document(request)
    check_acl(request.headers)
    if body.strip():
        raise ApiError(
            "The bucket does not allow ACLs", code="AccessControlListNotSupported", status=400
        )
    return Answer(200)
