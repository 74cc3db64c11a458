"""What List must do for every kind: each filter finds what it should and nothing else, each order holds."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

from botocore.model import Shape

from clary.engine.resource import BoundResource
from tests.contract.asking import Asker
from tests.contract.recipe import Recipe

PAST = datetime.now(UTC) - timedelta(days=2)
FUTURE = datetime.now(UTC) + timedelta(days=2)
PAGES_MAX = 50
PAGING = ("NextToken", "MaxResults", "SortBy", "SortOrder")


def check_lists(
    bound: BoundResource, ask: Asker, recipe: Recipe, described: list[dict[str, Any]]
) -> None:
    operation = bound.kind.verbs.get("List")
    if operation is None or operation.name in recipe.elsewhere:
        return
    lists = Lists(bound, ask, operation.name)
    arns = [lists.arn_of(one) for one in described]
    for page in (1, 100):
        assert set(arns) <= set(lists.arns(page=page)), f"pages of {page}"
    members = ask.model(operation.name).input_shape
    assert members is not None
    for member, shape in members.members.items():
        if member not in PAGING and f"{operation.name}.{member}" not in recipe.elsewhere:
            lists.check_filter(member, shape, recipe, described[0])
    for column in getattr(members.members.get("SortBy"), "enum", None) or [""]:
        lists.check_order(column, arns)


class Lists:
    """Asks one List operation in every way that its input has."""

    def __init__(self, bound: BoundResource, ask: Asker, operation: str) -> None:
        self.bound, self.ask, self.operation = bound, ask, operation

    def arns(self, *, page: int = 100, **members: Any) -> list[str]:
        found: list[str] = []
        token: dict[str, str] = {}
        for _ in range(PAGES_MAX):
            answer = self.ask.ask(self.operation, MaxResults=page, **members, **token)
            items = answer[self.bound.kind.items_member]
            assert len(items) <= page
            found += [self.arn_of(item) for item in items]
            if "NextToken" not in answer:
                assert len(found) == len(set(found)), "a page repeats another"
                return found
            token = {"NextToken": answer["NextToken"]}
        raise AssertionError(f"{self.operation} has more than {PAGES_MAX} pages of {page}")

    def arn_of(self, shown: dict[str, Any]) -> str:
        names = (self.bound.kind.arn_member, f"{self.bound.noun}Arn")
        arns = [shown[name] for name in names if name in shown]
        return (arns or [one for name, one in shown.items() if name.endswith("Arn")])[0]

    def check_filter(
        self, member: str, shape: Shape, recipe: Recipe, shown: dict[str, Any]
    ) -> None:
        arn = self.arn_of(shown)
        fitting, other = self.values(member, shape, recipe, shown)
        assert arn in self.arns(**{member: fitting}), f"{member}={fitting!r} does not find it"
        if other is not None:
            assert arn not in self.arns(**{member: other}), f"{member}={other!r} finds it"

    def values(
        self, member: str, shape: Shape, recipe: Recipe, shown: dict[str, Any]
    ) -> tuple[Any, Any]:
        """A value of a filter that finds the resource, and one that does not."""
        if member in recipe.filters:
            fitting = recipe.filters[member](shown, self.ask)
            return fitting, _other(shape, fitting)
        if shape.type_name == "timestamp":
            return (PAST, FUTURE) if member.endswith("After") else (FUTURE, PAST)
        kind = self.bound.kind
        if member.endswith(("NameContains", "NamePrefix")):
            name = shown[kind.name_member]
            return name[:8].upper() if member.endswith("Contains") else name[:8], "absent"
        plain = member.removesuffix("Equals")
        if plain in ("Status", f"{kind.noun}Status"):
            plain = kind.status_member
        fitting = shown.get(plain)
        assert fitting is not None, f"a recipe of {kind.noun} must say what {member} filters by"
        return fitting, _other(shape, fitting)

    def check_order(self, column: str, arns: list[str]) -> None:
        """The two resources stand one way round in ascending order, and the other way in descending."""
        ask = {"SortBy": column} if column else {}
        shape = self.ask.model(self.operation).input_shape
        assert shape is not None
        orders = getattr(shape.members.get("SortOrder"), "enum", [])
        if not orders:
            return
        assert [one.lower() for one in orders] == ["ascending", "descending"]
        up, down = (
            [arn for arn in self.arns(**ask, SortOrder=order) if arn in arns] for order in orders
        )
        assert sorted(up) == sorted(arns), f"sorted by {column}"
        assert up == down[::-1], f"sorted by {column}"
        if column.replace("_", "").lower() in ("", "name", "creationtime", "createdtime"):
            assert up == arns, f"sorted by {column}: bare comes before rich by name and by time"


def _other(shape: Shape, fitting: Any) -> Any:
    """A value of the same shape that is not this one; None if there is none."""
    allowed = getattr(shape, "enum", None)
    if allowed:
        return next((one for one in allowed if one != fitting), None)
    text = str(fitting)
    return text[:-1] + ("a" if text[-1] != "a" else "b")
