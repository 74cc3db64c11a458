"""Malformed policy documents are refused in IAM's words; good ones are accepted."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from clary.identity.managed_policies import aws_managed_policies
from clary.identity.policy_documents import PolicyKind, parse_policy
from clary.model.errors import ApiError

GOOD = {"Effect": "Allow", "Action": "s3:GetObject", "Resource": "arn:aws:s3:::b/*"}


def text_of(change: dict[str, Any], drop: str = "") -> str:
    statement = {name: value for name, value in (GOOD | change).items() if name != drop}
    return json.dumps({"Version": "2012-10-17", "Statement": [statement]})


@pytest.mark.parametrize(
    ("text", "kind", "said"),
    [
        ("nonsense", "identity", "invalid Json"),
        ("[" * 100_000, "identity", "invalid Json"),
        ("[]", "identity", "Syntax errors in policy."),
        ('{"Version": "2012-10-17"}', "identity", "Syntax errors in policy."),
        ('{"Statement": [], "Version": "2012-10-17"}', "identity", "Syntax errors in policy."),
        (json.dumps({"Version": "2020-01-01", "Statement": GOOD}), "identity", "2012-10-17 or"),
        (json.dumps({"Statement": GOOD, "Extra": 1}), "identity", "Syntax errors in policy."),
        (text_of({"Effect": "allow"}), "identity", "Syntax errors in policy."),
        (text_of({}, "Effect"), "identity", "Syntax errors in policy."),
        (text_of({"Typo": 1}), "identity", "Syntax errors in policy."),
        (text_of({}, "Action"), "identity", "Policy statement must contain actions."),
        (text_of({"Action": []}), "identity", "Policy statement must contain actions."),
        (text_of({"Action": "GetObject"}), "identity", "must be prefaced by a vendor"),
        (text_of({"NotAction": "s3:*"}), "identity", "Syntax errors in policy."),
        (text_of({}, "Resource"), "identity", "Policy statement must contain resources."),
        (text_of({"Resource": "bucket"}), "identity", 'Resource bucket must be in ARN format or "*".'),
        (text_of({"Resource": "arn:aws:s3"}), "identity", "failed legacy parsing"),
        (text_of({"Principal": "*"}), "identity", "should not specify a principal"),
        (text_of({"Sid": "not alphanumeric!"}), "identity", "must be alpha-numeric"),
        (text_of({"Condition": {"Near": {"a": "b"}}}), "identity", "Invalid Condition type : Near"),
        (text_of({}), "resource", "Missing required field Principal"),
        (text_of({"Principal": {"AWS": "bob"}}), "resource", 'Invalid principal in policy: "AWS":"bob"'),
        (text_of({"Principal": {"Service": "x"}}), "resource", 'principal in policy: "SERVICE":"x"'),
        (text_of({"Principal": "*", "Action": "sts:AssumeRole"}), "trust", "prohibited field Resource"),
        (text_of({"Principal": "*"}, "Resource"), "trust", "may only specify STS AssumeRole"),
        (text_of({"Action": "sts:AssumeRole"}, "Resource"), "trust", "required field Principal"),
    ],
)  # fmt: skip
def test_a_malformed_document_is_refused_by_name(text: str, kind: PolicyKind, said: str) -> None:
    with pytest.raises(ApiError) as caught:
        parse_policy(text, kind)
    assert (caught.value.code, caught.value.status) == ("MalformedPolicyDocument", 400)
    assert said in caught.value.message


def test_statement_ids_are_unique() -> None:
    twice = json.dumps({"Version": "2012-10-17", "Statement": [GOOD | {"Sid": "A"}] * 2})
    with pytest.raises(ApiError, match="must be unique"):
        parse_policy(twice)


@pytest.mark.parametrize(
    ("change", "drop", "kind"),
    [
        ({}, "", "identity"),
        ({"Sid": ""}, "", "identity"),
        ({"Resource": ["*", "arn:aws:s3:::${aws:username}/*"]}, "", "identity"),
        ({"Action": ["s3:*", "*"]}, "", "identity"),
        ({"Principal": "*", "Action": "sts:AssumeRole"}, "Resource", "trust"),
        (
            {
                "Principal": {"Service": ["sagemaker.amazonaws.com", "lambda.amazonaws.com"]},
                "Action": ["sts:AssumeRole", "sts:TagSession"],
            },
            "Resource",
            "trust",
        ),
        (
            {"Principal": {"AWS": ["123456789012", "arn:aws:iam::123456789012:root"]}},
            "",
            "resource",
        ),
        ({"Sid": "a bucket's may have signs!", "Principal": "*"}, "", "resource"),
    ],
)
def test_a_good_document_is_accepted(change: Any, drop: str, kind: PolicyKind) -> None:
    assert len(parse_policy(text_of(change, drop), kind).statements) == 1


def test_a_single_statement_needs_no_list() -> None:
    assert len(parse_policy(json.dumps({"Statement": GOOD})).statements) == 1


def test_every_managed_policy_is_well_formed() -> None:
    policies = aws_managed_policies()
    for text in policies.values():
        assert parse_policy(text).statements
    assert "arn:aws:iam::aws:policy/AmazonSageMakerFullAccess" in policies
    assert "arn:aws:iam::aws:policy/service-role/AWSLambdaBasicExecutionRole" in policies


MEMBERS = [
    "Version",
    "Statement",
    "Effect",
    "Action",
    "Resource",
    "Principal",
    "Condition",
    "AWS",
    "Bool",
]
json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=8),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(MEMBERS),
            inner,
            max_size=4,
        )
    ),
    max_leaves=12,
)


@given(json_values)
@settings(max_examples=200, deadline=None)
def test_any_json_is_accepted_or_refused_without_a_defect(value: Any) -> None:
    for document in (value, {"Version": "2012-10-17", "Statement": value}):
        for kind in ("identity", "resource", "trust"):
            try:
                parse_policy(json.dumps(document), kind)
            except ApiError as refused:
                assert refused.code == "MalformedPolicyDocument"
