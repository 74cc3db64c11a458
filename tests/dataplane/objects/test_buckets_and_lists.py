import json
from typing import Any

from tests.dataplane.objects.asking import refused
from tests.dataplane.objects.conftest import Door


def test_a_bucket_is_created_listed_found_and_deleted(door: Door, s3: Any) -> None:
    s3.create_bucket(Bucket="first-bucket")
    s3.create_bucket(Bucket="first-bucket")
    west = door.client(region="eu-west-1")
    where = {"LocationConstraint": "eu-west-1"}
    west.create_bucket(Bucket="west-bucket", CreateBucketConfiguration=where)
    again = {"Bucket": "west-bucket", "CreateBucketConfiguration": where}
    assert refused(west.create_bucket, **again) == ("BucketAlreadyOwnedByYou", 409)
    assert refused(west.create_bucket, Bucket="other") == (
        "IllegalLocationConstraintException",
        400,
    )
    assert refused(s3.create_bucket, Bucket="xn--bucket") == ("InvalidBucketName", 400)
    assert s3.get_bucket_location(Bucket="west-bucket")["LocationConstraint"] == "eu-west-1"
    assert s3.get_bucket_location(Bucket="first-bucket")["LocationConstraint"] is None
    assert s3.head_bucket(Bucket="west-bucket")["BucketRegion"] == "eu-west-1"
    names = [found["Name"] for found in s3.list_buckets()["Buckets"]]
    assert {"first-bucket", "west-bucket"} <= set(names) and names == sorted(names)
    s3.put_object(Bucket="first-bucket", Key="k", Body=b"")
    assert refused(s3.delete_bucket, Bucket="first-bucket") == ("BucketNotEmpty", 409)
    s3.delete_object(Bucket="first-bucket", Key="k")
    s3.delete_bucket(Bucket="first-bucket")
    assert refused(s3.head_bucket, Bucket="first-bucket") == ("404", 404)
    west.delete_bucket(Bucket="west-bucket")


def test_another_expected_owner_is_refused(s3: Any, bucket: str) -> None:
    s3.head_bucket(Bucket=bucket, ExpectedBucketOwner="123456789012")
    assert refused(s3.head_bucket, Bucket=bucket, ExpectedBucketOwner="210987654321") == (
        "403",
        403,
    )
    assert refused(s3.get_object, Bucket=bucket, Key="k", ExpectedBucketOwner="210987654321") == (
        "AccessDenied",
        403,
    )


def test_lists_page_delimit_and_encode(s3: Any, bucket: str) -> None:
    for key in ("a/1", "a/2", "b c", "b/1", "c", "d+é", "e/"):
        s3.put_object(Bucket=bucket, Key=key, Body=b"12")
    whole = s3.list_objects_v2(Bucket=bucket, Delimiter="/")
    assert [found["Prefix"] for found in whole["CommonPrefixes"]] == ["a/", "b/", "e/"]
    assert [found["Key"] for found in whole["Contents"]] == ["b c", "c", "d+é"]
    assert whole["KeyCount"] == 6 and "Owner" not in whole["Contents"][0]
    for name in ("list_objects_v2", "list_objects"):
        pages = s3.get_paginator(name).paginate(
            Bucket=bucket, Delimiter="/", PaginationConfig={"PageSize": 1}
        )
        found = [
            x.get("Key") or x["Prefix"]
            for page in pages
            for x in (page.get("Contents", []) + page.get("CommonPrefixes", []))
        ]
        assert found == ["a/", "b c", "b/", "c", "d+é", "e/"]
    first = s3.list_objects(Bucket=bucket, MaxKeys=2, Prefix="a")
    assert [found["Key"] for found in first["Contents"]] == ["a/1", "a/2"]
    assert first["IsTruncated"] is False and first["Contents"][0]["Owner"]["ID"]
    later = s3.list_objects_v2(Bucket=bucket, StartAfter="b/1", FetchOwner=True)
    assert [found["Key"] for found in later["Contents"]] == ["c", "d+é", "e/"]
    assert later["Contents"][0]["Owner"]["ID"] and later["StartAfter"] == "b/1"
    assert s3.list_objects_v2(Bucket=bucket, MaxKeys=0)["KeyCount"] == 0
    assert refused(s3.list_objects_v2, Bucket=bucket, ContinuationToken="?") == (
        "InvalidArgument",
        400,
    )


def test_versions_through_the_api(s3: Any, bucket: str) -> None:
    assert "Status" not in s3.get_bucket_versioning(Bucket=bucket)
    s3.put_bucket_versioning(Bucket=bucket, VersioningConfiguration={"Status": "Enabled"})
    one = s3.put_object(Bucket=bucket, Key="k", Body=b"1")["VersionId"]
    two = s3.put_object(Bucket=bucket, Key="k", Body=b"22")["VersionId"]
    assert s3.get_object(Bucket=bucket, Key="k", VersionId=one)["Body"].read() == b"1"
    copied = s3.copy_object(
        Bucket=bucket, Key="copy", CopySource={"Bucket": bucket, "Key": "k", "VersionId": one}
    )
    assert copied["CopySourceVersionId"] == one
    gone = s3.delete_object(Bucket=bucket, Key="k")
    assert gone["DeleteMarker"] is True
    assert refused(s3.get_object, Bucket=bucket, Key="k") == ("NoSuchKey", 404)
    assert refused(s3.get_object, Bucket=bucket, Key="k", VersionId=gone["VersionId"]) == (
        "MethodNotAllowed",
        405,
    )
    assert refused(s3.get_object, Bucket=bucket, Key="k", VersionId="none") == (
        "NoSuchVersion",
        404,
    )
    listed = s3.list_object_versions(Bucket=bucket, Prefix="k")
    assert [v["VersionId"] for v in listed["Versions"]] == [two, one]
    assert [(m["VersionId"], m["IsLatest"]) for m in listed["DeleteMarkers"]] == [
        (gone["VersionId"], True)
    ]
    s3.delete_object(Bucket=bucket, Key="k", VersionId=gone["VersionId"])
    assert s3.get_object(Bucket=bucket, Key="k")["Body"].read() == b"22"


def test_configurations_are_kept_and_have_the_defaults_of_new_buckets(s3: Any, bucket: str) -> None:
    rule = s3.get_bucket_encryption(Bucket=bucket)["ServerSideEncryptionConfiguration"]["Rules"][0]
    assert rule["ApplyServerSideEncryptionByDefault"]["SSEAlgorithm"] == "AES256"
    assert s3.get_public_access_block(Bucket=bucket)["PublicAccessBlockConfiguration"][
        "BlockPublicAcls"
    ]
    assert refused(s3.get_bucket_cors, Bucket=bucket) == ("NoSuchCORSConfiguration", 404)
    assert refused(s3.get_bucket_tagging, Bucket=bucket) == ("NoSuchTagSet", 404)
    assert refused(s3.get_bucket_lifecycle_configuration, Bucket=bucket) == (
        "NoSuchLifecycleConfiguration",
        404,
    )
    rules = [{"AllowedMethods": ["GET"], "AllowedOrigins": ["https://*.example.com"]}]
    s3.put_bucket_cors(Bucket=bucket, CORSConfiguration={"CORSRules": rules})
    assert s3.get_bucket_cors(Bucket=bucket)["CORSRules"] == rules
    s3.delete_bucket_cors(Bucket=bucket)
    assert refused(s3.get_bucket_cors, Bucket=bucket) == ("NoSuchCORSConfiguration", 404)
    s3.put_bucket_tagging(Bucket=bucket, Tagging={"TagSet": [{"Key": "a", "Value": "b"}]})
    assert s3.get_bucket_tagging(Bucket=bucket)["TagSet"] == [{"Key": "a", "Value": "b"}]
    queue = {
        "QueueArn": "arn:aws:sqs:us-east-1:123456789012:q",
        "Events": ["s3:ObjectCreated:*"],
        "Id": "i",
    }
    s3.put_bucket_notification_configuration(
        Bucket=bucket, NotificationConfiguration={"QueueConfigurations": [queue]}
    )
    assert s3.get_bucket_notification_configuration(Bucket=bucket)["QueueConfigurations"] == [queue]
    assert s3.get_bucket_acl(Bucket=bucket)["Grants"][0]["Permission"] == "FULL_CONTROL"
    s3.delete_public_access_block(Bucket=bucket)
    assert refused(s3.get_public_access_block, Bucket=bucket) == (
        "NoSuchPublicAccessBlockConfiguration",
        404,
    )


def test_a_bucket_policy_is_kept_and_checked(s3: Any, bucket: str) -> None:
    assert refused(s3.get_bucket_policy, Bucket=bucket) == ("NoSuchBucketPolicy", 404)
    policy = json.dumps(
        {
            "Version": "2012-10-17",
            "Statement": [
                {
                    "Effect": "Allow",
                    "Principal": "*",
                    "Action": "s3:GetObject",
                    "Resource": f"arn:aws:s3:::{bucket}/*",
                }
            ],
        }
    )
    s3.put_bucket_policy(Bucket=bucket, Policy=policy)
    assert json.loads(s3.get_bucket_policy(Bucket=bucket)["Policy"]) == json.loads(policy)
    assert s3.get_bucket_policy_status(Bucket=bucket)["PolicyStatus"]["IsPublic"] is True
    assert refused(s3.put_bucket_policy, Bucket=bucket, Policy="{") == ("MalformedPolicy", 400)
    other = policy.replace(bucket, "other")
    assert refused(s3.put_bucket_policy, Bucket=bucket, Policy=other) == ("MalformedPolicy", 400)
    s3.delete_bucket_policy(Bucket=bucket)
    assert refused(s3.get_bucket_policy, Bucket=bucket) == ("NoSuchBucketPolicy", 404)
