from __future__ import annotations

from typing import Any

import pytest

from clary.runner.json_paths import JsonPathError, NothingThere, parse, select

DOCUMENT = {
    "id": 7,
    "features": [1, 2, 3, 4],
    "a b": {"x": 1, "y": 2, "z": 3},
    "items": [{"n": 1}, {"n": 2}, {"m": 3}],
}


@pytest.mark.parametrize(
    ("path", "found"),
    [
        ("$", DOCUMENT),
        ("$.id", 7),
        ("$['id']", 7),
        ('$["a b"].x', 1),
        ("$.features[0]", 1),
        ("$.features[-1]", 4),
        ("$.features[1:]", [2, 3, 4]),
        ("$.features[:-1]", [1, 2, 3]),
        ("$.features[1:3]", [2, 3]),
        ("$.features[0,2]", [1, 3]),
        ("$.features[*]", [1, 2, 3, 4]),
        ("$['id','features']", {"id": 7, "features": [1, 2, 3, 4]}),
        ("$['a b']['x','z']", {"x": 1, "z": 3}),
        ("$.items[*].n", [1, 2]),
        ("$['a b'].*", [1, 2, 3]),
    ],
)
def test_a_path_selects_what_it_names(path: str, found: Any) -> None:
    assert select(parse(path), DOCUMENT) == found


def test_csv_fields_are_selected_as_an_array() -> None:
    assert select(parse("$[1:]"), [b"id", b"2", b"3"]) == [b"2", b"3"]
    assert select(parse("$[0,-1]"), [b"id", b"2", b"3"]) == [b"id", b"3"]


@pytest.mark.parametrize(
    "path", ["$.missing", "$.features[9]", "$.id.x", "$.id[0]", "$['id','no']"]
)
def test_a_path_to_nothing_is_told(path: str) -> None:
    with pytest.raises(NothingThere, match="there is nothing at"):
        select(parse(path), DOCUMENT)


@pytest.mark.parametrize(
    "path", ["", "id", "$..id", "$.", "$[?(@.x)]", "$[0", "$['a'", "$[a]", "$ .id", "$.length()"]
)
def test_what_is_not_in_the_subset_is_refused(path: str) -> None:
    with pytest.raises(JsonPathError, match="JSONPath"):
        parse(path)
