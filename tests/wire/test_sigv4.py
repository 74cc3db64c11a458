"""Signatures are checked against botocore's own signers, which are the clients we serve."""

from __future__ import annotations

from urllib.parse import quote, urlsplit

import pytest
from botocore.auth import (
    HmacV1QueryAuth,
    S3SigV4Auth,
    S3SigV4QueryAuth,
    SigV4Auth,
    SigV4QueryAuth,
)
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials
from hypothesis import given, settings
from hypothesis import strategies as st

from clary.model.errors import ApiError
from clary.wire.http import Request
from clary.wire.signature_errors import Style, style_of
from clary.wire.signature_times import epoch_of
from clary.wire.sigv2 import check_old_expiry, parse_old_signature, verify_old
from clary.wire.sigv4 import (
    SigningKeys,
    check_body,
    check_signature_time,
    check_signed_headers,
    credential_scope,
    parse_signature,
    presign,
    sign,
    verify,
)

KEY, SECRET = "AKIAEXAMPLE000000001", "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY"
CREDENTIALS = Credentials(KEY, SECRET)
KEYS = SigningKeys()
HOST = "127.0.0.1:4510"


def received(signed: AWSRequest) -> Request:
    """The request as a server sees it."""
    parts = urlsplit(signed.url)
    headers = {name.lower(): value for name, value in signed.headers.items()}
    headers.setdefault("host", parts.netloc)
    body = signed.body or b""
    return Request(signed.method, parts.path or "/", parts.query, headers, body)


def signed_by_botocore(
    auth: type,
    service: str,
    path: str = "/",
    query: str = "",
    method: str = "POST",
    body: bytes = b"",
    headers: dict[str, str] | None = None,
    credentials: Credentials = CREDENTIALS,
    **more: int,
) -> Request:
    url = f"http://{HOST}{path}" + (f"?{query}" if query else "")
    request = AWSRequest(method=method, url=url, data=body, headers=headers or {})
    request.context["payload_signing_enabled"] = True
    auth(credentials, service, "us-east-1", **more).add_auth(request)
    return received(request)


def check(request: Request, style: Style = "json", secret: str = SECRET) -> None:
    signature = parse_signature(request, style)
    now = epoch_of(signature.time)
    assert now is not None
    check_signature_time(signature, now, style)
    check_signed_headers(request, signature, style)
    verify(request, signature, secret, KEYS, style)
    check_body(request.body, signature, style)


def fault(request: Request, style: Style, secret: str = SECRET) -> ApiError:
    with pytest.raises(ApiError) as caught:
        check(request, style, secret)
    return caught.value


def test_a_json_request_signed_by_botocore_is_verified() -> None:
    headers = {"X-Amz-Target": "SageMaker.ListModels", "Content-Type": "application/x-amz-json-1.1"}
    request = signed_by_botocore(SigV4Auth, "sagemaker", body=b"{}", headers=headers)
    check(request)
    scope = credential_scope(request)
    assert scope is not None
    assert (scope.access_key, scope.region, scope.service) == (KEY, "us-east-1", "sagemaker")
    assert style_of(request, scope.service) == "json"


def test_header_values_with_repeated_spaces_are_verified() -> None:
    headers = {"X-Amz-Meta-Note": "  two   spaces\tand a tab "}
    check(signed_by_botocore(S3SigV4Auth, "s3", "/b/k", headers=headers), "s3")


def test_header_values_beyond_ascii_are_verified_whether_read_as_latin_1_or_utf_8() -> None:
    request = signed_by_botocore(SigV4Auth, "sagemaker", headers={"X-Amz-Note": "café"})
    check(request)
    latin = {**request.headers, "x-amz-note": "café".encode().decode("latin-1")}
    check(Request("POST", "/", "", latin))


odd_keys = st.text(
    st.characters(exclude_categories=("Cs",), exclude_characters="\x00"), min_size=1, max_size=40
)


@given(odd_keys, odd_keys, odd_keys)
@settings(max_examples=150, deadline=None)
def test_s3_paths_and_queries_with_odd_characters_are_verified(
    key: str, name: str, value: str
) -> None:
    path = "/bucket/" + quote(key, safe="/~")
    query = f"prefix={quote(value, safe='~')}&{quote(name, safe='~')}=&acl"
    check(signed_by_botocore(S3SigV4Auth, "s3", path, query, "GET"), "s3")


@given(odd_keys, odd_keys)
@settings(max_examples=150, deadline=None)
def test_rest_paths_with_odd_characters_are_verified(name: str, value: str) -> None:
    path = f"/endpoints/{quote(name, safe='/~')}/invocations"
    query = f"b={quote(value, safe='~')}&a={quote(name, safe='')}"
    check(signed_by_botocore(SigV4Auth, "sagemaker", path, query, body=b"1,2"), "rest")


@given(st.text("ab/.%2F+ ~*'()!$&,:;=@[]", max_size=20))
@settings(max_examples=150, deadline=None)
def test_paths_sent_raw_are_verified_as_their_client_signed_them(raw: str) -> None:
    path = "/bucket/" + raw.replace(" ", "%20")
    check(signed_by_botocore(S3SigV4Auth, "s3", path, "", "GET"), "s3")
    check(signed_by_botocore(SigV4Auth, "lambda", path, "", "GET"), "rest")


@pytest.mark.parametrize("query", ["a=1+2", "b=2&a=1&a=0", "x=%e2%82%ac", "acl", "a=b=c", "k=%2f"])
def test_queries_are_verified_as_sent(query: str) -> None:
    check(signed_by_botocore(S3SigV4Auth, "s3", "/b/k", query, "GET"), "s3")
    check(signed_by_botocore(SigV4Auth, "lambda", "/p", query, "GET"), "rest")


def test_a_presigned_s3_url_is_verified() -> None:
    request = signed_by_botocore(S3SigV4QueryAuth, "s3", "/b/a%20key", "", "GET", expires=60)
    check(request, "s3")
    scope = credential_scope(request)
    assert scope is not None and scope.service == "s3"
    assert parse_signature(request, "s3").payload == "UNSIGNED-PAYLOAD"


def test_a_presigned_query_service_url_with_a_session_token_is_verified() -> None:
    session = Credentials(KEY, SECRET, "a/token+with=odd")
    query = "Action=GetCallerIdentity&Version=2011-06-15"
    request = signed_by_botocore(
        SigV4QueryAuth, "sts", "/", query, "GET", credentials=session, expires=60
    )
    check(request, "query")
    assert parse_signature(request, "query").token == "a/token+with=odd"


def test_an_old_presigned_url_is_verified_until_it_expires() -> None:
    session = Credentials(KEY, SECRET, "a token")
    request = AWSRequest("GET", f"http://{HOST}/b/k?versionId=3&x=1&response-content-type=a%2Fb")
    HmacV1QueryAuth(session, expires=100).add_auth(request)
    arrived = received(request)
    scope = credential_scope(arrived)
    assert scope is not None and (scope.access_key, scope.service) == (KEY, "s3")
    signature = parse_old_signature(arrived)
    verify_old(arrived, signature, SECRET)
    check_old_expiry(signature, signature.expires)
    with pytest.raises(ApiError, match="Request has expired") as caught:
        check_old_expiry(signature, signature.expires + 1)
    assert (caught.value.code, caught.value.status) == ("AccessDenied", 403)
    with pytest.raises(ApiError) as caught:
        verify_old(arrived, signature, "another")
    assert caught.value.code == "SignatureDoesNotMatch"


def test_our_own_signer_agrees_with_botocore() -> None:
    theirs = signed_by_botocore(
        S3SigV4Auth, "s3", "/b/k", "list-type=2", "GET", headers={"X-Amz-Meta-A": "1"}
    )
    now = epoch_of(theirs.headers["x-amz-date"])
    assert now is not None
    plain = Request("GET", "/b/k", "list-type=2", {"host": HOST, "x-amz-meta-a": "1"})
    ours = sign(
        plain, access_key=KEY, secret=SECRET, region="us-east-1", service="s3", now=float(now)
    )
    assert ours["authorization"] == theirs.headers["authorization"]


@pytest.mark.parametrize(("service", "style"), [("s3", "s3"), ("sts", "query")])
def test_our_own_presigned_urls_are_verified(service: str, style: Style) -> None:
    query = presign(
        "GET", HOST, "/b/k%20", access_key=KEY, secret=SECRET, region="eu-west-1",
        service=service, now=1_700_000_000.0, expires=300, token="t+/=", query="z=1&a=%20",
    )  # fmt: skip
    check(Request("GET", "/b/k%20", query, {"host": HOST}), style)


FORMS: list[tuple[Style, str, int]] = [
    ("json", "InvalidSignatureException", 400),
    ("rest", "InvalidSignatureException", 403),
    ("query", "SignatureDoesNotMatch", 403),
    ("s3", "SignatureDoesNotMatch", 403),
]


@pytest.mark.parametrize(("style", "code", "status"), FORMS)
def test_a_wrong_secret_is_refused_in_the_words_of_the_style(
    style: Style, code: str, status: int
) -> None:
    service = "s3" if style == "s3" else "sts"
    auth = S3SigV4Auth if style == "s3" else SigV4Auth
    problem = fault(signed_by_botocore(auth, service, body=b"x"), style, "wrong")
    assert (problem.code, problem.status) == (code, status)
    assert problem.message.startswith("The request signature we calculated does not match the")


def test_a_tampered_body_is_refused() -> None:
    request = signed_by_botocore(SigV4Auth, "sagemaker", body=b"{}")
    request.body = b'{"a": 1}'
    assert fault(request, "json").code == "InvalidSignatureException"
    request = signed_by_botocore(S3SigV4Auth, "s3", "/b/k", "", "PUT", b"hello")
    request.body = b"jello"
    problem = fault(request, "s3")
    assert (problem.code, problem.status) == ("XAmzContentSHA256Mismatch", 400)


def test_a_tampered_header_path_query_or_method_is_refused() -> None:
    def fresh() -> Request:
        headers = {"X-Amz-Meta-A": "1"}
        return signed_by_botocore(S3SigV4Auth, "s3", "/b/k", "a=1", "GET", headers=headers)

    changes = [("path", "/b/j"), ("query", "a=2"), ("method", "DELETE")]
    for name, value in changes:
        request = fresh()
        setattr(request, name, value)
        assert fault(request, "s3").code == "SignatureDoesNotMatch"
    request = fresh()
    request.headers = {**request.headers, "x-amz-meta-a": "2"}
    assert fault(request, "s3").code == "SignatureDoesNotMatch"
    request.headers = {**fresh().headers, "host": "elsewhere:4510"}
    assert fault(request, "s3").code == "SignatureDoesNotMatch"


def test_an_unsigned_amz_header_is_refused_by_s3() -> None:
    request = signed_by_botocore(S3SigV4Auth, "s3", "/b/k", "", "PUT")
    request.headers = {**request.headers, "x-amz-acl": "public-read"}
    problem = fault(request, "s3")
    assert (problem.code, problem.status) == ("AccessDenied", 403)
    assert problem.members == {"HeadersNotSigned": "x-amz-acl"}


@pytest.mark.parametrize(
    ("style", "code", "status"),
    [
        ("json", "MissingAuthenticationTokenException", 400),
        ("rest", "MissingAuthenticationTokenException", 403),
        ("query", "MissingAuthenticationToken", 403),
        ("s3", "AccessDenied", 403),
    ],
)
def test_an_unsigned_request_is_refused(style: Style, code: str, status: int) -> None:
    request = Request("POST", "/", "", {"host": HOST})
    assert credential_scope(request) is None
    problem = fault(request, style)
    assert (problem.code, problem.status) == (code, status)


@pytest.mark.parametrize(
    ("header", "said"),
    [
        ("AWS4-HMAC-SHA256 Credential=", "Authorization header requires 'Credential' parameter."),
        ("AWS4-HMAC-SHA256 Credential=a, Signature=b", "requires 'SignedHeaders' parameter"),
        (
            f"AWS4-HMAC-SHA256 Credential=nonsense, SignedHeaders=host, Signature={'0' * 64}",
            "Credential must have exactly 5 slash-delimited elements",
        ),
        ("Basic dXNlcjpwdw==", "Unsupported AWS 'algorithm'"),
        ("AWS4-ECDSA-P256-SHA256 Credential=x", "Unsupported AWS 'algorithm'"),
    ],
)
def test_a_malformed_authorization_header_is_named(header: str, said: str) -> None:
    request = Request("POST", "/", "", {"host": HOST, "authorization": header})
    problem = fault(request, "json")
    assert (problem.code, problem.status) == ("IncompleteSignatureException", 400)
    assert said in problem.message
    assert credential_scope(request) is None


@given(st.text(max_size=120), st.text(max_size=120))
@settings(max_examples=200, deadline=None)
def test_garbage_is_refused_without_a_defect(header: str, query: str) -> None:
    prefix = "AWS4-HMAC-SHA256 Credential=A/20250101/r/s/aws4_request, SignedHeaders="
    for text in (header, prefix + header):
        request = Request("GET", "/", query, {"host": HOST, "authorization": text})
        credential_scope(request)
        with pytest.raises(ApiError):
            signature = parse_signature(request, "json")
            verify(request, signature, SECRET, KEYS, "json")
    request = Request("GET", "/", f"X-Amz-Credential={query}&{header}", {"host": HOST})
    credential_scope(request)
    with pytest.raises(ApiError):
        parse_signature(request, "s3")


def test_a_request_signed_too_early_or_too_late_is_refused() -> None:
    request = signed_by_botocore(SigV4Auth, "sagemaker")
    signature = parse_signature(request, "json")
    now = epoch_of(signature.time)
    assert now is not None
    for delta in (-900, 900):
        check_signature_time(signature, now + delta, "json")
    with pytest.raises(ApiError) as late:
        check_signature_time(signature, now + 901, "json")
    assert late.value.code == "InvalidSignatureException"
    assert late.value.message.startswith(f"Signature expired: {signature.time} is now earlier than")
    assert late.value.message.endswith(" - 15 min.)")
    with pytest.raises(ApiError) as early:
        check_signature_time(signature, now - 901, "json")
    assert early.value.message.startswith(f"Signature not yet current: {signature.time} is still")
    with pytest.raises(ApiError) as skewed:
        check_signature_time(signature, now + 901, "s3")
    assert (skewed.value.code, skewed.value.status) == ("RequestTimeTooSkewed", 403)
    assert skewed.value.members["MaxAllowedSkewMilliseconds"] == "900000"


def test_an_expired_presigned_url_is_refused() -> None:
    request = signed_by_botocore(S3SigV4QueryAuth, "s3", "/b/k", "", "GET", expires=60)
    signature = parse_signature(request, "s3")
    now = epoch_of(signature.time)
    assert now is not None
    check_signature_time(signature, now + 60, "s3")
    with pytest.raises(ApiError) as caught:
        check_signature_time(signature, now + 61, "s3")
    assert (caught.value.code, caught.value.status) == ("AccessDenied", 403)
    assert caught.value.message == "Request has expired"


@pytest.mark.parametrize("expires", ["604801", "0", "-1", "ten", "99999999999999999999"])
def test_a_presigned_url_lives_a_week_at_most(expires: str) -> None:
    request = signed_by_botocore(S3SigV4QueryAuth, "s3", "/b/k", "", "GET", expires=60)
    request.query = request.query.replace("X-Amz-Expires=60", f"X-Amz-Expires={expires}")
    problem = fault(request, "s3")
    assert (problem.code, problem.status) == ("AuthorizationQueryParametersError", 400)


def test_the_scope_must_be_of_the_day_that_was_signed() -> None:
    request = signed_by_botocore(SigV4Auth, "sagemaker")
    day = request.headers["x-amz-date"][:8]
    changed = request.headers["authorization"].replace(f"/{day}/", "/20010101/")
    request.headers = {**request.headers, "authorization": changed}
    problem = fault(request, "json")
    assert problem.code == "InvalidSignatureException"
    assert problem.message.startswith("Date in Credential scope does not match YYYYMMDD")


def test_s3_wants_the_payload_hash_header() -> None:
    request = signed_by_botocore(S3SigV4Auth, "s3", "/b/k", "", "PUT", b"x")
    without = {k: v for k, v in request.headers.items() if k != "x-amz-content-sha256"}
    problem = fault(Request("PUT", "/b/k", "", without, b"x"), "s3")
    assert (problem.code, problem.status) == ("InvalidRequest", 400)
    wrong = {**request.headers, "x-amz-content-sha256": "STREAMING-NONSENSE"}
    assert fault(Request("PUT", "/b/k", "", wrong, b"x"), "s3").code == "InvalidArgument"
