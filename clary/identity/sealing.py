"""Authenticated encryption under the key of this installation, for what leaves us or rests on disk.

The key is made at first use and never leaves `install.key`; every purpose derives one of its own,
so that a session token cannot pass for a work token.
"""

from __future__ import annotations

import os
import secrets
from functools import lru_cache
from pathlib import Path

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

KEY_BYTES = 32
NONCE_BYTES = 12


class SealBroken(Exception):
    """The text was not sealed by this installation for this purpose, or was changed."""


def install_key(home: Path) -> bytes:
    """The key of the installation, made at first use; of several makers at once the first wins."""
    path = home / "install.key"
    try:
        return _read_key(path)
    except FileNotFoundError:
        home.mkdir(parents=True, exist_ok=True)
    draft = home / f".install.key.{os.getpid()}.{secrets.token_hex(4)}"
    descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(secrets.token_bytes(KEY_BYTES))
            file.flush()
            os.fsync(file.fileno())
        # A hard link never replaces a key that somebody else made meanwhile; a rename would.
        os.link(draft, path)
    except FileExistsError:
        pass
    finally:
        draft.unlink(missing_ok=True)
    return _read_key(path)


def _read_key(path: Path) -> bytes:
    key = path.read_bytes()
    if len(key) != KEY_BYTES:
        raise ValueError(
            f"{path} does not hold a key of {KEY_BYTES} bytes; restore it from a backup"
        )
    return key


@lru_cache(64)
def derived_key(key: bytes, purpose: str) -> bytes:
    return HKDF(SHA256(), KEY_BYTES, salt=None, info=f"clary {purpose}".encode()).derive(key)


def seal(key: bytes, purpose: str, text: bytes, bound_to: bytes = b"") -> bytes:
    """Encrypt; only `unseal` with the same key, purpose and binding reads it."""
    nonce = secrets.token_bytes(NONCE_BYTES)
    return nonce + AESGCM(derived_key(key, purpose)).encrypt(nonce, text, bound_to)


def unseal(key: bytes, purpose: str, sealed: bytes, bound_to: bytes = b"") -> bytes:
    nonce, encrypted = sealed[:NONCE_BYTES], sealed[NONCE_BYTES:]
    try:
        return AESGCM(derived_key(key, purpose)).decrypt(nonce, encrypted, bound_to)
    except (InvalidTag, ValueError) as problem:
        raise SealBroken(purpose) from problem
