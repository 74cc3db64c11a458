"""Identifiers of requests and events: unique, but no secrets."""

from __future__ import annotations

import random


def unique_id() -> str:
    """A version 4 UUID, without the system call that true entropy costs."""
    digits = f"{random.getrandbits(128):032x}"
    return f"{digits[:8]}-{digits[8:12]}-4{digits[13:16]}-a{digits[17:20]}-{digits[20:]}"
