"""The object store's in-process interface over an external S3 endpoint, for when the files live elsewhere.

It answers what `clary.store.objects.Objects` answers to the rest of Clary, through botocore, which keeps every key
and prefix as it is; a client for many stores that treats keys as paths would not.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, cast

from boto3.session import Session
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError

from clary.model.errors import ApiError, ServiceUnavailable
from clary.store.object_buckets import Bucket, no_such_bucket
from clary.store.object_metadata import ObjectMetadata
from clary.store.object_tree import LAST
from clary.store.objects import PAGE_MAX, Deleted, ObjectInfo, Page, check_key, no_such_key

VARIABLE = "CLARY_OBJECT_STORE"
MISSING = frozenset({"404", "NoSuchKey", "NoSuchBucket", "NotFound", "NoSuchVersion"})


@dataclass(frozen=True, slots=True)
class ExternalEndpoint:
    """Where the external store is, and Clary's own credentials there."""

    url: str
    access_key: str
    secret: str
    region: str = "us-east-1"
    token: str = ""

    def __repr__(self) -> str:
        return f"ExternalEndpoint({self.url!r}, {self.access_key!r})"

    @staticmethod
    def load(url: str, environment: Mapping[str, str]) -> ExternalEndpoint:
        """Read the credentials from `CLARY_OBJECT_STORE_*`; raise ValueError naming what is missing."""
        if not url.startswith(("http://", "https://")):
            raise ValueError(f"{VARIABLE}_URL={url!r} is not an http or https URL")
        found: dict[str, str] = {}
        for member, variable in (
            ("access_key", f"{VARIABLE}_ACCESS_KEY_ID"),
            ("secret", f"{VARIABLE}_SECRET_ACCESS_KEY"),
        ):
            found[member] = environment.get(variable, "")
            if not found[member]:
                raise ValueError(f"{VARIABLE}_URL is set, but {variable} is not")
        return ExternalEndpoint(
            url.rstrip("/"),
            **found,
            region=environment.get(f"{VARIABLE}_REGION") or "us-east-1",
            token=environment.get(f"{VARIABLE}_SESSION_TOKEN", ""),
        )


class ExternalObjects:
    """Safe from many threads, as botocore's clients are."""

    def __init__(self, endpoint: ExternalEndpoint) -> None:
        self.endpoint = endpoint
        self._client: Any = Session().client(
            "s3",
            endpoint_url=endpoint.url,
            region_name=endpoint.region,
            aws_access_key_id=endpoint.access_key,
            aws_secret_access_key=endpoint.secret,
            aws_session_token=endpoint.token or None,
            config=Config(
                s3={"addressing_style": "path"},
                retries={"max_attempts": 3, "mode": "standard"},
                connect_timeout=10,
                read_timeout=60,
                # The store's own endpoint is to be reached, not Clary's door as an HTTPS proxy.
                proxies={},
            ),
        )

    def buckets(self) -> list[Bucket]:
        with _translated():
            found = self._client.list_buckets()["Buckets"]
        return [
            Bucket(bucket["Name"], self.endpoint.region, bucket["CreationDate"].timestamp())
            for bucket in found
        ]

    def bucket(self, name: str) -> Bucket | None:
        try:
            with _translated():
                self._client.head_bucket(Bucket=name)
        except ApiError as problem:
            if problem.status == 404:
                return None
            raise
        return Bucket(name, self.endpoint.region)

    def create_bucket(self, name: str, region: str = "us-east-1") -> bool:
        """False when it exists and is ours."""
        place = self.endpoint.region
        where: dict[str, Any] = {}
        if place != "us-east-1":
            where["CreateBucketConfiguration"] = {"LocationConstraint": place}
        try:
            with _translated():
                self._client.create_bucket(Bucket=name, **where)
        except ApiError as problem:
            if problem.code == "BucketAlreadyOwnedByYou":
                return False
            raise
        return True

    def delete_bucket(self, name: str) -> None:
        with _translated():
            self._client.delete_bucket(Bucket=name)

    def head(self, bucket: str, key: str, version_id: str = "") -> ObjectInfo | None:
        try:
            with _translated():
                answer = self._client.head_object(**_named(bucket, key, version_id))
        except ApiError as problem:
            if problem.status == 404:
                return None
            raise
        return _info(bucket, key, answer, answer["ContentLength"])

    def open(self, bucket: str, key: str, version_id: str = "") -> BinaryIO:
        """A stream of the object's bytes, which cannot seek; raise NoSuchKey."""
        try:
            with _translated():
                answer = self._client.get_object(**_named(bucket, key, version_id))
        except ApiError as problem:
            if problem.code in ("NoSuchKey", "404"):
                raise no_such_key(key) from problem
            raise
        return cast(BinaryIO, answer["Body"])

    def read(self, bucket: str, key: str, limit: int = 64 * 1024 * 1024) -> bytes:
        """The whole object; raise EntityTooLarge if it has more than `limit` bytes."""
        body = self.open(bucket, key)
        try:
            data = body.read(limit + 1)
        finally:
            body.close()
        if len(data) > limit:
            message = f"s3://{bucket}/{key} is larger than the {limit} bytes expected here."
            raise ApiError(message, code="EntityTooLarge", status=400)
        return data

    def put(
        self,
        bucket: str,
        key: str,
        data: bytes | BinaryIO,
        content_type: str = "binary/octet-stream",
        user: Mapping[str, str] | None = None,
    ) -> ObjectInfo:
        check_key(key)
        extra = {"ContentType": content_type, "Metadata": dict(user or {})}
        with _translated():
            if isinstance(data, bytes):
                self._client.put_object(Bucket=bucket, Key=key, Body=data, **extra)
            else:
                self._client.upload_fileobj(data, bucket, key, ExtraArgs=extra)
        info = self.head(bucket, key)
        if info is None:
            raise no_such_key(key)
        return info

    def delete(self, bucket: str, key: str, version_id: str = "") -> Deleted:
        with _translated():
            answer = self._client.delete_object(**_named(bucket, key, version_id))
        return Deleted(answer.get("VersionId", ""), bool(answer.get("DeleteMarker")))

    def list(
        self,
        bucket: str,
        prefix: str = "",
        start_after: str = "",
        limit: int = PAGE_MAX,
        delimiter: str = "",
    ) -> Page:
        """One page, in key order; ListObjects takes a common prefix as the place to go on after."""
        with _translated():
            answer = self._client.list_objects(
                Bucket=bucket,
                Prefix=prefix,
                Marker=start_after.removesuffix(LAST),
                MaxKeys=limit,
                Delimiter=delimiter,
            )
        objects = [
            _info(bucket, found["Key"], found, found["Size"])
            for found in answer.get("Contents", [])
        ]
        prefixes = [found["Prefix"] for found in answer.get("CommonPrefixes", [])]
        if not answer["IsTruncated"]:
            return Page(objects, prefixes)
        last = max([info.key for info in objects] + prefixes)
        return Page(objects, prefixes, last + LAST if last in prefixes else last)

    def path(self, bucket: str, key: str) -> Path | None:
        """No object of an external store is a file of this machine."""
        return None


def _named(bucket: str, key: str, version_id: str) -> dict[str, str]:
    named = {"Bucket": bucket, "Key": key}
    return {**named, "VersionId": version_id} if version_id else named


def _info(bucket: str, key: str, answer: dict[str, Any], size: int) -> ObjectInfo:
    metadata = ObjectMetadata(
        etag=answer["ETag"].strip('"'),
        content_type=answer.get("ContentType", "binary/octet-stream"),
        user=answer.get("Metadata", {}),
        version_id=answer.get("VersionId", ""),
        storage_class=answer.get("StorageClass", "STANDARD"),
    )
    modified = int(answer["LastModified"].timestamp() * 1e9)
    return ObjectInfo(bucket, key, size, modified, metadata, "")


@contextmanager
def _translated() -> Iterator[None]:
    """Give the external store's refusals as our errors."""
    try:
        yield
    except ClientError as problem:
        error: dict[str, Any] = dict(problem.response.get("Error", {}))
        status = problem.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 502)
        code, message = str(error.get("Code", "InternalError")), str(error.get("Message", ""))
        if code == "NoSuchBucket":
            raise no_such_bucket(str(error.get("BucketName", ""))) from problem
        if code in MISSING:
            raise ApiError(message or "Not Found", code=code, status=404) from problem
        text = f"The external object store answered: {message or code}"
        raise ApiError(text, code=code, status=status) from problem
    except BotoCoreError as problem:
        message = f"The external object store cannot be reached: {problem}"
        raise ServiceUnavailable(message) from problem
