"""The signatures of browser uploads to S3: a form whose policy document is signed, old style or
new.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
from collections.abc import Mapping
from dataclasses import dataclass

from clary.model.errors import ApiError
from clary.wire.signature_errors import refusal
from clary.wire.sigv4 import ALGORITHM, Scope, SigningKeys, mismatch, scope_of


@dataclass(frozen=True, slots=True)
class SignedForm:
    scope: Scope  # its date is empty where the form is signed in the old way
    policy: str  # base64, as sent
    signature: str
    token: str


def parse_form(fields: Mapping[str, str]) -> SignedForm:
    """The signature of a form with lower-case field names; raise S3's error if it has none."""
    policy = fields.get("policy", "")
    token = fields.get("x-amz-security-token", "")
    if policy and fields.get("x-amz-signature"):
        if fields.get("x-amz-algorithm") != ALGORITHM:
            message = 'X-Amz-Algorithm only supports "AWS4-HMAC-SHA256"'
            raise refusal("incomplete_query", "s3", message)
        scope = scope_of(fields.get("x-amz-credential", ""))
        if scope is None:
            message = "Error parsing the X-Amz-Credential parameter; the Credential is mal-formed."
            raise refusal("incomplete_query", "s3", message)
        return SignedForm(scope, policy, fields["x-amz-signature"], token)
    if policy and fields.get("awsaccesskeyid") and fields.get("signature"):
        scope = Scope(fields["awsaccesskeyid"], "", "", "s3")
        return SignedForm(scope, policy, fields["signature"], token)
    if policy:
        message = "Bucket POST must contain a field named 'x-amz-signature' or 'signature'."
        raise ApiError(message, code="InvalidArgument", status=400)
    raise refusal("missing", "s3", "Access Denied")


def verify_form(form: SignedForm, secret: str, keys: SigningKeys) -> None:
    """Raise SignatureDoesNotMatch unless the policy was signed with this secret."""
    policy = form.policy.encode()
    if form.scope.date:
        scope = form.scope
        key = keys.derive(secret, scope.date, scope.region, scope.service)
        expected = hmac.digest(key, policy, "sha256").hex()
    else:
        expected = base64.b64encode(hmac.digest(secret.encode(), policy, hashlib.sha1)).decode()
    if not hmac.compare_digest(expected.encode(), form.signature.encode()):
        raise mismatch("s3")
