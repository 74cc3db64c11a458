"""Condition operators, as IAM documents them."""

from __future__ import annotations

import time
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from clary.identity.conditions import parse_conditions
from clary.identity.patterns import Context, pattern_of


def holds(block: dict[str, Any], **keys: Any) -> bool:
    context = Context({name.replace("__", ":"): value for name, value in keys.items()})
    return all(one.holds(context) for one in parse_conditions(block, variables=True))


@pytest.mark.parametrize(
    ("operator", "wanted", "found", "expected"),
    [
        ("StringEquals", "a", "a", True),
        ("StringEquals", "a", "A", False),
        ("StringEquals", "a*", "ab", False),
        ("StringEquals", ["x", "a"], "a", True),
        ("StringEquals", "a", None, False),
        ("StringEquals", "${aws:username}", "ann", True),
        ("StringNotEquals", "a", "b", True),
        ("StringNotEquals", ["a", "b"], "b", False),
        ("StringNotEquals", "a", None, True),
        ("StringEqualsIgnoreCase", "AbC", "aBc", True),
        ("StringNotEqualsIgnoreCase", "AbC", "aBc", False),
        ("StringLike", "a*c?", "abbcd", True),
        ("StringLike", "a*c?", "abbc", False),
        ("StringLike", "home/${aws:username}/*", "home/ann/x", True),
        ("StringNotLike", "a*", "b", True),
        ("StringNotLike", "a*", "ab", False),
        ("StringEqualsIfExists", "a", None, True),
        ("StringEqualsIfExists", "a", "b", False),
        ("NumericEquals", "10", "10.0", True),
        ("NumericEquals", 10, 10, True),
        ("NumericNotEquals", "10", "11", True),
        ("NumericLessThan", "10", "9", True),
        ("NumericLessThan", "10", "10", False),
        ("NumericLessThanEquals", "10", "10", True),
        ("NumericGreaterThan", "10", "11", True),
        ("NumericGreaterThanEquals", "10", "9.99", False),
        ("NumericLessThanEquals", "10", "many", False),
        ("NumericLessThanEqualsIfExists", "10", None, True),
        ("DateGreaterThan", "2026-01-01T00:00:00Z", "2026-06-01T00:00:00Z", True),
        ("DateLessThan", "2026-01-01T00:00:00Z", "2026-06-01T00:00:00Z", False),
        ("DateEquals", "2026-01-01", "1767225600", True),
        ("DateGreaterThanEquals", "2026-01-01T01:00:00+01:00", "2026-01-01T00:00:00Z", True),
        ("DateNotEquals", "2026-01-01", "2026-01-02", True),
        ("DateLessThanEquals", "whenever", "2026-01-02", False),
        ("Bool", "true", True, True),
        ("Bool", "TRUE", "true", True),
        ("Bool", "false", "true", False),
        ("Bool", True, "true", True),
        ("Bool", "true", None, False),
        ("BoolIfExists", "true", None, True),
        ("BinaryEquals", "QmluYXJ5", "QmluYXJ5", True),
        ("BinaryEquals", "QmluYXJ5", "QmluYXJ6", False),
        ("IpAddress", "10.0.0.0/8", "10.1.2.3", True),
        ("IpAddress", "10.0.0.0/8", "11.1.2.3", False),
        ("IpAddress", "127.0.0.1", "127.0.0.1", True),
        ("IpAddress", ["10.0.0.0/8", "::1"], "::1", True),
        ("IpAddress", "10.0.0.0/8", "nonsense", False),
        ("NotIpAddress", "10.0.0.0/8", "11.1.2.3", True),
        ("NotIpAddress", "10.0.0.0/8", "10.1.2.3", False),
        ("ArnEquals", "arn:aws:s3:::b*", "arn:aws:s3:::bucket", True),
        ("ArnLike", "arn:aws:*:::b", "arn:aws:s3:::b", True),
        ("ArnLike", "arn:aws:*:b", "arn:aws:s3:::b", False),
        ("ArnLike", "arn:*:b", "arn:aws:s3:::b", False),
        ("ArnLike", "*", "arn:aws:s3:::b", True),
        ("ArnLike", "arn:aws:s3:::a:*:c", "arn:aws:s3:::a:b:c", True),
        ("ArnLike", "arn:aws:s3:::${aws:username}", "arn:aws:s3:::ann", True),
        ("ArnNotEquals", "arn:aws:s3:::b", "arn:aws:s3:::c", True),
        ("ArnNotLike", "arn:aws:s3:::b*", "arn:aws:s3:::bc", False),
        ("Null", "true", None, True),
        ("Null", "true", "x", False),
        ("Null", "false", "x", True),
        ("Null", False, None, False),
        ("stringequals", "a", "a", True),
    ],
)
def test_operators_compare_as_documented(
    operator: str, wanted: Any, found: Any, expected: bool
) -> None:
    block = {operator: {"Some:Key": wanted}}
    assert holds(block, some__KEY=found, aws__username="ann") is expected


@pytest.mark.parametrize(
    ("operator", "wanted", "found", "expected"),
    [
        ("ForAllValues:StringEquals", ["a", "b"], ["a"], True),
        ("ForAllValues:StringEquals", ["a", "b"], ["a", "c"], False),
        ("ForAllValues:StringEquals", ["a", "b"], None, True),
        ("ForAllValues:StringEquals", ["a", "b"], [], True),
        ("ForAnyValue:StringEquals", ["a", "b"], ["a", "c"], True),
        ("ForAnyValue:StringEquals", ["a", "b"], ["c"], False),
        ("ForAnyValue:StringEquals", ["a", "b"], None, False),
        ("ForAnyValue:StringLike", ["subnet-*"], ["x", "subnet-1"], True),
        ("ForAllValues:StringLike", ["ml.t3.*"], ["ml.t3.large", "ml.p4d.24xlarge"], False),
        ("ForAllValues:StringNotEquals", ["a"], ["b", "c"], True),
        ("ForAllValues:StringNotEquals", ["a"], ["a", "c"], False),
        ("ForAnyValue:StringNotEquals", ["a"], ["a", "c"], True),
        ("ForAnyValue:StringNotEquals", ["a"], ["a"], False),
        ("ForAnyValue:StringNotEquals", ["a"], None, False),
        ("StringEquals", "a", ["a", "c"], True),
        ("StringNotEquals", "a", ["a", "c"], False),
    ],
)
def test_sets_of_values_compare_as_documented(
    operator: str, wanted: Any, found: Any, expected: bool
) -> None:
    assert holds({operator: {"some:key": wanted}}, some__key=found) is expected


def test_all_operators_and_keys_must_hold() -> None:
    block = {"StringEquals": {"a:b": "1", "a:c": "2"}, "Bool": {"a:d": "true"}}
    assert holds(block, a__b="1", a__c="2", a__d=True)
    assert not holds(block, a__b="1", a__c="3", a__d=True)
    assert not holds(block, a__b="1", a__c="2", a__d=False)


@pytest.mark.parametrize(
    "block", [{"StringSounds": {"a": "b"}}, {"ForSome:Bool": {"a": "b"}}, {"Bool": "x"}, [], "x"]
)
def test_malformed_conditions_are_refused(block: Any) -> None:
    with pytest.raises(ValueError, match=r"Syntax errors|Invalid Condition type"):
        parse_conditions(block, variables=True)


def reference(pattern: str, value: str) -> bool:
    """The plain definition of a glob, cell by cell."""
    row = [True] + [False] * len(value)
    for sign in pattern:
        after = [row[0] and sign == "*"]
        for index, letter in enumerate(value):
            if sign == "*":
                after.append(after[-1] or row[index + 1])
            else:
                after.append(row[index] and sign in ("?", letter))
        row = after
    return row[-1]


@given(st.text("ab*?", max_size=8), st.text("ab\n", max_size=8))
@settings(max_examples=400, deadline=None)
def test_wildcards_match_by_their_plain_definition(pattern: str, value: str) -> None:
    assert pattern_of(pattern).matches(value, Context({})) is reference(pattern, value)


def test_a_hostile_pattern_costs_little() -> None:
    started = time.perf_counter()
    assert not pattern_of("*a" * 60 + "b").matches("a" * 4000, Context({}))
    assert time.perf_counter() - started < 0.5
