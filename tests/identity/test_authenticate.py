"""Requests signed by real clients lead to the caller behind them, or to the right refusal."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from urllib.parse import urlsplit

import boto3
import pytest
from botocore.auth import HmacV1QueryAuth, S3SigV4Auth, S3SigV4QueryAuth, SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.config import Config
from botocore.credentials import Credentials

from clary.identity.access_keys import INACTIVE, KIND, USE_KIND
from clary.identity.authenticate import Authenticator
from clary.identity.first_start import ADMINISTRATOR, EXECUTION_ROLE, prepare
from clary.identity.principals import session_principal
from clary.identity.sealing import install_key
from clary.identity.sessions import issue, issue_work_token, open_work_token
from clary.identity.work_credentials import work_credentials
from clary.model.errors import ApiError
from clary.settings import Settings
from clary.store.database import Store
from clary.wire.http import Request
from clary.wire.signature_times import epoch_of

ACCOUNT = "123456789012"
HOST = "127.0.0.1:4510"


class World:
    """An installation just after its first start, whose clock follows the requests it signs."""

    def __init__(self, home: Path) -> None:
        self.settings = Settings(home=home)
        self.store = Store.open(f"sqlite:///{home}/clary.db")
        self.now = 0.0
        self.key = install_key(home)
        made = prepare(self.store, self.settings, self.clock)
        self.admin = Credentials(made["AccessKeyId"], made["SecretAccessKey"])
        self.authenticator = Authenticator(
            self.store, self.settings, self.key, self.clock, records_use=True
        )

    def clock(self) -> float:
        return self.now

    def signed(
        self,
        credentials: Credentials,
        auth: type = SigV4Auth,
        service: str = "sagemaker",
        path: str = "/",
        method: str = "POST",
        body: bytes = b"{}",
        headers: dict[str, str] | None = None,
        **more: int,
    ) -> Request:
        request = AWSRequest(method, f"http://{HOST}{path}", headers or {}, body)
        request.context["payload_signing_enabled"] = True
        signer = auth(credentials, **more) if auth is HmacV1QueryAuth else None
        signer = signer or auth(credentials, service, "us-east-1", **more)
        signer.add_auth(request)
        parts = urlsplit(request.url)
        found = {name.lower(): value for name, value in request.headers.items()}
        found.setdefault("host", HOST)
        self.now = float(epoch_of(found.get("x-amz-date", "")) or self.now)
        return Request(method, parts.path, parts.query, found, body)


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    world = World(tmp_path)
    yield world
    world.store.close()


JSON = {"X-Amz-Target": "SageMaker.ListModels"}
FORM = {"Content-Type": "application/x-www-form-urlencoded; charset=utf-8"}


def refused(world: World, request: Request) -> tuple[str, int]:
    with pytest.raises(ApiError) as caught:
        world.authenticator.authenticate(request)
    return caught.value.code, caught.value.status


def test_the_administrator_is_recognised(world: World) -> None:
    caller = world.authenticator.authenticate(world.signed(world.admin, headers=JSON))
    assert caller.principal.arn == f"arn:aws:iam::{ACCOUNT}:user/{ADMINISTRATOR}"
    assert caller.principal.kind == "user"
    assert caller.principal.user_id.startswith("AIDA")
    assert caller.principal.access_key == world.admin.access_key
    assert (caller.scope.service, caller.scope.region) == ("sagemaker", "us-east-1")


@pytest.mark.parametrize(
    ("service", "auth", "headers", "expected"),
    [
        ("sagemaker", SigV4Auth, JSON, ("UnrecognizedClientException", 400)),
        ("sagemaker", SigV4Auth, {}, ("UnrecognizedClientException", 403)),
        ("sts", SigV4Auth, FORM, ("InvalidClientTokenId", 403)),
        ("s3", S3SigV4Auth, {}, ("InvalidAccessKeyId", 403)),
    ],
)
def test_an_unknown_key_is_refused_in_the_words_of_the_service(
    world: World, service: str, auth: type, headers: dict[str, str], expected: tuple[str, int]
) -> None:
    nobody = Credentials("AKIANOBODY0000000000", "secret")
    assert refused(world, world.signed(nobody, auth, service, headers=headers)) == expected


@pytest.mark.parametrize(
    ("service", "auth", "headers", "expected"),
    [
        ("sagemaker", SigV4Auth, JSON, ("ExpiredTokenException", 400)),
        ("sagemaker", SigV4Auth, {}, ("ExpiredTokenException", 403)),
        ("sts", SigV4Auth, FORM, ("ExpiredToken", 403)),
        ("s3", S3SigV4Auth, {}, ("ExpiredToken", 400)),
    ],
)
def test_an_expired_session_is_refused_in_the_words_of_the_service(
    world: World, service: str, auth: type, headers: dict[str, str], expected: tuple[str, int]
) -> None:
    session = temporary(world, seconds=-1)
    assert refused(world, world.signed(session, auth, service, headers=headers)) == expected


def temporary(world: World, seconds: float = 900) -> Credentials:
    if not world.now:
        world.signed(world.admin)
    role = world.store.rows.get("iam:Role", EXECUTION_ROLE, account=ACCOUNT)
    assert role is not None
    who = session_principal(ACCOUNT, role.arn, role.document["RoleId"], "SageMaker")
    issued = issue(world.key, who, seconds, now=world.now)
    return Credentials(issued["AccessKeyId"], issued["SecretAccessKey"], issued["SessionToken"])


def test_a_session_of_a_role_is_recognised(world: World) -> None:
    caller = world.authenticator.authenticate(world.signed(temporary(world), headers=JSON))
    arn = f"arn:aws:sts::{ACCOUNT}:assumed-role/{EXECUTION_ROLE}/SageMaker"
    assert caller.principal.arn == arn
    assert caller.principal.role_arn == f"arn:aws:iam::{ACCOUNT}:role/{EXECUTION_ROLE}"


def test_a_forged_session_token_is_refused(world: World) -> None:
    session = temporary(world)
    forged = Credentials(session.access_key, session.secret_key, "rubbish")
    assert refused(world, world.signed(forged, headers=JSON)) == (
        "UnrecognizedClientException",
        400,
    )
    assert refused(world, world.signed(forged, S3SigV4Auth, "s3")) == ("InvalidToken", 400)


def test_a_session_without_its_token_is_nobody(world: World) -> None:
    session = temporary(world)
    bare = Credentials(session.access_key, session.secret_key)
    assert refused(world, world.signed(bare, headers=JSON)) == ("UnrecognizedClientException", 400)


def test_a_long_lived_key_with_a_token_is_refused(world: World) -> None:
    odd = Credentials(world.admin.access_key, world.admin.secret_key, "token")
    assert refused(world, world.signed(odd, headers=JSON)) == ("UnrecognizedClientException", 400)


def test_a_wrong_secret_and_a_changed_body_are_refused(world: World) -> None:
    wrong = Credentials(world.admin.access_key, "wrong")
    assert refused(world, world.signed(wrong, headers=JSON)) == ("InvalidSignatureException", 400)
    request = world.signed(world.admin, headers=JSON)
    request.body = b"[]"
    assert refused(world, request) == ("InvalidSignatureException", 400)


def test_a_deactivated_or_deleted_key_is_refused_at_once(world: World) -> None:
    request = world.signed(world.admin, headers=JSON)
    world.authenticator.authenticate(request)
    rows = world.store.rows
    row = rows.get(KIND, world.admin.access_key, account=ACCOUNT, parent=ADMINISTRATOR)
    assert row is not None
    row.status = INACTIVE
    rows.update(row)
    assert refused(world, request) == ("UnrecognizedClientException", 400)
    row.status = "Active"
    rows.update(row)
    world.authenticator.authenticate(request)
    rows.delete(row)
    assert refused(world, request) == ("UnrecognizedClientException", 400)


def test_the_use_of_a_key_is_noted_once_an_hour(world: World) -> None:
    rows = world.store.rows
    for _ in range(3):
        world.authenticator.authenticate(world.signed(world.admin, headers=JSON))
    row = rows.get(USE_KIND, world.admin.access_key, account=ACCOUNT)
    assert row is not None
    assert row.version == 1
    assert row.document["Service"] == "sagemaker"
    assert row.document["Date"] == pytest.approx(world.now, abs=60)


def test_presigned_urls_of_both_ages_are_recognised(world: World) -> None:
    for auth in (S3SigV4QueryAuth, HmacV1QueryAuth):
        request = world.signed(world.admin, auth, "s3", "/b/k", "GET", b"", expires=60)
        signed = request.query.partition("X-Amz-Date=")[2][:16]
        world.now = float(epoch_of(signed) or world.now)
        caller = world.authenticator.authenticate(request)
        assert caller.principal.name == ADMINISTRATOR
        assert (caller.scope.service, caller.payload) == ("s3", "UNSIGNED-PAYLOAD")
        world.now += 10_000_000
        assert refused(world, request) == ("AccessDenied", 403)
        world.now -= 10_000_000


@pytest.mark.parametrize("region", ["us-east-1", "eu-central-1"])
def test_forms_signed_by_boto3_are_recognised(world: World, region: str) -> None:
    client = boto3.client(
        "s3",
        region_name=region,
        endpoint_url=f"http://{HOST}",
        aws_access_key_id=world.admin.access_key,
        aws_secret_access_key=world.admin.secret_key,
        config=Config(signature_version="s3" if region == "us-east-1" else "s3v4"),
    )
    fields = client.generate_presigned_post("b", "k")["fields"]
    lower = {name.lower(): value for name, value in fields.items()}
    assert world.authenticator.authenticate_form(lower).principal.name == ADMINISTRATOR
    tampered = lower | {"policy": lower["policy"][:-4] + "AAAA"}
    with pytest.raises(ApiError) as caught:
        world.authenticator.authenticate_form(tampered)
    assert caught.value.code == "SignatureDoesNotMatch"
    with pytest.raises(ApiError) as caught:
        world.authenticator.authenticate_form({"key": "k"})
    assert caught.value.code == "AccessDenied"


def test_a_streamed_body_gets_its_chunk_signer(world: World) -> None:
    headers = {"X-Amz-Content-SHA256": "STREAMING-AWS4-HMAC-SHA256-PAYLOAD"}

    class Streaming(S3SigV4Auth):
        def payload(self, request: AWSRequest) -> str:
            return headers["X-Amz-Content-SHA256"]

    request = world.signed(world.admin, Streaming, "s3", "/b/k", "PUT", b"ignored")
    caller = world.authenticator.authenticate(request, check_body=False)
    assert caller.payload == headers["X-Amz-Content-SHA256"]
    assert caller.signer is not None
    assert caller.signer.seed in request.headers["authorization"]


def test_an_unsigned_request_is_refused_in_the_style_of_its_router(world: World) -> None:
    request = Request("GET", "/b/k", "", {"host": HOST})
    assert refused(world, request) == ("MissingAuthenticationTokenException", 403)
    with pytest.raises(ApiError) as caught:
        world.authenticator.authenticate(request, style="s3")
    assert (caught.value.code, caught.value.status) == ("AccessDenied", 403)


def test_work_credentials_are_those_of_the_role_and_of_the_runner(world: World) -> None:
    world.signed(world.admin)
    role = f"arn:aws:iam::{ACCOUNT}:role/{EXECUTION_ROLE}"
    for acts_as, name in ((role, EXECUTION_ROLE), ("runner", "ClaryRunner")):
        token = issue_work_token(world.key, acts_as, "arn:work", world.now + 7200)
        claims = open_work_token(world.key, token, now=world.now)
        given = work_credentials(world.store, ACCOUNT, world.key, claims, now=world.now)
        assert given["Expiration"] == world.now + 3600
        credentials = Credentials(given["AccessKeyId"], given["SecretAccessKey"], given["Token"])
        caller = world.authenticator.authenticate(world.signed(credentials, headers=JSON))
        assert caller.principal.name == name
        assert caller.principal.arn.endswith(f"assumed-role/{name}/SageMaker")


def test_a_second_start_changes_nothing(world: World) -> None:
    again = prepare(world.store, world.settings, world.clock)
    assert again["AccessKeyId"] == world.admin.access_key
    file = world.settings.home / "credentials.json"
    assert file.stat().st_mode & 0o777 == 0o600
    assert [row.name for row in world.store.rows.every("iam:Role", account=ACCOUNT)] == [
        "ClaryExecutionRole",
        "ClaryRunner",
    ]
    file.unlink()
    fresh = prepare(world.store, world.settings, world.clock)
    assert fresh["AccessKeyId"] != world.admin.access_key


def test_secrets_do_not_rest_in_the_database_in_the_clear(world: World) -> None:
    content = b"".join(path.read_bytes() for path in world.settings.home.glob("clary.db*"))
    assert world.admin.access_key.encode() in content
    assert world.admin.secret_key.encode() not in content


def test_an_authenticator_of_another_account_knows_none_of_these_keys(world: World) -> None:
    settings = replace(world.settings, account="210987654321")
    other = Authenticator(world.store, settings, world.key, world.clock)
    with pytest.raises(ApiError) as caught:
        other.authenticate(world.signed(world.admin, headers=JSON))
    assert caught.value.code == "UnrecognizedClientException"
