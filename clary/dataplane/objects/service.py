"""What the operations on objects share: the store, the account, and who may do what."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any, Protocol, TypeVar

from clary.dataplane.objects.errors import DENIED, access_denied
from clary.dataplane.objects.request import S3Request
from clary.identity.authenticate import Caller
from clary.identity.principals import Principal
from clary.model.errors import ApiError
from clary.store.object_multipart import Multipart
from clary.store.objects import Objects
from clary.wire.http import Request

THREADS = 8
T = TypeVar("T")


class Authenticator(Protocol):
    def authenticate(
        self, request: Request, *, check_body: bool = True, style: Any = None
    ) -> Caller: ...

    def authenticate_form(self, fields: Mapping[str, str]) -> Caller: ...


class Authoriser(Protocol):
    """Raises AccessDenied(Exception) unless the policies of the principal and the resource allow the action."""

    def authorise(
        self,
        principal: Principal,
        action: str,
        resource: str,
        context: Callable[[], Mapping[str, Any]],
        resource_policy: str = "",
    ) -> object: ...


def thread_pool() -> ThreadPoolExecutor:
    return ThreadPoolExecutor(THREADS, thread_name_prefix="objects")


@dataclass(slots=True)
class Service:
    objects: Objects
    account: str
    region: str
    authenticator: Authenticator
    authoriser: Authoriser
    multipart: Multipart = field(init=False)
    pool: ThreadPoolExecutor = field(default_factory=thread_pool)

    def __post_init__(self) -> None:
        self.multipart = Multipart(self.objects)

    async def in_thread(self, work: Callable[..., T], *arguments: Any) -> T:
        return await asyncio.get_running_loop().run_in_executor(self.pool, work, *arguments)

    def authorise(self, request: S3Request, action: str, bucket: str = "", key: str = "") -> None:
        """Raise AccessDenied unless the caller may do this to the bucket or the object."""
        resource = f"arn:aws:s3:::{bucket}/{key}" if key else f"arn:aws:s3:::{bucket or '*'}"
        found = self.objects.bucket(bucket) if bucket else None
        if bucket == request.bucket:
            request.found = found
        policy = found.documents.get("policy", "") if found else ""
        if request.caller is None and not policy:
            raise access_denied()
        try:
            self.authoriser.authorise(
                request.principal, action, resource, lambda: context_of(request), policy
            )
        except ApiError as problem:
            if problem.code in DENIED and request.caller is None:
                raise access_denied() from problem  # strangers learn nothing
            raise

    def may(self, request: S3Request, action: str, bucket: str, key: str = "") -> bool:
        try:
            self.authorise(request, action, bucket, key)
        except ApiError as problem:
            if problem.code in DENIED:
                return False
            raise
        return True


def context_of(request: S3Request) -> dict[str, str]:
    """The condition keys that a policy may speak of."""
    context = {
        "aws:SourceIp": request.wire.peer,
        "aws:SecureTransport": "true" if request.secure else "false",
        "s3:signatureversion": "AWS4-HMAC-SHA256",
        "s3:authType": "REST-QUERY-STRING" if "X-Amz-Signature" in request.query else "REST-HEADER",
    }
    for name in ("prefix", "delimiter", "max-keys"):
        if name in request.query:
            context[f"s3:{name}"] = request.query[name]
    if "versionId" in request.query:
        context["s3:VersionId"] = request.query["versionId"]
    for name in (
        "x-amz-acl",
        "x-amz-copy-source",
        "x-amz-storage-class",
        "x-amz-server-side-encryption",
        "x-amz-server-side-encryption-aws-kms-key-id",
    ):
        if name in request.headers:
            context[f"s3:{name}"] = request.headers[name]
    if "user-agent" in request.headers:
        context["aws:UserAgent"] = request.headers["user-agent"]
    return context
