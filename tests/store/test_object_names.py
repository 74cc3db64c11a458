import os

from hypothesis import example, given
from hypothesis import strategies as st

from clary.store.object_names import is_bucket_name, is_key, path_of_key, segment_of_name

segments = st.one_of(
    st.sampled_from(
        ["", ".", "..", "%", "%25", "%_", "%file", "%more", "%v", "x%file", "%2E", "a b"]
    ),
    st.text(st.characters(exclude_categories=["Cs"]), max_size=40),
    st.text("ab%2é😀", min_size=150, max_size=300),
)
keys = st.lists(segments, min_size=1, max_size=5).map("/".join).filter(is_key)


@given(keys)
@example("../../etc/passwd")
@example("a/../../b")
@example("/")
@example("nul\0")
def test_no_key_leaves_its_bucket_or_exceeds_a_file_name(key: str) -> None:
    path = path_of_key(key)
    assert not path.startswith("/")
    for name in path.split("/"):
        assert name not in ("", ".", "..")
        assert "\0" not in name
        assert len(os.fsencode(name)) <= 250


@given(keys, keys)
@example("%", "%25")
@example("x%file", "x%25file")
@example("", "%_")
@example("z" * 241, "z" * 200 + "%more")
def test_two_keys_never_share_a_path(first: str, second: str) -> None:
    assert (path_of_key(first or "/") == path_of_key(second or "/")) == (
        (first or "/") == (second or "/")
    )


@given(
    st.text(st.characters(exclude_categories=["Cs"]), max_size=40).filter(lambda s: "/" not in s)
)
def test_a_short_segment_can_be_read_back_from_its_file_name(segment: str) -> None:
    assert segment_of_name(path_of_key("a/" + segment).removeprefix("a/")) == segment


def test_ordinary_names_are_stored_as_they_are() -> None:
    for key in ("data/train.csv", "a b/c+d", "100%/x%20y", ".hidden", "été/ñ", "x..y/...z"):
        assert path_of_key(key) == key


def test_bucket_names_follow_the_rules_of_s3() -> None:
    for name in ("abc", "sagemaker-us-east-1-123456789012", "a.b-c.d"):
        assert is_bucket_name(name)
    for name in (
        "ab",
        "A" * 5,
        "a..b",
        "-abc",
        "abc-",
        "a_b",
        "10.0.0.1",
        "x" * 64,
        "xn--abc",
        "..",
        ".clary",
        "a/b",
    ):
        assert not is_bucket_name(name)
