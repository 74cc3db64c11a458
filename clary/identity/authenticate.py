"""From a signed request to its verified caller."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from math import inf

from clary.identity.access_keys import ACTIVE, AccessKeys
from clary.identity.known_callers import KnownCaller, KnownCallers
from clary.identity.principals import Principal
from clary.identity.sealing import SealBroken
from clary.identity.sessions import TEMPORARY_PREFIX, Sessions
from clary.model.errors import ApiError
from clary.settings import Settings
from clary.store.database import Store
from clary.wire.chunked import ChunkSigner
from clary.wire.http import Request
from clary.wire.post_policies import parse_form, verify_form
from clary.wire.signature_errors import Style, refusal, style_of
from clary.wire.sigv2 import (
    check_old_expiry,
    is_old_presigned,
    parse_old_signature,
    verify_old,
)
from clary.wire.sigv4 import (
    UNSIGNED_PAYLOAD,
    Scope,
    Signature,
    SigningKeys,
    check_body,
    check_signature_time,
    check_signed_headers,
    credential_scope,
    parse_signature,
    verify,
)

_INVALID_TOKEN = "The security token included in the request is invalid."
_INVALID_KEY_S3 = "The AWS Access Key Id you provided does not exist in our records."


@dataclass(frozen=True, slots=True)
class Caller:
    """A verified caller and how the request was signed; `payload` says how its body is to be
    read.
    """

    principal: Principal
    scope: Scope
    payload: str
    signer: ChunkSigner | None = None  # only where the body is made of signed chunks
    style: Style = "json"


class Authenticator:
    """Verifies requests; one per process, used by many threads or by an event loop (it never waits
    but for a local database read after IAM changed)."""

    def __init__(
        self,
        store: Store,
        settings: Settings,
        install_key: bytes,
        clock: Callable[[], float],
        *,
        records_use: bool = False,
    ) -> None:
        """`records_use` lets GetAccessKeyLastUsed know; only a process that may write wants it."""
        self._store = store
        self._keys = AccessKeys(store, settings.account, install_key)
        self._known = KnownCallers(store)
        self._sessions = Sessions(install_key)
        self._signing_keys = SigningKeys()
        self._clock = clock
        self._records_use = records_use

    def authenticate(
        self, request: Request, *, check_body: bool = True, style: Style | None = None
    ) -> Caller:
        """The caller of a request, or the error in the words of its service.

        `check_body=False` is for bodies that are streamed: whoever reads them passes them through
        `clary.wire.chunked.body_of(caller.payload, ..., caller.signer)`. It has an effect only
        where the signer declared a payload hash, which S3 clients do.
        `style` may be left out for signed requests other than anonymous ones to S3.
        """
        now = self._clock()
        known = self._known.recognise(request, now, check_body=check_body)
        if known is not None:
            return self._recognised(known, request, now, style)
        if is_old_presigned(request):
            return self._authenticate_old(request)
        generation = self._store.rows.generation("iam")
        scope = credential_scope(request)
        style = style or style_of(request, scope.service if scope else "")
        signature = parse_signature(request, style)
        principal, secret, expires = self._principal(
            signature.scope.access_key, signature.token, now, style
        )
        check_signature_time(signature, now, style)
        check_signed_headers(request, signature, style)
        verify(request, signature, secret, self._signing_keys, style)
        if check_body:
            _check_body(request, signature, style)
        if self._records_use:
            self._keys.record_use(signature.scope, now)
        scope = signature.scope
        key = self._signing_keys.derive(secret, scope.date, scope.region, scope.service)
        if not signature.presigned:
            self._known.remember(request, signature, principal, key, expires, generation)
        signer = _chunk_signer(signature.payload, key, scope, signature.time, signature.signature)
        return Caller(principal, scope, signature.payload, signer, style)

    def principal(self, request: Request) -> Principal:
        """Who sends a request whose body is there, for those who need to know nothing else of it."""
        if not self._records_use:
            known = self._known.recognise(request, self._clock(), check_body=True)
            if known is not None:
                return known.principal
        return self.authenticate(request).principal

    def _recognised(
        self, known: KnownCaller, request: Request, now: float, style: Style | None
    ) -> Caller:
        if self._records_use:
            self._keys.record_use(known.scope, now)
        headers = request.headers
        payload = headers.get("x-amz-content-sha256", "")
        style = style or style_of(request, known.scope.service)
        if not payload.startswith("STREAMING-AWS4"):
            return Caller(known.principal, known.scope, payload, None, style)
        signature = headers["authorization"].rpartition("Signature=")[2]
        signer = ChunkSigner(known.key, known.scope, headers["x-amz-date"], signature)
        return Caller(known.principal, known.scope, payload, signer, style)

    def authenticate_form(self, fields: Mapping[str, str]) -> Caller:
        """The caller who signed the policy of a browser's POST upload to S3.

        `fields` have lower-case names. Only the signature is verified here: expiry and conditions
        of the policy document are the object store's to check.
        """
        form = parse_form(fields)
        now = self._clock()
        principal, secret, _ = self._principal(form.scope.access_key, form.token, now, "s3")
        verify_form(form, secret, self._signing_keys)
        return Caller(principal, form.scope, UNSIGNED_PAYLOAD, None, "s3")

    def _authenticate_old(self, request: Request) -> Caller:
        signature = parse_old_signature(request)
        now = self._clock()
        principal, secret, _ = self._principal(signature.access_key, signature.token, now, "s3")
        check_old_expiry(signature, now)
        verify_old(request, signature, secret)
        scope = Scope(signature.access_key, "", "", "s3")
        return Caller(principal, scope, UNSIGNED_PAYLOAD, None, "s3")

    def _principal(
        self, access_key: str, token: str, now: float, style: Style
    ) -> tuple[Principal, str, float]:
        """The principal and the secret behind an access key, and when they end."""
        if access_key.startswith(TEMPORARY_PREFIX) and token:
            return self._session(access_key, token, now, style)
        held = self._keys.find(access_key)
        if held is None or held.status != ACTIVE:
            raise _unknown_key(style, access_key)
        if token:
            raise refusal("invalid_token", style, _invalid_token(style))
        return held.principal, held.secret, inf

    def _session(
        self, access_key: str, token: str, now: float, style: Style
    ) -> tuple[Principal, str, float]:
        try:
            session = self._sessions.open(access_key, token)
        except SealBroken as problem:
            raise refusal("invalid_token", style, _invalid_token(style)) from problem
        if now >= session.expires:
            message = "The security token included in the request is expired"
            if style == "s3":
                message = "The provided token has expired."
            raise refusal("expired_token", style, message)
        return session.principal, session.secret, session.expires


def _chunk_signer(
    payload: str, key: bytes, scope: Scope, time: str, signature: str
) -> ChunkSigner | None:
    if not payload.startswith("STREAMING-AWS4"):
        return None
    return ChunkSigner(key, scope, time, signature)


def _check_body(request: Request, signature: Signature, style: Style) -> None:
    check_body(request.body, signature, style)


def _unknown_key(style: Style, access_key: str) -> ApiError:
    if style == "s3":
        return refusal("unknown_key", style, _INVALID_KEY_S3, AWSAccessKeyId=access_key)
    return refusal("unknown_key", style, _INVALID_TOKEN)


def _invalid_token(style: Style) -> str:
    if style == "s3":
        return "The provided token is malformed or otherwise invalid."
    return _INVALID_TOKEN
