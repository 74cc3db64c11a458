"""Signature Version 4 in the Authorization header, for S3 and for the JSON services."""

from __future__ import annotations

import hashlib
import hmac
import time
from collections.abc import Iterable, Mapping
from typing import NamedTuple

UNSIGNED = "UNSIGNED-PAYLOAD"
_PLAIN = frozenset(b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_.~")
_ESCAPES = tuple(chr(byte) if byte in _PLAIN else f"%{byte:02X}" for byte in range(256))
_PATH_ESCAPES = tuple("/" if byte == 0x2F else text for byte, text in enumerate(_ESCAPES))


class Credentials(NamedTuple):
    access_key: str
    secret_key: str
    token: str
    expires: float  # seconds since the epoch; infinity when they do not expire

    def __repr__(self) -> str:
        return f"Credentials({self.access_key!r})"


def encode_path(text: str) -> str:
    """A path as S3 signs it: every byte but the unreserved ones and `/` is escaped, once."""
    return "".join([_PATH_ESCAPES[byte] for byte in text.encode("utf-8")])


def encode_query(pairs: Iterable[tuple[str, str]]) -> str:
    """A query string in the sorted form that is signed, so that it is sent in that form too."""
    encoded = sorted((_encode(name), _encode(value)) for name, value in pairs)
    return "&".join([f"{name}={value}" for name, value in encoded])


def _encode(text: str) -> str:
    return "".join([_ESCAPES[byte] for byte in text.encode("utf-8")])


def payload_hash(body: bytes) -> str:
    return hashlib.sha256(body).hexdigest()


class Signer:
    """Signs requests of one service in one region; the derived key is kept for the day."""

    def __init__(self, region: str, service: str) -> None:
        self._region = region
        self._service = service
        self._key: tuple[str, str, bytes] = ("", "", b"")

    def sign(
        self,
        credentials: Credentials,
        method: str,
        path: str,
        query: str,
        headers: Mapping[str, str],
        *,
        content_hash: str,
        at: float | None = None,
    ) -> dict[str, str]:
        """The headers to send; `headers` holds `host`, and every `x-amz-` header is signed."""
        stamp = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime(at))
        sent = dict(headers)
        sent["x-amz-date"] = stamp
        sent["x-amz-content-sha256"] = content_hash
        if credentials.token:
            sent["x-amz-security-token"] = credentials.token
        signed = sorted(name for name in sent if name == "host" or name.startswith("x-amz-"))
        listed = ";".join(signed)
        canonical = "\n".join(
            [
                method,
                path,
                query,
                *[f"{name}:{' '.join(sent[name].split())}" for name in signed],
                "",
                listed,
                content_hash,
            ]
        )
        scope = f"{stamp[:8]}/{self._region}/{self._service}/aws4_request"
        digest = hashlib.sha256(canonical.encode("utf-8")).hexdigest()
        text = f"AWS4-HMAC-SHA256\n{stamp}\n{scope}\n{digest}"
        key = self._derived(credentials.secret_key, stamp[:8])
        signature = hmac.new(key, text.encode("utf-8"), "sha256").hexdigest()
        sent["authorization"] = (
            f"AWS4-HMAC-SHA256 Credential={credentials.access_key}/{scope}, "
            f"SignedHeaders={listed}, Signature={signature}"
        )
        return sent

    def _derived(self, secret: str, day: str) -> bytes:
        held = self._key
        if held[:2] == (secret, day):
            return held[2]
        key = ("AWS4" + secret).encode("utf-8")
        for part in (day, self._region, self._service, "aws4_request"):
            key = hmac.new(key, part.encode("utf-8"), "sha256").digest()
        self._key = (secret, day, key)
        return key
