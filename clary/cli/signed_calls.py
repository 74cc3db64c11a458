"""Calls that the command line signs itself: the SDKs take half a second to import, these take none."""

from __future__ import annotations

import http.client
import time
import xml.etree.ElementTree as ElementTree
from urllib.parse import urlencode, urlsplit

from clary.cli.installation import Installation, Keys
from clary.cli.output import Problem
from clary.wire.http import Request
from clary.wire.sigv4 import sign

EXECUTION_ROLE = "ClaryExecutionRole"
SESSION_NAME = "clary-env"
SESSION_SECONDS = 12 * 3600
CALL_SECONDS = 30.0


def execution_role_arn(account: str) -> str:
    return f"arn:aws:iam::{account}:role/{EXECUTION_ROLE}"


def role_session(installation: Installation) -> Keys:
    """Temporary keys of the execution role, so that `get_execution_role()` works as in a notebook."""
    fields = {
        "Action": "AssumeRole",
        "Version": "2011-06-15",
        "RoleArn": execution_role_arn(installation.settings.account),
        "RoleSessionName": SESSION_NAME,
        "DurationSeconds": str(SESSION_SECONDS),
    }
    status, body = _post(installation, "sts", urlencode(fields).encode())
    try:
        found = {
            element.tag.rpartition("}")[2]: element.text or ""
            for element in ElementTree.fromstring(body).iter()
        }
    except ElementTree.ParseError:
        found = {}
    if status == 200 and "SessionToken" in found:
        return Keys(found["AccessKeyId"], found["SecretAccessKey"], found["SessionToken"])
    raise Problem(
        f"Clary did not give a session of {EXECUTION_ROLE}: "
        f"{found.get('Message') or f'status {status}'}",
        "Use the administrator's key instead: clary env --admin",
    )


def _post(installation: Installation, service: str, body: bytes) -> tuple[int, bytes]:
    address = urlsplit(installation.url)
    headers = {
        "host": address.netloc,
        "content-type": "application/x-www-form-urlencoded; charset=utf-8",
    }
    keys = installation.administrator()
    request = Request("POST", "/", "", headers, body)
    signature = sign(
        request,
        access_key=keys.access_key,
        secret=keys.secret,
        region=installation.settings.region,
        service=service,
        now=time.time(),
        token=keys.token,
    )
    connection = http.client.HTTPConnection(
        address.hostname or "127.0.0.1", address.port, timeout=CALL_SECONDS
    )
    try:
        connection.request("POST", "/", body, {**headers, **signature})
        answer = connection.getresponse()
        return answer.status, answer.read()
    except (OSError, http.client.HTTPException) as problem:
        raise Problem(
            f"Clary does not answer at {installation.url}: {problem}", "Start it: clary up"
        ) from problem
    finally:
        connection.close()
