"""What the door does in the name of an endpoint's role."""

from __future__ import annotations

import json
import time
from dataclasses import replace

import pytest

from clary.dataplane.endpoint_roles import EndpointRoles
from clary.identity import first_start
from clary.identity.authorise import Authoriser
from clary.identity.sealing import install_key
from clary.identity.sessions import Sessions
from clary.model.errors import AccessDeniedException
from clary.settings import Settings
from clary.store.database import Store
from clary.store.rows import Row

ACCOUNT = "123456789012"
READER = f"arn:aws:iam::{ACCOUNT}:role/Reader"
WORK = f"arn:aws:sagemaker:us-east-1:{ACCOUNT}:endpoint/later"


@pytest.fixture
def roles(tmp_path):
    settings = replace(Settings.load({}), home=tmp_path)
    store = Store.open(f"sqlite:///{tmp_path / 'clary.db'}")
    first_start.prepare(store, settings, time.time)
    statement = {"Effect": "Allow", "Action": "s3:GetObject", "Resource": "arn:aws:s3:::mine/*"}
    policy = json.dumps({"Version": "2012-10-17", "Statement": [statement]})
    document = {
        "RoleId": "AROAREADER", "Policies": {"own": policy}, "AssumeRolePolicyDocument": "{}",
    }  # fmt: skip
    store.rows.insert(Row("iam:Role", "Reader", READER, ACCOUNT, document=document))
    key = install_key(tmp_path)
    authoriser = Authoriser(store, settings, time.time)
    yield EndpointRoles(store, ACCOUNT, key, authoriser, time.time), Sessions(key)
    store.close()


def test_a_role_may_do_what_its_policies_say(roles):
    roles, _ = roles
    assert roles.permits(READER, "s3:GetObject", "arn:aws:s3:::mine/a")
    assert not roles.permits(READER, "s3:PutObject", "arn:aws:s3:::mine/a")
    assert not roles.permits(READER, "s3:GetObject", "arn:aws:s3:::other/a")


def test_a_role_that_is_gone_may_do_nothing(roles):
    roles, _ = roles
    gone = READER + "Gone"
    assert not roles.permits(gone, "s3:GetObject", "arn:aws:s3:::mine/a")
    with pytest.raises(AccessDeniedException):
        roles.credentials(gone, WORK)


def test_credentials_are_a_session_of_the_role(roles):
    roles, sessions = roles
    issued = roles.credentials(READER, WORK)
    session = sessions.open(issued["AccessKeyId"], issued["Token"])
    assert session.principal.role_arn == READER
    assert session.secret == issued["SecretAccessKey"]
