"""References to S3 objects are read in every spelling that clients use."""

from __future__ import annotations

import pytest

from clary.model.errors import ValidationException
from clary.model.s3_uris import join_s3_uri, parse_s3_uri


@pytest.mark.parametrize(
    ("text", "place"),
    [
        ("s3://bucket", ("bucket", "")),
        ("s3://bucket/", ("bucket", "")),
        ("s3://bucket/a//b/", ("bucket", "a//b/")),
        ("s3://bucket/a%20b", ("bucket", "a%20b")),
        ("https://s3.amazonaws.com/bucket/key", ("bucket", "key")),
        ("https://s3-eu-west-1.amazonaws.com/bucket/a/b", ("bucket", "a/b")),
        ("https://s3.eu-west-1.amazonaws.com/bucket/a%20b", ("bucket", "a b")),
        ("https://bucket.s3.amazonaws.com/key", ("bucket", "key")),
        ("https://bucket.with.dots.s3-us-west-2.amazonaws.com/a/b", ("bucket.with.dots", "a/b")),
        ("https://bucket.s3.cn-north-1.amazonaws.com.cn/key", ("bucket", "key")),
        ("https://bucket.s3.us-east-1.amazonaws.com", ("bucket", "")),
    ],
)
def test_every_spelling_is_read(text: str, place: tuple[str, str]) -> None:
    assert parse_s3_uri(text) == place


@pytest.mark.parametrize("text", ["", "s3://", "s3:///key", "bucket/key", "https://example.com/a"])
def test_anything_else_is_refused_in_the_words_that_clients_match(text: str) -> None:
    with pytest.raises(ValidationException, match="Invalid S3Uri provided"):
        parse_s3_uri(text)


def test_names_are_joined_with_one_slash_and_inner_slashes_stay() -> None:
    assert join_s3_uri("s3://b/out/", "job", "/output") == "s3://b/out/job/output"
    assert join_s3_uri("s3://b", "a//b") == "s3://b/a//b"
