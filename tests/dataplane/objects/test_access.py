import json
from typing import Any

import boto3
from botocore.config import Config

from tests.dataplane.objects.asking import fetch, refused, signed
from tests.dataplane.objects.conftest import Door


def test_policies_decide_what_a_user_may(door: Door, s3: Any, bucket: str) -> None:
    reader = door.client("reader")
    s3.put_object(Bucket=bucket, Key="k", Body=b"1")
    assert reader.get_object(Bucket=bucket, Key="k")["Body"].read() == b"1"
    assert refused(reader.put_object, Bucket=bucket, Key="k", Body=b"") == ("AccessDenied", 403)
    assert refused(reader.list_objects_v2, Bucket=bucket) == ("AccessDenied", 403)
    assert refused(reader.list_buckets) == ("AccessDenied", 403)
    assert refused(reader.head_bucket, Bucket=bucket) == ("403", 403)
    denied = reader.delete_objects(Bucket=bucket, Delete={"Objects": [{"Key": "k"}]})
    assert [found["Code"] for found in denied["Errors"]] == ["AccessDenied"]


def test_who_may_not_list_does_not_learn_that_a_key_is_missing(door: Door, bucket: str) -> None:
    assert refused(door.client("reader").get_object, Bucket=bucket, Key="none") == (
        "AccessDenied",
        403,
    )


def test_a_wrong_secret_and_an_unknown_key_are_refused(door: Door, bucket: str) -> None:
    for keys, code in (
        ({**door.keys["admin"], "aws_secret_access_key": "wrong"}, "SignatureDoesNotMatch"),
        ({"aws_access_key_id": "AKIANOBODY", "aws_secret_access_key": "x"}, "InvalidAccessKeyId"),
    ):
        client = boto3.client("s3", endpoint_url=door.url, region_name="us-east-1", **keys)
        assert refused(client.list_objects_v2, Bucket=bucket) == (code, 403)


def test_strangers_get_what_a_bucket_policy_gives_everyone(
    door: Door, s3: Any, bucket: str
) -> None:
    s3.put_object(Bucket=bucket, Key="open/k", Body=b"1")
    s3.put_object(Bucket=bucket, Key="shut/k", Body=b"1")
    assert fetch(f"{door.url}/{bucket}/open/k")[0] == 403
    statement = {
        "Effect": "Allow",
        "Principal": "*",
        "Action": "s3:GetObject",
        "Resource": f"arn:aws:s3:::{bucket}/open/*",
    }
    s3.put_bucket_policy(
        Bucket=bucket, Policy=json.dumps({"Version": "2012-10-17", "Statement": statement})
    )
    assert fetch(f"{door.url}/{bucket}/open/k")[::2] == (200, b"1")
    status, _, body = fetch(f"{door.url}/{bucket}/shut/k")
    assert status == 403 and b"<Code>AccessDenied</Code><Message>Access Denied</Message>" in body
    assert fetch(f"{door.url}/{bucket}/open/k", "PUT", b"2")[0] == 403


def test_presigned_urls_read_and_write(door: Door, bucket: str) -> None:
    client = door.client(signature_version="s3v4")
    ask = {"Bucket": bucket, "Key": "a b/é"}
    put = client.generate_presigned_url("put_object", Params=ask, ExpiresIn=60)
    assert fetch(put, "PUT", b"hello")[0] == 200
    got = client.generate_presigned_url("get_object", Params=ask, ExpiresIn=60)
    status, headers, body = fetch(got)
    assert (status, body) == (200, b"hello") and "server" not in headers
    assert headers["x-amz-request-id"] and headers["x-amz-id-2"]
    assert fetch(got.replace("X-Amz-Signature=", "X-Amz-Signature=0"))[0] == 403
    old = door.client(signature_version="s3").generate_presigned_url("get_object", Params=ask)
    assert fetch(old)[::2] == (200, b"hello")


def test_a_signed_body_that_was_changed_is_refused(door: Door, bucket: str) -> None:
    headers = signed(door, "PUT", f"/{bucket}/k", b"hello")
    status, _, body = fetch(f"{door.url}/{bucket}/k", "PUT", b"hallo", headers)
    assert status == 400 and b"XAmzContentSHA256Mismatch" in body
    assert refused(door.client().head_object, Bucket=bucket, Key="k") == ("404", 404)


def test_virtual_hosts_name_the_bucket(door: Door, s3: Any, bucket: str) -> None:
    s3.put_object(Bucket=bucket, Key="dir/k", Body=b"1")
    statement = {
        "Effect": "Allow",
        "Principal": "*",
        "Action": "s3:GetObject",
        "Resource": f"arn:aws:s3:::{bucket}/*",
    }
    s3.put_bucket_policy(
        Bucket=bucket, Policy=json.dumps({"Version": "2012-10-17", "Statement": statement})
    )
    for host in ("s3.amazonaws.com", "s3.eu-west-1.amazonaws.com", "s3-eu-west-1.amazonaws.com"):
        answer = fetch(f"{door.url}/dir/k", headers={"Host": f"{bucket}.{host}"})
        assert answer[::2] == (200, b"1")
        assert fetch(f"{door.url}/{bucket}/dir/k", headers={"Host": host})[::2] == (200, b"1")


def test_a_browser_may_do_what_the_cors_rules_say(door: Door, s3: Any, bucket: str) -> None:
    rules = [
        {
            "AllowedMethods": ["GET"],
            "AllowedOrigins": ["https://*.example.com"],
            "AllowedHeaders": ["x-*"],
        }
    ]
    s3.put_bucket_cors(Bucket=bucket, CORSConfiguration={"CORSRules": rules})
    ask = {
        "Origin": "https://a.example.com",
        "Access-Control-Request-Method": "GET",
        "Access-Control-Request-Headers": "X-One",
    }
    status, headers, _ = fetch(f"{door.url}/{bucket}/k", "OPTIONS", headers=ask)
    assert (status, headers["access-control-allow-origin"]) == (200, "https://a.example.com")
    for change in (
        {"Origin": "https://evil.com"},
        {"Access-Control-Request-Method": "PUT"},
        {"Access-Control-Request-Headers": "y"},
    ):
        assert fetch(f"{door.url}/{bucket}/k", "OPTIONS", headers={**ask, **change})[0] == 403


def test_a_form_uploads_what_its_policy_allows(door: Door, s3: Any, bucket: str) -> None:
    post = door.client(signature_version="s3v4").generate_presigned_post(
        bucket, "up/${filename}", Conditions=[["content-length-range", 1, 10]], ExpiresIn=60
    )

    def send(body: bytes, **fields: str) -> int:
        parts = b"".join(
            f'--B\r\nContent-Disposition: form-data; name="{name}"\r\n\r\n{value}\r\n'.encode()
            for name, value in {**post["fields"], **fields}.items()
        )
        parts += (
            b'--B\r\nContent-Disposition: form-data; name="file"; filename="f.txt"\r\n\r\n'
            + body
            + b"\r\n--B--\r\n"
        )
        return fetch(
            post["url"], "POST", parts, {"Content-Type": "multipart/form-data; boundary=B"}
        )[0]

    assert send(b"hello\r\n--") == 204
    assert s3.get_object(Bucket=bucket, Key="up/f.txt")["Body"].read() == b"hello\r\n--"
    assert send(b"x" * 11) == 400
    assert send(b"x", acl="private") == 403
    assert send(b"x", **{"x-amz-signature": "0" * 64}) == 403


def test_hostile_documents_are_refused(door: Door, s3: Any, bucket: str) -> None:
    bomb = b'<!DOCTYPE a [<!ENTITY b "cccc">]><VersioningConfiguration><Status>&b;</Status></VersioningConfiguration>'
    for body in (bomb, b"<a", b"", b"<Other/>", b"<VersioningConfiguration/>"):
        target = f"/{bucket}?versioning"
        headers = signed(door, "PUT", target, body)
        status, _, answer = fetch(door.url + target, "PUT", body, headers)
        assert status == 400 and b"<Code>MalformedXML</Code>" in answer
    assert fetch(f"{door.url}/{bucket}/%ff")[0] == 400


def test_the_key_in_a_url_never_leaves_its_bucket(door: Door, s3: Any, bucket: str) -> None:
    config = Config(s3={"addressing_style": "path"})
    client = boto3.client(
        "s3", endpoint_url=door.url, region_name="us-east-1", config=config, **door.keys["admin"]
    )
    for key in ("../../keys.json", "../.clary/buckets", "..%2f..%2finstall.key", "/etc/passwd"):
        assert refused(client.get_object, Bucket=bucket, Key=key) == ("NoSuchKey", 404)
    assert refused(client.get_object, Bucket=".clary", Key="buckets") in (
        ("NoSuchBucket", 404),
        ("AccessDenied", 403),
    )
