"""Temporary credentials and work tokens: all they say is sealed into them, nothing is stored.

A session token holds the claims of its principal, encrypted and bound to its access key id; the
secret is derived from that id. A work token tells the credentials endpoint which job asks.
"""

from __future__ import annotations

import base64
import binascii
import hmac
import secrets
import zlib
from dataclasses import asdict, dataclass
from functools import lru_cache
from typing import Any

import orjson

from clary.identity.principals import Principal
from clary.identity.sealing import SealBroken, derived_key, seal, unseal

TEMPORARY_PREFIX = "ASIA"
TOKEN_CHARACTERS_MAX = 32 * 1024
CLAIM_BYTES_MAX = 64 * 1024

_SESSION, _WORK = "session token", "work token"
_BASE32 = "ABCDEFGHIJKLMNOPQRSTUVWXYZ234567"


@dataclass(frozen=True, slots=True)
class Session:
    """What a session token says."""

    principal: Principal
    secret: str
    expires: float  # epoch seconds


@dataclass(frozen=True, slots=True)
class WorkClaims:
    """What a work token says: which work asks, and as which role (an ARN) or service (a name)."""

    acts_as: str
    work_arn: str
    expires: float


def new_access_key_id(prefix: str) -> str:
    return prefix + "".join(secrets.choice(_BASE32) for _ in range(16))


def new_unique_id(prefix: str) -> str:
    """An id as IAM makes them: AIDA... users, AROA... roles, AGPA... groups, ANPA... policies."""
    return prefix + "".join(secrets.choice(_BASE32) for _ in range(17))


def issue(
    install_key: bytes,
    principal: Principal,
    duration_seconds: float,
    *,
    now: float,
    session_policy: str = "",
) -> dict[str, Any]:
    """Credentials that act as `principal` for a while, as STS answers them.

    A `session_policy` is added to the one that `principal` may carry already only by the caller:
    here it replaces it.
    """
    access_key = new_access_key_id(TEMPORARY_PREFIX)
    expires = float(int(now + duration_seconds))
    claims = asdict(principal) | {"access_key": access_key, "issued": now}
    if session_policy:
        claims["session_policy"] = session_policy
    body = orjson.dumps({"principal": claims, "expires": expires})
    sealed = seal(install_key, _SESSION, zlib.compress(body), access_key.encode())
    return {
        "AccessKeyId": access_key,
        "SecretAccessKey": _secret(install_key, access_key),
        "SessionToken": _encode(sealed),
        "Expiration": expires,
    }


def _secret(install_key: bytes, access_key: str) -> str:
    """Forty characters that only the holder of the install key can derive from the access key
    id.
    """
    digest = hmac.digest(derived_key(install_key, "session secret"), access_key.encode(), "sha256")
    return base64.b64encode(digest[:30]).decode()


class Sessions:
    """Opens session tokens, remembering the latest ones; safe from many threads."""

    def __init__(self, install_key: bytes, size: int = 4096) -> None:
        self._key = install_key
        self.open = lru_cache(size)(self._open)

    def _open(self, access_key: str, token: str) -> Session:
        """The session of a token; raise SealBroken if it is not ours or of another access key.

        Whether it has expired is for the caller to see, who has the clock.
        """
        body = _decompress(unseal(self._key, _SESSION, _decode(token), access_key.encode()))
        held = orjson.loads(body)
        claims = held["principal"]
        claims["session_policy_arns"] = tuple(claims["session_policy_arns"])
        claims["session_tags"] = tuple((key, value) for key, value in claims["session_tags"])
        return Session(Principal(**claims), _secret(self._key, access_key), held["expires"])


def issue_work_token(install_key: bytes, acts_as: str, work_arn: str, expires: float) -> str:
    """A token by which a job fetches its credentials: of a role (its ARN) or of a service (its
    name).
    """
    claims = {"acts_as": acts_as, "work_arn": work_arn, "expires": expires}
    return _encode(seal(install_key, _WORK, orjson.dumps(claims)))


def open_work_token(install_key: bytes, token: str, *, now: float) -> WorkClaims:
    """What a work token says; raise SealBroken if it is not ours or has expired."""
    claims = WorkClaims(**orjson.loads(unseal(install_key, _WORK, _decode(token))))
    if now >= claims.expires:
        raise SealBroken("the work token has expired")
    return claims


def _encode(sealed: bytes) -> str:
    return base64.urlsafe_b64encode(sealed).decode().rstrip("=")


def _decode(token: str) -> bytes:
    if len(token) > TOKEN_CHARACTERS_MAX:
        raise SealBroken("the token is too long")
    try:
        padded = token.encode("ascii") + b"=" * (-len(token) % 4)
        return base64.b64decode(padded, altchars=b"-_", validate=True)
    except (binascii.Error, UnicodeEncodeError) as problem:
        raise SealBroken("the token is not base64") from problem


def _decompress(data: bytes) -> bytes:
    inflater = zlib.decompressobj()
    body = inflater.decompress(data, CLAIM_BYTES_MAX)
    if inflater.unconsumed_tail:
        raise SealBroken("the claims are too large")
    return body
