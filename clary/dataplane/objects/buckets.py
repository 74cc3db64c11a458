"""Buckets themselves: list, create, head, delete, location, versioning."""

from __future__ import annotations

from clary.dataplane.objects.errors import invalid_argument
from clary.dataplane.objects.listing import owner_of
from clary.dataplane.objects.metadata_headers import check_acl
from clary.dataplane.objects.receiving import document as receive_document
from clary.dataplane.objects.request import Answer, S3Request
from clary.dataplane.objects.service import Service
from clary.dataplane.objects.xml import document, iso, malformed, read, text_of
from clary.model.errors import ApiError

DEFAULT_REGION = "us-east-1"


def list_buckets(service: Service, request: S3Request) -> Answer:
    query = request.query
    prefix, token = query.get("prefix", ""), query.get("continuation-token", "")
    region, text = query.get("bucket-region", ""), query.get("max-buckets", "10000")
    if not text.isascii() or not text.isdigit() or not 1 <= int(text[:9]) <= 10_000:
        message = "Argument max-buckets must be an integer between 1 and 10000"
        raise invalid_argument(message, "max-buckets", text)
    found = [
        bucket
        for bucket in service.objects.buckets()
        if bucket.name.startswith(prefix)
        and bucket.name > token
        and (not region or bucket.region == region)
    ]
    page = found[: int(text)]
    content = {
        "Buckets": {
            "Bucket": [
                {
                    "Name": bucket.name,
                    "CreationDate": iso(bucket.created),
                    "BucketRegion": bucket.region,
                }
                for bucket in page
            ]
        },
        "Owner": owner_of(service),
        "ContinuationToken": page[-1].name if len(page) < len(found) else None,
        "Prefix": prefix or None,
    }
    return Answer(200, {}, document("ListAllMyBucketsResult", content))


async def create_bucket(service: Service, request: S3Request) -> Answer:
    body = await receive_document(request)
    check_acl(request.headers)
    signed = request.caller.scope.region if request.caller else ""
    region = _region(body, signed or service.region)
    created = service.objects.create_bucket(request.bucket, region)
    if not created:
        # As S3 itself answers: in us-east-1, making one's own bucket again succeeds.
        known = service.objects.settings.get(request.bucket)
        if not known.region == region == DEFAULT_REGION:
            raise ApiError(
                "Your previous request to create the named bucket succeeded and you already own it.",
                code="BucketAlreadyOwnedByYou",
                status=409,
                BucketName=request.bucket,
            )
    return Answer(200, {"location": f"/{request.bucket}"})


def _region(body: bytes, signed: str) -> str:
    """The region of the new bucket: its LocationConstraint must fit where the request was sent."""
    constraint = ""
    if body.strip():
        constraint = text_of(read(body, "CreateBucketConfiguration"), "LocationConstraint").strip()
    if constraint == "EU":
        constraint = "eu-west-1"
    if not constraint and signed != DEFAULT_REGION:
        raise _illegal_location("unspecified")
    if constraint and signed not in (DEFAULT_REGION, constraint):
        raise _illegal_location(constraint)
    if constraint == DEFAULT_REGION:
        message = "The specified location-constraint is not valid"
        raise ApiError(message, code="InvalidLocationConstraint", status=400)
    return constraint or DEFAULT_REGION


def _illegal_location(constraint: str) -> ApiError:
    return ApiError(
        f"The {constraint} location constraint is incompatible for the region specific endpoint this request was "
        "sent to.",
        code="IllegalLocationConstraintException",
        status=400,
    )


def head_bucket(service: Service, request: S3Request) -> Answer:
    bucket = service.objects.settings.get(request.bucket)
    headers = {"x-amz-bucket-region": bucket.region, "x-amz-access-point-alias": "false"}
    return Answer(200, headers)


def delete_bucket(service: Service, request: S3Request) -> Answer:
    service.objects.delete_bucket(request.bucket)
    return Answer(204)


def get_bucket_location(service: Service, request: S3Request) -> Answer:
    region = service.objects.settings.get(request.bucket).region
    # S3 answers an empty constraint for us-east-1.
    text = "" if region == DEFAULT_REGION else region
    return Answer(200, {}, document("LocationConstraint", text))


def get_bucket_versioning(service: Service, request: S3Request) -> Answer:
    versioning = service.objects.settings.get(request.bucket).versioning
    return Answer(200, {}, document("VersioningConfiguration", {"Status": versioning or None}))


async def put_bucket_versioning(service: Service, request: S3Request) -> Answer:
    root = read(await receive_document(request), "VersioningConfiguration")
    status = text_of(root, "Status")
    if status not in ("Enabled", "Suspended") or text_of(root, "MfaDelete") == "Enabled":
        raise malformed()
    service.objects.settings.change(request.bucket, versioning=status)
    return Answer(200)
