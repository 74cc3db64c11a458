"""Every pattern of the model can be said in Python, and means there what it means to the service."""

from __future__ import annotations

import re
import time

import pytest

from clary.model.patterns import _TAMED, compile_pattern
from clary.model.service import Services

SERVICES = ("sagemaker", "sagemaker-runtime", "iam", "sts", "logs", "cloudwatch", "ecr", "lambda")
HOSTILE = ("a", "-", "a-", "/", "a/", "aa:", "0", ".", "a.", "https://a", "x_", "A1-", " ", "a*")


@pytest.mark.parametrize("name", SERVICES)
def test_every_pattern_of_a_service_compiles(name: str) -> None:
    model = Services().get(name)
    assert model is not None
    patterns = {model.shape_for(one).metadata.get("pattern") for one in model.shape_names}
    assert [one for one in patterns if one and compile_pattern(one) is None] == []


@pytest.mark.parametrize(
    ("pattern", "fits", "fails"),
    [
        (r"[\p{L}\p{M}\p{Z}\p{N}\p{P}]*", "Größe 3: ok!", "a+b"),
        (r"^([\p{L}\p{Z}\p{N}_.:/=+\-@]*)$", "team/a=b +c@d", "a,b"),
        (r"\p{Alnum}+", "aZ9", "a-b"),
        (r"[\p{Print}]*", "a b~", "a\nb"),
        (r"[a-zA-Z0-9](-*[a-zA-Z0-9]){0,62}", "a--b", "-a"),
        (r"s3://([^/]+)/?(.*)", "s3://bucket/key", "http://bucket"),
        (r".*", "one line", "two\nlines"),
        (r"[\S\s]*", "two\nlines", None),
        (r"a\z", "a", "a\n"),
        (r"[\u0020-\uD7FF\uE000-\uFFFD\uD800\uDC00-\uDBFF\uDFFF\t]*", "a\t😀", "a\n"),
        (r"([\p{L}_]*)${1,128}", "key", "a key"),
        (r"[\w-_]*", "a-b_c", "a b"),
        (r"[\w-]+", "a-b", "a b"),
        (r"[\p{S}]", "€", "a"),
        (r"[\w.-]+", "a.b", "é"),
        (r"\d+", "12", "١٢"),
    ],
)
def test_a_pattern_matches_the_whole_value(pattern: str, fits: str, fails: str | None) -> None:
    compiled = compile_pattern(pattern)
    assert compiled is not None
    assert compiled.fullmatch(fits)
    assert fails is None or not compiled.fullmatch(fails)


def test_what_python_cannot_say_is_left_to_the_service() -> None:
    assert compile_pattern("[a-z") is None
    assert isinstance(compile_pattern("[a-z]"), re.Pattern)


@pytest.mark.parametrize("name", SERVICES)
def test_no_pattern_takes_for_ever_over_a_hostile_value(name: str) -> None:
    model = Services().get(name)
    assert model is not None
    patterns = {model.shape_for(one).metadata.get("pattern") for one in model.shape_names}
    began = time.process_time()
    for pattern in patterns - {None}:
        compiled = compile_pattern(pattern)
        assert compiled is not None
        for repeated in HOSTILE:
            compiled.fullmatch((repeated * 40)[:40] + "\x00")
    assert time.process_time() - began < 5


@pytest.mark.parametrize(
    "text",
    ["a", "a-b", "a*", "ab/c.d", "a--b", "a-", "-a", "a/", "a.-b", "*", "", "aXb", "ab" * 15],
)
def test_a_tamed_pattern_allows_the_same_strings(text: str) -> None:
    for pattern in _TAMED:
        compiled = compile_pattern(pattern)
        assert compiled is not None
        ours = compiled.fullmatch(text)
        assert bool(ours) == bool(re.compile(pattern).fullmatch(text)), pattern
