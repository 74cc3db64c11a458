"""The registry finds every answer by walking packages, and refuses what the API does not have."""

from __future__ import annotations

import sys
import types
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from clary.engine.registry import Registry, discover
from clary.model.service import Services

Write = Callable[[str, str], None]


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Write]:
    """Writes modules of a package `kinds_of_test`, which is forgotten afterwards."""
    root = tmp_path / "kinds_of_test"
    (root / "family").mkdir(parents=True)
    for folder in (root, root / "family"):
        (folder / "__init__.py").write_text('"""A package."""\n')
    monkeypatch.syspath_prepend(str(tmp_path))

    def write(name: str, source: str) -> None:
        heading = "from clary.engine.resource import Resource\n"
        heading += "from clary.engine.call import operation\n"
        (root / name).write_text(heading + source)

    yield write
    for name in [one for one in sys.modules if one.startswith("kinds_of_test")]:
        del sys.modules[name]


def found() -> Registry:
    return discover(Services(), ("kinds_of_test",))


def test_kinds_and_operations_are_found_in_folders_below(package: Write) -> None:
    package("family/model.py", 'model = Resource("Model")\n')
    package("family/search.py", '@operation("Search")\ndef search(call):\n    return {}\n')
    registry = found()
    answer = registry.find("sagemaker", "DescribeModel")
    assert answer is not None and answer.resource is registry.resources["Model"]
    assert answer.module == "kinds_of_test.family.model"
    search = registry.find("sagemaker", "Search")
    assert search is not None and search.resource is None
    assert registry.find("sagemaker", "UpdateModel") is None
    assert len(registry.answers) == 5


def test_an_imported_declaration_is_not_declared_again(package: Write) -> None:
    package("model.py", 'model = Resource("Model")\n')
    package("other.py", "from kinds_of_test.model import model\n")
    assert list(found().resources) == ["Model"]


def test_only_the_verbs_that_apply_are_answered(package: Write) -> None:
    package("model.py", 'model = Resource("Model", verbs=("Create", "Describe"))\n')
    assert {name for _, name in found().answers} == {"CreateModel", "DescribeModel"}


def test_an_operation_of_a_kind_takes_the_place_of_its_verb(package: Write) -> None:
    package(
        "model.py",
        'model = Resource("Model")\n'
        '@model.operation("DescribeModel")\ndef describe(call):\n    return {"mine": 1}\n',
    )
    answer = found().find("sagemaker", "DescribeModel")
    assert answer is not None and isinstance(answer.handler, types.FunctionType)


@pytest.mark.parametrize(
    ("source", "message"),
    [
        (
            '@operation("Dance")\ndef dance(call):\n    return {}\n',
            "answers sagemaker:Dance, which the API does not have",
        ),
        (
            '@operation("Wink", service="teapot")\ndef wink(call):\n    return {}\n',
            "answers teapot:Wink, which the API does not have",
        ),
        (
            'model = Resource("Model")\n'
            '@operation("CreateModel")\ndef create(call):\n    return {}\n',
            "two answers to sagemaker:CreateModel",
        ),
        (
            'model = Resource("Model")\n'
            '@model.operation("PolishModel")\ndef polish(call):\n    return {}\n',
            "answers sagemaker:PolishModel, which the API does not have",
        ),
        (
            'model = Resource("Model")\n'
            'for _ in range(2):\n    @model.operation("CreateModel")\n'
            "    def create(call):\n        return {}\n",
            "two answers to CreateModel in Model",
        ),
    ],
)
def test_a_mistake_stops_the_server(source: str, message: str, package: Write) -> None:
    package("mistake.py", source)
    with pytest.raises(ValueError, match=message):
        found()


def test_a_kind_that_the_api_lacks_stops_the_server(package: Write) -> None:
    package("sandwich.py", 'sandwich = Resource("Sandwich")\n')
    with pytest.raises(KeyError, match="Sandwich"):
        found()
