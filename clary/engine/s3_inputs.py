"""The check that S3 inputs are there, made when a job is created, as SageMaker makes it."""

from __future__ import annotations

from clary.engine.call import Call
from clary.model.errors import ValidationException
from clary.model.s3_uris import parse_s3_uri


def require_objects(call: Call, uri: str) -> None:
    """Raise ValidationException unless at least one object lies under an input's S3 URI."""
    bucket, key = parse_s3_uri(uri)
    objects = call.parts.objects
    if objects.bucket(bucket) is not None and objects.list(bucket, key, limit=1).objects:
        return
    role = call.input.get("RoleArn", "")
    raise ValidationException(
        f'No S3 objects found under S3 URL "{uri}" given in input data source. Please ensure that '
        f"the bucket exists in the selected region ({call.region}), that objects exist under that "
        f'S3 prefix, and that the role "{role}" has "s3:ListBucket" permissions '
        f'on bucket "{bucket}".'
    )
