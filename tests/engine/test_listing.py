"""Lists: filters combine, pages neither skip nor repeat, and a token is good for its own request only."""

from __future__ import annotations

import base64
from datetime import UTC, datetime, timedelta
from typing import Any

import orjson
import pytest
from sqlalchemy import text
from sqlalchemy.dialects import sqlite

from clary.store import rows
from clary.store.rows import Query
from tests.engine.small_parts import SmallParts

NAMES = ["delta", "alpha", "Echo", "bravo", "charlie"]


@pytest.fixture
def models(parts: SmallParts) -> SmallParts:
    """Five models, made a minute apart in the order of NAMES."""
    for name in NAMES:
        parts.ask("CreateModel", ModelName=name)
        parts.now += 60
    return parts


def names(parts: SmallParts, **members: Any) -> list[str]:
    return [one["ModelName"] for one in parts.ask("ListModels", **members)["Models"]]


def test_the_newest_comes_first_where_nothing_else_is_asked(models: SmallParts) -> None:
    assert names(models) == NAMES[::-1]


def test_a_summary_is_what_its_shape_has(models: SmallParts) -> None:
    first = models.ask("ListModels", MaxResults=1)["Models"][0]
    assert set(first) == {"ModelName", "ModelArn", "CreationTime"}


@pytest.mark.parametrize(
    ("members", "wanted"),
    [
        ({"SortBy": "Name", "SortOrder": "Ascending"}, sorted(NAMES)),
        ({"SortBy": "Name"}, sorted(NAMES, reverse=True)),
        ({"SortBy": "CreationTime", "SortOrder": "Ascending"}, NAMES),
        ({"SortOrder": "Ascending"}, NAMES),
        ({"NameContains": "A"}, ["charlie", "bravo", "alpha", "delta"]),
        ({"NameContains": "%"}, []),
        ({"NameContains": "_"}, []),
        ({"NameContains": "ar", "SortOrder": "Ascending"}, ["charlie"]),
    ],
)
def test_orders_and_names(members: Any, wanted: list[str], models: SmallParts) -> None:
    assert names(models, **members) == wanted


def test_times_bound_a_list_on_both_sides(models: SmallParts) -> None:
    begin = datetime.fromtimestamp(1_700_000_000, UTC)
    after, before = begin + timedelta(seconds=30), begin + timedelta(seconds=150)
    found = names(models, CreationTimeAfter=after, CreationTimeBefore=before)
    assert found == ["Echo", "alpha"]
    assert names(models, CreationTimeAfter=after.timestamp(), NameContains="a", MaxResults=1) == [
        "charlie"
    ]


@pytest.mark.parametrize("order", ["Ascending", "Descending"])
@pytest.mark.parametrize("column", ["Name", "CreationTime"])
@pytest.mark.parametrize("size", [1, 2, 5])
def test_pages_join_to_the_whole(size: int, column: str, order: str, models: SmallParts) -> None:
    asked = {"SortBy": column, "SortOrder": order}
    found: list[str] = []
    token: dict[str, str] = {}
    for _ in NAMES:
        answer = models.ask("ListModels", **asked, MaxResults=size, **token)
        found += [one["ModelName"] for one in answer["Models"]]
        if "NextToken" not in answer:
            break
        token = {"NextToken": answer["NextToken"]}
    assert found == names(models, **asked)


def test_rows_of_the_same_moment_are_all_listed(parts: SmallParts) -> None:
    for number in range(7):
        parts.ask("CreateModel", ModelName=f"m{number}")
    first = parts.ask("ListModels", MaxResults=3)
    second = parts.ask("ListModels", MaxResults=3, NextToken=first["NextToken"])
    third = parts.ask("ListModels", MaxResults=3, NextToken=second["NextToken"])
    shown = [one["ModelName"] for page in (first, second, third) for one in page["Models"]]
    assert shown == [f"m{number}" for number in reversed(range(7))] and "NextToken" not in third


def test_what_is_deleted_between_pages_does_not_disturb_them(models: SmallParts) -> None:
    first = models.ask("ListModels", MaxResults=2, SortOrder="Ascending")
    models.ask("DeleteModel", ModelName="alpha")
    rest = names(models, NextToken=first["NextToken"], SortOrder="Ascending")
    assert rest == ["Echo", "bravo", "charlie"]


def test_ten_are_shown_where_no_number_is_given(parts: SmallParts) -> None:
    for number in range(12):
        parts.ask("CreateModel", ModelName=f"m{number}")
    assert len(names(parts)) == 10


def changed(token: str, position: int, value: Any) -> str:
    parts = orjson.loads(base64.urlsafe_b64decode(token))
    parts[position] = value
    return base64.urlsafe_b64encode(orjson.dumps(parts)).decode()


@pytest.mark.parametrize(
    "token",
    ["x", "e30=", "é", "bnVsbA==", "WzEsMl0=", "a" * 8192, "NQ==", "WzEsMiwzLDRd", "\n"],
)
def test_what_is_no_token_is_refused(token: str, models: SmallParts) -> None:
    code, message = models.refused("ListModels", NextToken=token)
    assert code == "ValidationException" and message.startswith("Invalid NextToken")


@pytest.mark.parametrize(
    ("position", "value"),
    [
        (0, {"a": 1}),
        (0, [1]),
        (0, None),
        (0, "text"),
        (1, "text"),
        (1, -1),
        (1, True),
        (1, 1.5),
        (1, 2**63),
        (2, "other"),
        (2, None),
    ],
)
def test_a_token_that_was_tampered_with_is_refused(
    position: int, value: Any, models: SmallParts
) -> None:
    token = models.ask("ListModels", MaxResults=2)["NextToken"]
    code, _ = models.refused("ListModels", NextToken=changed(token, position, value))
    assert code == "ValidationException"


@pytest.mark.parametrize(
    "other", [{"NameContains": "a"}, {"SortBy": "Name"}, {"SortOrder": "Ascending"}]
)
def test_a_token_of_other_filters_is_refused(other: Any, models: SmallParts) -> None:
    token = models.ask("ListModels", MaxResults=2)["NextToken"]
    code, message = models.refused("ListModels", NextToken=token, **other)
    assert code == "ValidationException" and "other filters or another order" in message


def test_another_page_size_is_no_other_request(models: SmallParts) -> None:
    token = models.ask("ListModels", MaxResults=2)["NextToken"]
    assert names(models, NextToken=token, MaxResults=9) == NAMES[::-1][2:]


def test_statuses_and_parents_filter(parts: SmallParts) -> None:
    for name in ("a", "b"):
        parts.ask("CreateTransformJob", TransformJobName=name)
        parts.ask("CreateUserProfile", DomainId=f"d-{name}", UserProfileName=name)
    parts.ask("StopTransformJob", TransformJobName="a")
    stopping = parts.ask("ListTransformJobs", StatusEquals="Stopping")
    assert [one["TransformJobName"] for one in stopping["TransformJobSummaries"]] == ["a"]
    assert parts.ask("ListTransformJobs", StatusEquals="Failed")["TransformJobSummaries"] == []
    of_a = parts.ask("ListUserProfiles", DomainIdEquals="d-a")["UserProfiles"]
    assert [one["UserProfileName"] for one in of_a] == ["a"]
    contained = parts.ask("ListUserProfiles", UserProfileNameContains="B")["UserProfiles"]
    assert [one["UserProfileName"] for one in contained] == ["b"]


def test_a_member_of_the_row_filters_by_its_value(parts: SmallParts) -> None:
    parts.ask("CreateContext", ContextName="a", ContextType="x")
    parts.ask("CreateContext", ContextName="b", ContextType="y")
    found = parts.ask("ListContexts", ContextType="y")["ContextSummaries"]
    assert [one["ContextName"] for one in found] == ["b"]


def test_pages_of_rare_finds_are_whole(parts: SmallParts) -> None:
    """A filter that no column decides reads on until its page is full."""
    for number in range(450):
        kind = "rare" if number % 150 == 0 else "plain"
        parts.ask("CreateContext", ContextName=f"c{number:03}", ContextType=kind)
    first = parts.ask("ListContexts", ContextType="rare", MaxResults=2, SortOrder="Ascending")
    assert [one["ContextName"] for one in first["ContextSummaries"]] == ["c000", "c150"]
    rest = parts.ask(
        "ListContexts",
        ContextType="rare",
        SortOrder="Ascending",
        NextToken=first["NextToken"],
    )
    assert [one["ContextName"] for one in rest["ContextSummaries"]] == ["c300"]
    assert "NextToken" not in rest


def test_a_filter_that_is_not_known_is_never_ignored(parts: SmallParts) -> None:
    refused = parts.refused("ListContexts", SourceUri="s3://b/k")
    assert refused == (
        "NotImplementedException",
        "ListContexts cannot filter by SourceUri in this version of Clary.",
    )
    refused = parts.refused("ListModels", StartedAfter=1.0)
    assert refused[0] == "NotImplementedException" and "StartedAfter" in refused[1]


def test_an_order_that_is_not_known_is_never_ignored(parts: SmallParts) -> None:
    refused = parts.refused("ListModels", SortBy="Colour")
    assert refused == (
        "NotImplementedException",
        "lists of models cannot be sorted by Colour yet.",
    )


@pytest.mark.parametrize("place", [None, ("m", 7)], ids=["first", "further"])
@pytest.mark.parametrize("descending", [False, True])
@pytest.mark.parametrize("column", ["name", "created", "modified"])
def test_a_page_seeks_in_an_index(
    column: str, descending: bool, place: Any, parts: SmallParts
) -> None:
    """So that listing 100,000 rows costs what listing 100 does."""
    query = Query("Model", "1", "r", sort_by=column, descending=descending)
    steps = plan_of(parts, query, place)
    assert len(steps) == 1, steps
    assert f"USING INDEX resources_{column} (kind=? AND account=? AND region=?" in steps[0]
    assert place is None or f"AND {column}" in steps[0]


def plan_of(parts: SmallParts, query: Query, place: Any) -> list[str]:
    """SQLite's plan of a page: a further step would be a sort of all rows."""
    statement = rows._page_statement(query, place).limit(10)
    compiled = statement.compile(dialect=sqlite.dialect(), compile_kwargs={"literal_binds": True})
    with parts.store.read() as connection:
        found = connection.execute(text(f"EXPLAIN QUERY PLAN {compiled}")).all()
    return [str(one[-1]) for one in found]
