"""Identifiers of requests and events: unique, but no secrets."""

from __future__ import annotations

import random
from itertools import count


def unique_id() -> str:
    """A version 4 UUID, without the system call that true entropy costs."""
    digits = f"{random.getrandbits(128):032x}"
    return f"{digits[:8]}-{digits[8:12]}-4{digits[13:16]}-a{digits[17:20]}-{digits[20:]}"


class IdSeries:
    """Identifiers of the form of random UUIDs; those of a series differ in their last digits."""

    def __init__(self) -> None:
        self._start = unique_id()[:24].encode()
        self._numbers = count(random.getrandbits(40))

    def next(self) -> bytes:
        return b"%b%012x" % (self._start, next(self._numbers))
