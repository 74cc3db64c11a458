"""Which operation a request asks for, and the permission it needs: one table.

An operation is found by what the path names (the service, a bucket, an object), the method, and the one query
parameter that names a sub-resource, such as `?tagging`. For an object, `copy` stands for x-amz-copy-source.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from clary.dataplane.objects.buckets import (
    create_bucket,
    delete_bucket,
    get_bucket_location,
    get_bucket_versioning,
    head_bucket,
    list_buckets,
    put_bucket_versioning,
)
from clary.dataplane.objects.copying import copy_object, upload_part_copy
from clary.dataplane.objects.deleting import delete_object, delete_objects
from clary.dataplane.objects.documents import (
    KEPT,
    delete_bucket_policy,
    deleter,
    get_acl,
    get_bucket_policy,
    get_bucket_policy_status,
    getter,
    put_acl,
    put_bucket_policy,
    putter,
)
from clary.dataplane.objects.form_upload import post_object
from clary.dataplane.objects.listing import list_object_versions, list_objects, list_objects_v2
from clary.dataplane.objects.multipart import (
    abort_multipart_upload,
    complete_multipart_upload,
    create_multipart_upload,
    list_multipart_uploads,
    list_parts,
    upload_part,
)
from clary.dataplane.objects.reading import get_object, get_object_attributes
from clary.dataplane.objects.request import Answer, S3Request
from clary.dataplane.objects.service import Service
from clary.dataplane.objects.tagging import (
    delete_bucket_tagging,
    delete_object_tagging,
    get_bucket_tagging,
    get_object_tagging,
    put_bucket_tagging,
    put_object_tagging,
)
from clary.dataplane.objects.writing import put_object

Handler = Callable[[Service, S3Request], "Answer | Awaitable[Answer]"]


@dataclass(frozen=True, slots=True)
class Operation:
    name: str
    action: str  # of IAM, without "s3:"; empty where the handler itself authorises
    handler: Handler
    threaded: bool = False  # a plain function that may take long
    version_action: str = ""  # where a versionId needs another permission
    timed: bool = False  # may outlast a client's patience: the answer is begun before it is known


SERVICE, BUCKET, OBJECT = "service", "bucket", "object"
Table = dict[tuple[str, str, str], Operation]

OPERATIONS: Table = {
    (SERVICE, "GET", ""): Operation("ListBuckets", "ListAllMyBuckets", list_buckets),
    (BUCKET, "PUT", ""): Operation("CreateBucket", "CreateBucket", create_bucket),
    (BUCKET, "HEAD", ""): Operation("HeadBucket", "ListBucket", head_bucket),
    (BUCKET, "DELETE", ""): Operation("DeleteBucket", "DeleteBucket", delete_bucket, threaded=True),
    (BUCKET, "POST", ""): Operation("PostObject", "", post_object),
    (BUCKET, "POST", "delete"): Operation("DeleteObjects", "", delete_objects),
    (BUCKET, "GET", ""): Operation("ListObjects", "ListBucket", list_objects, threaded=True),
    (BUCKET, "GET", "list-type"): Operation(
        "ListObjectsV2", "ListBucket", list_objects_v2, threaded=True
    ),
    (BUCKET, "GET", "versions"): Operation(
        "ListObjectVersions", "ListBucketVersions", list_object_versions, threaded=True
    ),
    (BUCKET, "GET", "uploads"): Operation(
        "ListMultipartUploads", "ListBucketMultipartUploads", list_multipart_uploads, threaded=True
    ),
    (BUCKET, "GET", "location"): Operation(
        "GetBucketLocation", "GetBucketLocation", get_bucket_location
    ),
    (BUCKET, "GET", "versioning"): Operation(
        "GetBucketVersioning", "GetBucketVersioning", get_bucket_versioning
    ),
    (BUCKET, "PUT", "versioning"): Operation(
        "PutBucketVersioning", "PutBucketVersioning", put_bucket_versioning
    ),
    (BUCKET, "GET", "policy"): Operation("GetBucketPolicy", "GetBucketPolicy", get_bucket_policy),
    (BUCKET, "PUT", "policy"): Operation("PutBucketPolicy", "PutBucketPolicy", put_bucket_policy),
    (BUCKET, "DELETE", "policy"): Operation(
        "DeleteBucketPolicy", "DeleteBucketPolicy", delete_bucket_policy
    ),
    (BUCKET, "GET", "policyStatus"): Operation(
        "GetBucketPolicyStatus", "GetBucketPolicyStatus", get_bucket_policy_status
    ),
    (BUCKET, "GET", "tagging"): Operation(
        "GetBucketTagging", "GetBucketTagging", get_bucket_tagging
    ),
    (BUCKET, "PUT", "tagging"): Operation(
        "PutBucketTagging", "PutBucketTagging", put_bucket_tagging
    ),
    (BUCKET, "DELETE", "tagging"): Operation(
        "DeleteBucketTagging", "PutBucketTagging", delete_bucket_tagging
    ),
    (BUCKET, "GET", "acl"): Operation("GetBucketAcl", "GetBucketAcl", get_acl),
    (BUCKET, "PUT", "acl"): Operation("PutBucketAcl", "PutBucketAcl", put_acl),
    (OBJECT, "GET", ""): Operation(
        "GetObject", "GetObject", get_object, version_action="GetObjectVersion"
    ),
    (OBJECT, "HEAD", ""): Operation(
        "HeadObject", "GetObject", get_object, version_action="GetObjectVersion"
    ),
    (OBJECT, "GET", "attributes"): Operation(
        "GetObjectAttributes",
        "GetObjectAttributes",
        get_object_attributes,
        version_action="GetObjectVersionAttributes",
    ),
    (OBJECT, "PUT", ""): Operation("PutObject", "PutObject", put_object),
    (OBJECT, "PUT", "copy"): Operation("CopyObject", "PutObject", copy_object, timed=True),
    (OBJECT, "DELETE", ""): Operation(
        "DeleteObject", "DeleteObject", delete_object, version_action="DeleteObjectVersion"
    ),
    (OBJECT, "POST", "uploads"): Operation(
        "CreateMultipartUpload", "PutObject", create_multipart_upload
    ),
    (OBJECT, "PUT", "uploadId"): Operation("UploadPart", "PutObject", upload_part),
    (OBJECT, "PUT", "uploadId copy"): Operation(
        "UploadPartCopy", "PutObject", upload_part_copy, timed=True
    ),
    (OBJECT, "POST", "uploadId"): Operation(
        "CompleteMultipartUpload", "PutObject", complete_multipart_upload, timed=True
    ),
    (OBJECT, "DELETE", "uploadId"): Operation(
        "AbortMultipartUpload", "AbortMultipartUpload", abort_multipart_upload, threaded=True
    ),
    (OBJECT, "GET", "uploadId"): Operation(
        "ListParts", "ListMultipartUploadParts", list_parts, threaded=True
    ),
    (OBJECT, "GET", "tagging"): Operation(
        "GetObjectTagging",
        "GetObjectTagging",
        get_object_tagging,
        version_action="GetObjectVersionTagging",
    ),
    (OBJECT, "PUT", "tagging"): Operation(
        "PutObjectTagging",
        "PutObjectTagging",
        put_object_tagging,
        version_action="PutObjectVersionTagging",
    ),
    (OBJECT, "DELETE", "tagging"): Operation(
        "DeleteObjectTagging",
        "DeleteObjectTagging",
        delete_object_tagging,
        version_action="DeleteObjectVersionTagging",
    ),
    (OBJECT, "GET", "acl"): Operation("GetObjectAcl", "GetObjectAcl", get_acl),
    (OBJECT, "PUT", "acl"): Operation("PutObjectAcl", "PutObjectAcl", put_acl),
}

# The names that operations and permissions of a kept document are made of.
_DOCUMENTS = {
    "cors": ("BucketCors", "BucketCORS"),
    "lifecycle": ("BucketLifecycleConfiguration", "LifecycleConfiguration"),
    "encryption": ("BucketEncryption", "EncryptionConfiguration"),
    "publicAccessBlock": ("PublicAccessBlock", "BucketPublicAccessBlock"),
    "ownershipControls": ("BucketOwnershipControls", "BucketOwnershipControls"),
    "notification": ("BucketNotificationConfiguration", "BucketNotification"),
    "logging": ("BucketLogging", "BucketLogging"),
    "requestPayment": ("BucketRequestPayment", "BucketRequestPayment"),
    "accelerate": ("BucketAccelerateConfiguration", "AccelerateConfiguration"),
    "website": ("BucketWebsite", "BucketWebsite"),
    "replication": ("BucketReplication", "ReplicationConfiguration"),
    "object-lock": ("ObjectLockConfiguration", "BucketObjectLockConfiguration"),
}


def _document_operations() -> Table:
    found: Table = {}
    for word, (noun, permission) in _DOCUMENTS.items():
        kept = KEPT[word]
        found[BUCKET, "GET", word] = Operation(f"Get{noun}", f"Get{permission}", getter(kept))
        found[BUCKET, "PUT", word] = Operation(f"Put{noun}", f"Put{permission}", putter(kept))
        if kept.storable and word != "notification":
            found[BUCKET, "DELETE", word] = Operation(
                f"Delete{noun}", f"Put{permission}", deleter(kept)
            )
    return found


OPERATIONS.update(_document_operations())

# Operations of S3 that Clary does not have, so that the refusal can name them.
UNANSWERED = {
    "analytics": "BucketAnalyticsConfiguration",
    "inventory": "BucketInventoryConfiguration",
    "metrics": "BucketMetricsConfiguration",
    "intelligent-tiering": "BucketIntelligentTieringConfiguration",
    "metadataTable": "BucketMetadataTableConfiguration",
    "metadataConfiguration": "BucketMetadataConfiguration",
    "abac": "BucketAbac",
    "session": "Session",
    "legal-hold": "ObjectLegalHold",
    "retention": "ObjectRetention",
    "torrent": "ObjectTorrent",
    "restore": "RestoreObject",
    "select": "SelectObjectContent",
    "renameObject": "RenameObject",
    "encryption": "ObjectEncryption",
}
SUBRESOURCES = frozenset({key[2].partition(" ")[0] for key in OPERATIONS} | set(UNANSWERED)) - {""}


def find(request: S3Request) -> tuple[Operation | None, str]:
    """The operation, or None with the name of what was asked for."""
    level = OBJECT if request.key else BUCKET if request.bucket else SERVICE
    word = ""
    if request.query:
        word = next((name for name in request.query if name in SUBRESOURCES), "")
    if word == "list-type" and request.query[word] != "2":
        word = ""
    if level == OBJECT and request.method == "PUT" and "x-amz-copy-source" in request.headers:
        word = f"{word} copy".strip()
    found = OPERATIONS.get((level, request.method, word))
    if found is not None:
        return found, found.name
    noun = UNANSWERED.get(word, word)
    verb = {"PUT": "Put", "POST": "Post", "DELETE": "Delete"}.get(request.method, "Get")
    return None, noun if noun.endswith(("Object", "Content")) else f"{verb}{noun}"
