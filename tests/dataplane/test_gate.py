"""The short way in: as quick for known clients as it is closed to everybody else."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from clary.dataplane.gate import Gate
from clary.identity import authenticate, first_start
from clary.identity.access_keys import KIND, create_access_key
from clary.identity.authenticate import Authenticator
from clary.identity.authorise import Authoriser
from clary.identity.principals import session_principal
from clary.identity.sealing import install_key
from clary.identity.sessions import issue
from clary.model.errors import ApiError
from clary.settings import Settings
from clary.store.database import Store
from clary.store.rows import Row
from clary.wire.head_shapes import LEARNT_ONE_IN
from clary.wire.http import Request
from clary.wire.request_heads import RequestHeads
from clary.wire.sigv4 import parse_signature, sign

ACCOUNT = "123456789012"
ARN = f"arn:aws:sagemaker:us-east-1:{ACCOUNT}:endpoint/iris"
ACTION = "sagemaker:InvokeEndpoint"
NOW = 1_780_000_000.0


class House:
    def __init__(self, home):
        self.now = NOW
        self.settings = replace(Settings.load({}), home=home)
        self.store = Store.open(f"sqlite:///{home / 'clary.db'}")
        keys = first_start.prepare(self.store, self.settings, self.clock)
        self.key = install_key(home)
        self.access_key, self.secret = keys["AccessKeyId"], keys["SecretAccessKey"]
        self.whole_checks = 0
        authenticator = Authenticator(self.store, self.settings, self.key, self.clock)
        self.gate = Gate(authenticator, Authoriser(self.store, self.settings, self.clock))

    def clock(self):
        return self.now

    def request(self, body=b"1,2", access_key="", secret="", token="", **headers):
        given = {"host": "127.0.0.1:4510", "content-type": "text/csv", **headers}
        request = Request("POST", "/endpoints/iris/invocations", "", given, body)
        added = sign(
            request,
            access_key=access_key or self.access_key,
            secret=secret or self.secret,
            token=token,
            region="us-east-1",
            service="sagemaker",
            now=self.now,
        )
        return replace(request, headers={**given, **added})

    def enter(self, request=None, action=ACTION, resource=ARN):
        return self.gate(request or self.request(), action=action, resource=resource)

    def refused(self, request=None, **options):
        with pytest.raises(ApiError) as caught:
            self.enter(request, **options)
        return caught.value.code

    def user(self, name, *statements):
        policy = json.dumps({"Version": "2012-10-17", "Statement": list(statements)})
        document = {"UserId": f"AIDA{name.upper():A<16}", "Policies": {"own": policy}}
        arn = f"arn:aws:iam::{ACCOUNT}:user/{name}"
        self.store.rows.insert(Row("iam:User", name, arn, ACCOUNT, document=document))
        row, secret = create_access_key(self.store, ACCOUNT, self.key, name)
        return {"access_key": row.name, "secret": secret}


@pytest.fixture
def house(tmp_path, monkeypatch):
    house = House(tmp_path)

    def counted(request, style):
        house.whole_checks += 1
        return parse_signature(request, style)

    monkeypatch.setattr(authenticate, "parse_signature", counted)
    yield house
    house.store.close()


def allow(resource=ARN, **extra):
    return {"Effect": "Allow", "Action": "sagemaker:*", "Resource": resource, **extra}


def test_only_the_first_request_of_a_client_goes_the_whole_way(house):
    for number in range(5):
        assert house.enter(house.request(b"%d" % number)).name == "admin"
    assert house.whole_checks == 1


def test_a_later_second_and_another_payload_are_verified_anew(house):
    house.enter()
    house.now += 61
    assert house.enter(house.request(b"other")).name == "admin"
    assert house.whole_checks == 1


def test_requests_of_a_known_shape_are_let_in_by_their_signature_alone(house):
    """A shape spares spelling the request, and nothing of the check."""
    options = house.user("ann", allow())
    heads = RequestHeads()
    kind = {"content-type": "text/csv; odd=50%s of %d"}

    def sent(body=b"1,2", forge=lambda data: data):
        request = house.request(body, **options, **kind)
        lines = "".join(f"{name}: {value}\r\n" for name, value in request.headers.items())
        text = f"POST {request.path} HTTP/1.1\r\n{lines}content-length: {len(body)}\r\n\r\n"
        head = heads.parse(forge(text.encode()))
        assert head is not None
        return Request("POST", head.path, "", head.headers, body, shape=head.shape)

    for number in range(3 * LEARNT_ONE_IN):
        assert house.enter(sent(b"%d,%d" % (number % 10, number % 7))).name == "ann"
    signed = sent()
    assert signed.shape is not None and signed.shape.notes
    assert house.whole_checks == 1
    assert house.refused(replace(signed, body=b"3,4")) == "InvalidSignatureException"
    digit = b"0" if signed.headers["authorization"][-1] != "0" else b"1"
    at = len(signed.headers["authorization"])
    forged = sent(
        forge=lambda data: data.replace(
            data[data.index(b"AWS4") :][:at], data[data.index(b"AWS4") :][: at - 1] + digit
        )
    )
    assert forged.shape is not None
    assert house.refused(forged) == "InvalidSignatureException"

    house.now += 16 * 60
    assert house.refused(signed) == "InvalidSignatureException"
    row = house.store.rows.get("iam:User", "ann", account=ACCOUNT)
    house.store.rows.delete(row)
    assert house.refused(sent()) != ""


@pytest.mark.parametrize(
    "change",
    [
        lambda request: replace(request, body=b"forged"),
        lambda request: replace(request, path="/endpoints/other/invocations"),
        lambda request: replace(request, method="PUT"),
        lambda request: replace(request, query="a=b"),
        lambda request: replace(request, headers={**request.headers, "host": "elsewhere"}),
        lambda request: replace(request, headers={**request.headers, "content-type": "x"}),
        lambda request: replace(
            request, headers={**request.headers, "x-amz-content-sha256": "0" * 64}
        ),
        lambda request: replace(
            request, headers={**request.headers, "x-amz-date": "20260101T000000Z"}
        ),
        lambda request: replace(
            request,
            headers={**request.headers, "authorization": request.headers["authorization"][:-1] + "g"},
        ),
        lambda request: replace(
            request,
            headers={**request.headers, "authorization": request.headers["authorization"][:-64]},
        ),
        lambda request: replace(
            request, headers={**request.headers, "authorization": "é"}
        ),
    ],
)  # fmt: skip
def test_a_known_client_s_changed_request_is_refused(house, change):
    house.enter()
    house.refused(change(house.request()))
    assert house.whole_checks == 2, "the whole check words the refusal"
    assert house.enter().name == "admin"


def test_a_request_that_is_too_old_is_refused_although_its_client_is_known(house):
    request = house.request()
    house.enter(request)
    house.now += 15 * 60 + 1
    assert house.refused(request) == "InvalidSignatureException"


def test_another_secret_is_refused(house):
    house.enter()
    assert house.refused(house.request(secret="wrong")) == "InvalidSignatureException"


def test_a_key_that_was_made_inactive_does_not_get_in_again(house):
    keys = house.user("ann", allow())
    house.enter(house.request(**keys))
    row = house.store.rows.get(KIND, keys["access_key"], account=ACCOUNT, parent="ann")
    row.status = "Inactive"
    house.store.rows.update(row)
    assert house.refused(house.request(**keys)) == "UnrecognizedClientException"


def test_a_changed_policy_takes_effect_at_once(house):
    keys = house.user("ann", allow())
    house.enter(house.request(**keys))
    row = house.store.rows.get("iam:User", "ann", account=ACCOUNT)
    row.document["Policies"]["own"] = json.dumps(
        {"Version": "2012-10-17", "Statement": [allow(ARN.replace("iris", "other"))]}
    )
    house.store.rows.update(row)
    assert house.refused(house.request(**keys)) == "AccessDeniedException"


def test_what_is_allowed_for_one_endpoint_is_not_for_another_action_or_endpoint(house):
    keys = house.user("ann", {**allow(), "Action": ACTION})
    house.enter(house.request(**keys))
    assert house.refused(house.request(**keys), resource=ARN + "2") == "AccessDeniedException"
    other = "sagemaker:InvokeEndpointAsync"
    assert house.refused(house.request(**keys), action=other) == "AccessDeniedException"
    assert house.enter(house.request(**keys)).name == "ann"


def test_a_policy_with_a_condition_is_asked_every_time(house):
    until = {"DateLessThan": {"aws:EpochTime": str(int(NOW) + 60)}}
    keys = house.user("ann", allow(Condition=until))
    house.enter(house.request(**keys))
    house.now += 120
    assert house.refused(house.request(**keys)) == "AccessDeniedException"


def test_a_session_ends_when_its_credentials_do(house):
    role = house.store.rows.get("iam:Role", "ClaryExecutionRole", account=ACCOUNT)
    principal = session_principal(ACCOUNT, role.arn, role.document["RoleId"], "work", issued=NOW)
    issued = issue(house.key, principal, 900, now=NOW)
    keys = {
        "access_key": issued["AccessKeyId"],
        "secret": issued["SecretAccessKey"],
        "token": issued["SessionToken"],
    }
    for _ in range(3):
        assert house.enter(house.request(**keys)).role_arn == role.arn
    assert house.whole_checks == 1
    # The same access key with another token is another client.
    forged = {**keys, "token": keys["token"][:-4] + "AAAA"}
    assert house.refused(house.request(**forged)) == "UnrecognizedClientException"
    house.now += 901
    assert house.refused(house.request(**keys)) == "ExpiredTokenException"


def test_unsigned_requests_are_refused(house):
    request = house.request()
    headers = {k: v for k, v in request.headers.items() if k != "authorization"}
    assert house.refused(replace(request, headers=headers)) == "MissingAuthenticationTokenException"
