"""CBOR: known encodings of RFC 8949, indefinite lengths, and bounds."""

from __future__ import annotations

import math
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from clary.wire.cbor import dumps, loads
from clary.wire.coerce import Malformed

LEAVES = (
    st.none()
    | st.booleans()
    | st.integers(-(2**64), 2**64 - 1)
    | st.floats(allow_nan=False)
    | st.text()
    | st.binary()
)
TREES = st.recursive(
    LEAVES, lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner), max_leaves=20
)


@given(TREES)
@settings(max_examples=150, deadline=None)
def test_what_is_encoded_is_decoded(tree: Any) -> None:
    assert loads(dumps(tree)) == tree


@given(st.binary(max_size=60))
@settings(max_examples=300, deadline=None)
def test_arbitrary_bytes_are_a_value_or_malformed(data: bytes) -> None:
    try:
        loads(data)
    except Malformed:
        return


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1903e8", 1000),
        ("3903e7", -1000),
        ("1bffffffffffffffff", 2**64 - 1),
        ("f93c00", 1.0),
        ("fa47c35000", 100000.0),
        ("fb3ff199999999999a", 1.1),
        ("f97c00", math.inf),
        ("6449455446", "IETF"),
        ("4401020304", b"\x01\x02\x03\x04"),
        ("9f018202039f0405ffff", [1, [2, 3], [4, 5]]),
        ("bf6346756ef563416d7421ff", {"Fun": True, "Amt": -2}),
        ("7f657374726561646d696e67ff", "streaming"),
        ("5f42010243030405ff", b"\x01\x02\x03\x04\x05"),
        ("c11a514b67b0", datetime(2013, 3, 21, 20, 4, tzinfo=UTC)),
        ("c1fb41d452d9ec200000", datetime(2013, 3, 21, 20, 4, 0, 500_000, UTC)),
        ("f7", None),
    ],
)
def test_the_examples_of_the_rfc_are_read(text: str, value: Any) -> None:
    assert loads(bytes.fromhex(text)) == value


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\x00\x00",
        b"\x81" * 200 + b"\x00",
        b"\x9f" * 200,
        b"\x9b\xff\xff\xff\xff\xff\xff\xff\xff",
        b"\xbb\x7f\xff\xff\xff\xff\xff\xff\xff",
        b"\x5b\x7f\xff\xff\xff\xff\xff\xff\xff",
        b"\x7f\x41a\xff",
        b"\x61\xff",
        b"\xa1\x01\x02",
        b"\xc2\x41\x01",
        b"\xc1\x61a",
        b"\xc1\xfb\x7f\xf0\x00\x00\x00\x00\x00\x00",
        b"\x1c",
        b"\xff",
        b"\xf8\x20",
    ],
)
def test_what_is_not_one_bounded_item_is_malformed(data: bytes) -> None:
    with pytest.raises(Malformed):
        loads(data)


def test_a_value_without_a_form_is_a_defect() -> None:
    for value in (object(), 2**64, {1, 2}):
        with pytest.raises(ValueError):
            dumps(value)
